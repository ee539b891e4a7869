"""``mlflow run . -e attack``: attack trained systems."""

from __future__ import annotations

import click

from entrypoints.options import command
from rmer.stages.attack import attack
from rmer.stages.attack_params import AttackParams
from rmer.tracking import connect


@command("attack", AttackParams, help="Attack trained systems, chosen by tags, run id or model URI.")
def cli(params: AttackParams) -> None:
    store = connect()
    for outcome in attack(store, params):
        record = store.get(outcome.run_id)
        done = "was done before" if outcome.skipped else "done"
        clean, attacked = (record.metrics.get(f"{group}/mae", float("nan")) for group in ("clean", "adv"))
        click.echo(f"{record.name} {done}: run {outcome.run_id}, MAE {clean:.3f} -> {attacked:.3f}")


if __name__ == "__main__":
    cli()
