"""``mlflow run . -e preprocess``: audio, ratings and annotations to a data set."""

from __future__ import annotations

import math

import click

from entrypoints.options import command, exit_code, logged
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.tracking import connect


@command("preprocess", PreprocessParams, help="Compute spectrograms and log the data set.")
def cli(params: PreprocessParams) -> int:
    store = connect()
    outcome = preprocess(store, params)
    done = "was prepared before" if outcome.skipped else "prepared"
    rate = logged(outcome, "preprocess/clips_per_second")
    speed = "" if math.isnan(rate) else f", {rate:.1f} clips/s"
    click.echo(f"{done}: run {outcome.run_id}{speed}")
    return exit_code(store)
