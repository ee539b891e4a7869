"""``mlflow run . -e train``: fit one system."""

from __future__ import annotations

import click

from entrypoints.options import command, end, logged
from rmer.stages.endings import train_ending
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.tracking import connect


@command("train", TrainParams, help="Train one system on a preprocessed data set.")
def cli(params: TrainParams) -> int:
    store = connect()
    outcome = train(store, params)
    done = "was trained before" if outcome.skipped else "trained"
    corr = logged(outcome, "test/emotion/corr")
    click.echo(f"{done}: run {outcome.run_id}, test correlation {corr:.3f}")
    return end(store, lambda: train_ending(store, outcome))
