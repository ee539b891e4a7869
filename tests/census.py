"""Counts what a tracking store holds, and what of it is lost, doubled or broken compared with another one.

Runs are known by their stage, name and study, since ids differ; ids within texts are replaced by these names.
Times, processes and places are left out.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

# Metrics, tags and files that say how long something took, who did it and where.
OF_TIME = re.compile(r"seconds|preprocess/computed")
# Logged only where something was computed rather than taken from a cache.
NOT_ALWAYS = "preprocess/clips_per_second"
OF_PROCESS = re.compile(
    r"rmer\.(host|pid|process_started|heartbeat|git\..*|job|config|opening|soundtracks_dir|digests\..*)|"
    r"mlflow\.(user|source\..*|note\.content|loggedArtifacts)|"
    r"cfg\.(runs|ladder_runs|jobs)"  # digests of run ids
)
# Files that are the same, byte by byte, whenever they are made; of others, that they can be read.
SAME = (".csv", ".json", ".npy", ".safetensors", ".txt", ".yaml")
NOT_SAME = ("per_clip.json", "jobs.yaml", "runs.csv")
RUN_ID = re.compile(r"\b(m-)?[0-9a-f]{32}\b")


@dataclass(frozen=True)
class Point:
    """A value of a metric (of a logged model, where ``model`` names one), without its time."""

    metric: str
    step: int
    value: float | None
    model: str = ""


@dataclass
class RunFacts:
    """What a run holds, each thing with the number of times that it is there."""

    status: str
    points: Counter[Point] = field(default_factory=Counter)
    values: dict[str, str] = field(default_factory=dict)  # params and tags
    files: dict[str, str] = field(default_factory=dict)  # path -> digest, "readable" or what is wrong
    models: Counter[str] = field(default_factory=Counter)
    inputs: Counter[str] = field(default_factory=Counter)


@dataclass
class Census:
    """The runs of a store by name."""

    runs: dict[str, list[RunFacts]]

    def counts(self) -> Counter[str]:
        """Return the number of runs, points and files."""
        every = [facts for same in self.runs.values() for facts in same]
        return Counter(
            runs=len(every),
            points=sum(facts.points.total() for facts in every),
            files=sum(len(facts.files) for facts in every),
        )


@dataclass
class Differences:
    """What is lost, doubled and broken, a line each."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.broken)

    def __str__(self) -> str:
        kinds = vars(self).items()
        return "\n".join(f"{kind}: {line}" for kind, lines in kinds for line in lines)

    def __add__(self, other: Differences) -> Differences:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Differences(*(mine + theirs for mine, theirs in pairs))


def take_census(uri: str, database: Path) -> Census:
    """Read everything in the store at ``uri``, whose sqlite file is ``database``."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiments = [found.experiment_id for found in client.search_experiments(view_type=ViewType.ALL)]
    runs = client.search_runs(experiments, run_view_type=ViewType.ALL, max_results=5000)
    names = {run.info.run_id: _name(run) for run in runs}
    facts = {run.info.run_id: _facts(run, names, database.parent) for run in runs}
    for run_id, point in _points(database):
        facts[run_id].points[point] += 1
    for experiment in experiments:
        for model in client.search_logged_models([experiment]):
            text = f"{model.name} {model.status} {_files(_place(model.artifact_location, database), names)}"
            facts[model.source_run_id].models[text] += 1
    found: defaultdict[str, list[RunFacts]] = defaultdict(list)
    for run_id, fact in facts.items():
        found[names[run_id]].append(fact)
    return Census(dict(found))


def compare(there: Census, expected: Census) -> Differences:
    """Return what of ``expected`` is not there, what is there too often, and what is otherwise."""
    found = Differences()
    for name in sorted({*there.runs, *expected.runs}):
        here, wanted = there.runs.get(name, []), expected.runs.get(name, [])
        if len(here) < len(wanted):
            found.lost.append(f"run {name}")
        elif len(here) > len(wanted):
            statuses = ", ".join(sorted(facts.status for facts in here))
            found.doubled.append(f"run {name}: {len(here)} ({statuses})")
        for facts, right in zip(here, wanted, strict=False):
            found += _compare_runs(name, facts, right)
    return found


def store_problems(database: Path) -> list[str]:
    """Return what sqlite says is wrong with a store's file."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        answers = [text for (text,) in connection.execute("PRAGMA integrity_check")]
    return [f"{database.name}: {text}" for text in answers if text != "ok"]


def _compare_runs(name: str, facts: RunFacts, right: RunFacts) -> Differences:
    found = Differences()
    if facts.status != right.status:
        found.broken.append(f"{name}: {facts.status} instead of {right.status}")
    for kind in ("points", "models", "inputs"):
        found += _compare_counts(f"{name}: {kind}", getattr(facts, kind), getattr(right, kind))
    for kind in ("values", "files"):
        found += _compare_values(f"{name}: {kind}", getattr(facts, kind), getattr(right, kind))
    return found


def _compare_counts(what: str, there: Counter[Any], expected: Counter[Any]) -> Differences:
    lost, more = expected - there, there - expected
    return Differences(
        lost=[f"{what} {item}" for item in lost],
        doubled=[f"{what} {item} {there[item]} times" for item in more if item in expected],
        broken=[f"{what} {item}" for item in more if item not in expected],
    )


def _compare_values(what: str, there: Mapping[str, str], expected: Mapping[str, str]) -> Differences:
    other = [key for key in there if key in expected and there[key] != expected[key]]
    return Differences(
        lost=[f"{what} {key}" for key in expected if key not in there],
        broken=[f"{what} {key}: {there[key]!r} instead of {expected[key]!r}" for key in other]
        + [f"{what} {key} should not be there ({there[key]!r})" for key in there if key not in expected],
    )


def _name(run: Run) -> str:
    tags = run.data.tags
    return " | ".join([tags.get("rmer.stage", "no stage"), run.info.run_name, tags.get("rmer.study", "")])


def _facts(run: Run, names: Mapping[str, str], folder: Path) -> RunFacts:
    values = {f"tag {key}": text for key, text in run.data.tags.items() if not OF_PROCESS.fullmatch(key)}
    values |= {f"param {key}": text for key, text in run.data.params.items()}
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return RunFacts(
        status=run.info.status,
        values={_named(key, names): _named(text, names) for key, text in values.items()},
        files=_files(_place(run.info.artifact_uri, folder / "mlflow.db"), names),
        inputs=Counter(f"{item.dataset.digest} {[tag.value for tag in item.tags]}" for item in inputs),
    )


def _points(database: Path) -> Iterator[tuple[str, Point]]:
    """Yield every stored point with its run; MLflow's client would take a call a metric."""
    models = (
        "SELECT m.run_id, m.metric_name, m.metric_step, m.metric_value, l.name FROM logged_model_metrics m"
    )
    models += " JOIN logged_models l ON l.model_id = m.model_id"
    runs = "SELECT run_uuid, key, step, CASE WHEN is_nan THEN NULL ELSE value END, '' FROM metrics"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for query in (runs, models):
            for run_id, metric, step, value, model in connection.execute(query):
                if metric != NOT_ALWAYS:
                    yield run_id, Point(metric, step, None if OF_TIME.search(metric) else value, model)


def _files(folder: Path, names: Mapping[str, str]) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _content(path, names) for path in paths}


def _content(path: Path, names: Mapping[str, str]) -> str:
    """Return the digest of a file that is always the same, else whether it can be read."""
    try:
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        elif path.suffix in (".pt", ".pt2"):
            with zipfile.ZipFile(path) as archive:
                return "readable" if archive.testzip() is None else "broken archive"
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return f"cannot be read ({error})"
    content = path.read_bytes()
    if path.suffix not in SAME or path.name in NOT_SAME:
        return "readable" if content else "empty"
    return hashlib.sha256(content).hexdigest()[:16]


def _place(uri: str, database: Path) -> Path:
    """Return the folder of artifacts: of a local store, or of a server with its file beside them."""
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts":
        return database.parent / "mlartifacts" / unquote(parts.path).lstrip("/")
    return Path(unquote(parts.path))


def _named(text: str, names: Mapping[str, str]) -> str:
    return RUN_ID.sub(lambda found: f"<{names.get(found[0], 'id')}>", text)
