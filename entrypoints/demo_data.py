"""``mlflow run . -e demo_data``: write a synthetic data set."""

from __future__ import annotations

import click

from entrypoints.options import command
from rmer.stages.data.demo_data import DemoParams, make_demo_data


@command("demo-data", DemoParams, help="Write a synthetic data set in the layout of the real ones.")
def cli(params: DemoParams) -> None:
    click.echo(f"{params.clips} clips in {make_demo_data(params)}")
