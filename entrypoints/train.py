"""``mlflow run . -e train``: fit one system."""

from __future__ import annotations

import click

from entrypoints.options import command, logged
from rmer.stages.train import TrainParams, train
from rmer.tracking import connect


@command("train", TrainParams, help="Train one system on a preprocessed data set.")
def cli(params: TrainParams) -> None:
    store = connect()
    outcome = train(store, params)
    done = "was trained before" if outcome.skipped else "trained"
    corr = logged(store, outcome, "test/emotion/corr")
    click.echo(f"{done}: run {outcome.run_id}, test correlation {corr:.3f}")


if __name__ == "__main__":
    cli()
