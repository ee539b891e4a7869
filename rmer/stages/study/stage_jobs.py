"""Stages as jobs that any process can do."""

from __future__ import annotations

from rmer.execution.jobs import Job
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.tracking import Store


def train_work(store: Store, params: TrainParams) -> str:
    """Train one model, as a job does."""
    return train(store, params).run_id


def attack_job(name: str, params: AttackParams, model: str = "", source: str = "") -> Job:
    """Return the job that attacks one model: that of the job ``model``, else the one that ``params`` name.

    ``source`` is the job of the model that adversaries are transferred from, where the attack does that.
    """
    needs = {"train_run_id": model, "source_run_id": source}
    return Job(name, _attack, params, {field: job for field, job in needs.items() if job})


def _attack(store: Store, params: AttackParams) -> str:
    (outcome,) = attack(store, params)
    return outcome.run_id
