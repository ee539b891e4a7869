"""Finding runs by their tags, and reading what they logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from rmer.errors import UserError
from rmer.old_names import ATTACKS, attack_as_read, metric_as_read, parameter_as_read
from rmer.redaction import redacted
from rmer.tracking.schema import Tag
from rmer.tracking.values import PREFIX

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
        f"tags.`{key}` = {_quoted(redacted(value))}"
        for key, value in tags.items()
        if not (renamed and key == Tag.ATTACK)
    ]
    if status:
        clauses.append(f"attributes.status = '{status}'")
    experiments = _experiment_ids(client)
    records: list[RunRecord] = []
    token: str | None = None
    while experiments:
        size = PAGE if most is None else min(PAGE, most - len(records))
        page = client.search_runs(experiments, " and ".join(clauses), max_results=size, page_token=token)
        found = map(as_record, page)
        records += [run for run in found if not renamed or run.tags.get(Tag.ATTACK) == tags[Tag.ATTACK]]
        token = page.token
        if not token or len(records) == most:
            break
    return records


def newest_per_config(records: list[RunRecord]) -> list[RunRecord]:
    """Keep the newest run of each configuration (tag ``rmer.config``); runs without one each count."""
    seen: set[str] = set()
    kept = []
    for record in records:
        config = record.tags.get(Tag.CONFIG)
        if config is None or config not in seen:
            kept.append(record)
        if config is not None:
            seen.add(config)
    return kept


def as_record(run: MlflowRun) -> RunRecord:
    """Return MLflow's run entity as a :class:`RunRecord`."""
    info, data = run.info, run.data
    tags, params = dict(data.tags), {_param_as_read(name): text for name, text in data.params.items()}
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


def _experiment_ids(client: MlflowClient) -> list[str]:
    ids: list[str] = []
    token: str | None = None
    while True:
        page = client.search_experiments(max_results=PAGE, page_token=token)
        ids += [experiment.experiment_id for experiment in page]
        token = page.token
        if not token:
            return ids


def _quoted(value: str) -> str:
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise UserError(f"{value!r} holds both kinds of quotes", where="tag filter", mend="Use one kind")
