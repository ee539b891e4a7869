"""Finding runs by their tags, and reading what they logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.utils import get_results_from_paginated_fn

from rmer.errors import UserError
from rmer.old_names import ATTACKS, attack_as_read, metric_as_read, parameter_as_read
from rmer.redaction import redacted
from rmer.tracking.schema import Tag
from rmer.tracking.values import PREFIX, from_tags

PAGE = 1000
FINISHED = "FINISHED"


@dataclass(frozen=True)
class RunRecord:
    """One run as it is in the store (times in ms since 1970; metrics: the last value of each)."""

    run_id: str
    name: str
    status: str
    experiment_id: str
    start_time: int
    end_time: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


def search(
    client: MlflowClient, tags: Mapping[str, str], *, status: str | None = None, most: int | None = None
) -> list[RunRecord]:
    """Return every run with these tags, or the newest ``most``, over all experiments, newest first."""
    # Runs of before have the attack's name of before, and filters know no "or".
    renamed = tags.get(Tag.ATTACK) in ATTACKS.values()
    clauses = [
        f"tags.`{key}` = {quoted(redacted(value))}"
        for key, value in tags.items()
        if not (renamed and key == Tag.ATTACK)
    ]
    if status:
        clauses.append(f"attributes.status = '{status}'")
    experiments = [experiment.experiment_id for experiment in _paged(client.search_experiments)]
    if not experiments:
        return []
    search_runs = partial(client.search_runs, experiments, " and ".join(clauses))
    found = map(as_record, _paged(search_runs, None if renamed else most))
    records = [run for run in found if not renamed or run.tags.get(Tag.ATTACK) == tags[Tag.ATTACK]]
    return records[:most]


def newest_per_config(records: list[RunRecord]) -> list[RunRecord]:
    """Keep the newest run of each configuration (tag ``rmer.config``); runs without one each count."""
    newest: dict[str, RunRecord] = {}
    for record in records:
        newest.setdefault(record.tags.get(Tag.CONFIG, record.run_id), record)
    return list(newest.values())


def as_record(run: MlflowRun) -> RunRecord:
    """Return MLflow's run entity as a :class:`RunRecord`."""
    info, data = run.info, run.data
    tags, given = dict(data.tags), {**from_tags(data.tags), **data.params}
    params = {_param_as_read(name): text for name, text in given.items()}
    for values, name in ((tags, Tag.ATTACK), (params, f"{PREFIX}attack")):
        if name in values:
            values[name] = attack_as_read(values[name])
    return RunRecord(
        run_id=info.run_id,
        name=info.run_name or "",
        status=info.status,
        experiment_id=info.experiment_id,
        start_time=info.start_time,
        end_time=info.end_time,
        tags=tags,
        params=params,
        metrics={metric_as_read(name): value for name, value in data.metrics.items()},
    )


def _param_as_read(name: str) -> str:
    return f"{PREFIX}{parameter_as_read(name.removeprefix(PREFIX))}" if name.startswith(PREFIX) else name


def _paged(call: Callable[..., Any], most: int | None = None) -> list[Any]:
    found: list[Any] = get_results_from_paginated_fn(  # type: ignore[no-untyped-call]
        lambda size, token: call(max_results=size, page_token=token), PAGE, most
    )
    return found


def quoted(value: str) -> str:
    """Return a text as filters have it; raises UserError where it holds both kinds of quotes."""
    for quote in ("'", '"'):
        if quote not in value:
            return f"{quote}{value}{quote}"
    raise UserError(f"{value!r} holds both kinds of quotes", where="tag filter", mend="Use one kind")
