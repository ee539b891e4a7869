"""``mlflow run . -e attack``: attack trained systems."""

from __future__ import annotations

import click

from entrypoints.options import command, end, logged
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.endings import attack_ending
from rmer.stages.study.cost import describe_attack
from rmer.tracking import connect


@command("attack", AttackParams, help="Attack trained systems, chosen by tags, run id or model URI.")
def cli(params: AttackParams) -> int:
    store = connect()
    if params.dry_run:
        click.echo(describe_attack(store, params))
        return 0
    outcomes = attack(store, params)
    for outcome in outcomes:
        done = "was done before" if outcome.skipped else "done"
        clean, attacked = (logged(outcome, f"{group}/mae") for group in ("clean", "adv"))
        click.echo(f"{done}: run {outcome.run_id}, MAE {clean:.3f} -> {attacked:.3f}")
    return end(store, lambda: attack_ending(store, outcomes))
