"""Replaying journals that an earlier process left behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlflow import MlflowClient

from rmer.tracking.delivery.journal import Journal, JournalBusyError, waiting_runs
from rmer.tracking.delivery.outages import is_outage, one_line
from rmer.tracking.delivery.sender import Courier


@dataclass
class SyncResult:
    """What a replay did: runs and records sent, records that stay, and why."""

    runs: int = 0
    records: int = 0
    left: int = 0
    refused: list[str] = field(default_factory=list)
    problem: str = ""  # why something is left: the store is away
    marked: list[str] = field(default_factory=list)  # ids of runs whose process was found dead
    elsewhere: dict[str, int] = field(default_factory=dict)  # other stores for which runs wait -> how many


def replay(client: MlflowClient, uri: str) -> SyncResult:
    """Send every journal for this store that no live process owns; stop when the store is away."""
    result = SyncResult()
    for run_id in waiting_runs(uri):
        try:
            journal = Journal(uri, run_id)
        except JournalBusyError:
            continue
        try:
            _replay_one(client, journal, result)
        finally:
            journal.close()
    return result


def _replay_one(client: MlflowClient, journal: Journal, result: SyncResult) -> None:
    courier = Courier(client, journal)
    known = len(journal.refusals)
    try:
        while not result.problem and (sent := courier.carry()):
            result.records += sent
    except Exception as error:  # anything that is not an outage is a bug and is raised again
        if not is_outage(error):
            raise
        result.problem = one_line(error)
    result.left += journal.count_waiting()
    result.runs += not journal.waiting()
    result.refused += [f"run {journal.run_id}: {reason}" for reason in journal.refusals[known:]]
