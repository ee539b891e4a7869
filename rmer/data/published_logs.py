"""Attack logs of the published study, as its repository holds them.

``runs/adversaries/<seed>_<hash>_<date>_<time>_<settings>/`` has ``hparams.yaml`` and ``log.csv``, one record
a clip. Arrays in the log are NumPy's text form and run over several lines. Which directory is which system
is in no file of that repository but its analysis code; ``published_systems.csv`` carries these facts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmer.data.dataset import EMOTIONS
from rmer.errors import DataErrors, UserError, shown
from rmer.files import read_bytes
from rmer.plain_yaml import parse_yaml

LOG_COLUMNS = (
    "file",
    "epoch",
    "db",
    "norm",
    "converged",
    "true-label",
    "orig-pred",
    "new-pred",
    "adv-target",
)
ARCHITECTURES = {"A2E": "a2e", "aA2E": "a2e", "A2B2E": "a2m2e", "A2M2E": "a2m2e", "aA2B2E": "a2m2e"}
HPARAMS: Mapping[str, tuple[type, ...]] = {
    "alpha": (float, int, type(None)),
    "architecture": (str,),
    "clip_eps": (float, int),
    "conv_method": (str,),
    "lr": (float, int),
    "max_iters": (int,),
    "mode": (str,),
    "model": (str,),
    "optimiser": (str,),
    "sign": (bool,),
    "target": (str,),
}

_MEND = "Give a clone of the published repository, unaltered"
_FILE = re.compile(r"\['(\d{3})\.mp3\.spec'\]")
_log = logging.getLogger(__name__)
# labels_digest of the 36 test clips of Soundtracks Set 1.
PUBLISHED_LABELS = "103f8425b82d15b1"


@dataclass(frozen=True, eq=False)
class PublishedLog:
    """One published attack on one published model.

    ``clips`` has one row a clip in the order of the log: ``clip``, ``iterations``, ``converged``,
    ``threshold``, ``db`` (as logged; see flaw 7 of docs/protocols.md), ``l2`` (norm of the kept
    perturbation, standardised units), ``label_<emotion>``, ``clean_<emotion>`` and ``adv_<emotion>``
    (prediction of the last iterate). ``digest`` is over the content of both files.
    """

    run: str
    system: str
    seed: int
    hparams: Mapping[str, Any]
    clips: pd.DataFrame
    digest: str

    @cached_property
    def labels_digest(self) -> str:
        """Digest of clip numbers and labels, see :func:`labels_digest`."""
        return labels_digest(self.clips)


def published_systems() -> dict[str, tuple[str, int]]:
    """Return run (``<seed>_<hash>_<date>_<time>``) -> (system, seed) of the 50 published runs."""
    text = resources.files("rmer.data").joinpath("published_systems.csv").read_text(encoding="utf-8")
    return {row["run"]: (row["system"], int(row["seed"])) for row in csv.DictReader(io.StringIO(text))}


def read_published_logs(source: Path) -> list[PublishedLog]:
    """Read the 50 published logs, in the order of ``published_systems.csv``.

    ``source`` is a clone of the published repository, or its folder ``runs`` or ``runs/adversaries``. Raises
    UserError where there are no logs. DataErrors lists every problem of every log.
    """
    folders, problems = _folders(_adversaries(source))
    logs = []
    for run, (system, seed) in published_systems().items():
        if run not in folders:
            problems.append(f"{run}*: missing ({system}, seed {seed})")
            continue
        log, found = _read_run(folders[run], run, system, seed)
        problems += found
        logs += [log] if log else []
    problems += _disagreements(logs)
    if problems:
        raise DataErrors(problems, where=str(source), mend=_MEND)
    return logs


def labels_digest(clips: pd.DataFrame) -> str:
    """Return 16 hex digits over clip numbers and labels rounded to 3 decimals, whatever the clips' order.

    The logs carry labels unrounded, the ratings file rounded to 3 decimals; both give the same digest.
    """
    labels = clips.sort_values("clip")
    lines = [
        f"{row[0]}:{','.join(f'{value:.3f}' for value in row[1:])}"
        for row in labels[["clip", *(f"label_{emotion}" for emotion in EMOTIONS)]].itertuples(index=False)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def are_published_labels(clips: pd.DataFrame) -> bool:
    """Return whether a per-clip table is about the clips and ratings that the published study attacked."""
    known = all(f"label_{emotion}" in clips for emotion in EMOTIONS)
    return known and labels_digest(clips) == PUBLISHED_LABELS


def _adversaries(source: Path) -> Path:
    if not source.is_dir():
        raise UserError("no such folder", where=str(source), mend=_MEND)
    for folder in (source / "runs" / "adversaries", source / "adversaries", source):
        if folder.is_dir() and any(folder.glob("*/log.csv")):
            return folder
    raise UserError("holds no runs/adversaries/*/log.csv", where=str(source), mend=_MEND)


def _folders(adversaries: Path) -> tuple[dict[str, Path], list[str]]:
    """Return run -> folder of the known runs, and problems; folders of other runs are named and left."""
    known, folders, problems = published_systems(), dict[str, Path](), []
    for folder in sorted(path for path in adversaries.iterdir() if path.is_dir()):
        run = "_".join(folder.name.split("_")[:4])
        if run not in known:
            _log.warning("%s is not one of the published runs: left out", folder.name)
        elif run in folders:
            problems.append(f"{folder.name}: a second folder of run {run}, beside {folders[run].name}")
        else:
            folders[run] = folder
    return folders, problems


def _read_run(folder: Path, run: str, system: str, seed: int) -> tuple[PublishedLog | None, list[str]]:
    texts, problems = {}, []
    for name in ("hparams.yaml", "log.csv"):
        try:
            texts[name] = read_bytes(folder / name).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"not UTF-8, {error.reason}"
            problems.append(f"{folder.name}/{name}: cannot be read ({reason})")
    if problems:
        return None, problems
    hparams, problems = _parse_hparams(texts["hparams.yaml"], f"{folder.name}/hparams.yaml", run, system)
    clips, found = parse_log(texts["log.csv"], f"{folder.name}/log.csv")
    problems += found
    if problems:
        return None, problems
    digest = hashlib.sha256("\0".join([run, *texts.values()]).encode()).hexdigest()[:16]
    return PublishedLog(run, system, seed, hparams, clips, digest), []


def _parse_hparams(text: str, where: str, run: str, system: str) -> tuple[dict[str, Any], list[str]]:
    try:
        values = parse_yaml(text, where)
    except UserError as error:
        return {}, [f"{where}: {error.what}"]
    if not isinstance(values, dict):
        return {}, [f"{where}: not a list of settings"]
    problems = [f"{where}: setting {name} is missing" for name in HPARAMS if name not in values]
    for name, value in values.items():
        kinds = HPARAMS.get(name)
        if kinds is None:
            problems.append(f"{where}: unknown setting {name}")
        elif not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            problems.append(f"{where}: setting {name} is {shown(value)}, not {kinds[0].__name__}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 < value < math.inf:
            problems.append(f"{where}: setting {name} is {value}, not above 0")
    problems += [
        f"{where}: setting {name} is {shown(values[name])}, but this run is of {value!r}"
        for name, value in (("model", run.split("_", 1)[1]), ("architecture", ARCHITECTURES[system]))
        if values.get(name, value) != value
    ]
    return values, problems


def parse_log(text: str, where: str) -> tuple[pd.DataFrame, list[str]]:
    """Parse the text of one ``log.csv``; return the clip table of :class:`PublishedLog` and its problems."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    problems: list[str] = []
    records: list[dict[str, Any]] = []
    try:
        header = next(reader, [])
        if tuple(header) != LOG_COLUMNS:
            what = f"the header is {','.join(header)!r}, not {','.join(LOG_COLUMNS)}"
            return pd.DataFrame(), [f"{where}:1: {what}"]
        line = reader.line_num + 1
        for cells in reader:
            record, found = _parse_record(cells, line)
            records.append(record)
            problems += [f"{where}:{problem}" for problem in found]
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(f"{where}:{reader.line_num}: not CSV ({error})")
    clips = pd.DataFrame.from_records(records)
    if not records and not problems:
        problems.append(f"{where}: holds no clip")
    elif not problems:
        twice = clips["clip"][clips["clip"].duplicated()]
        problems += [f"{where}: column file: clip {clip} occurs twice" for clip in twice.unique()]
    return clips, problems


def _parse_record(cells: list[str], line: int) -> tuple[dict[str, Any], list[str]]:
    """Parse one record that starts at ``line``; problems name the line on which a cell starts."""
    if len(cells) != len(LOG_COLUMNS):
        return {}, [f"{line}: {len(cells)} columns, not {len(LOG_COLUMNS)}"]
    record: dict[str, Any] = {}
    problems = []
    for column, cell in zip(LOG_COLUMNS, cells, strict=True):
        try:
            record |= _parse_cell(column, cell)
        except ValueError as error:
            problems.append(f"{line}: column {column}: {error}")
        line += cell.count("\n")
    return record, problems


def _parse_cell(column: str, cell: str) -> dict[str, Any]:
    """Return the entries of the clip table that a cell holds; ValueError says what is wrong with it."""
    prefix = {"true-label": "label", "orig-pred": "clean", "new-pred": "adv"}.get(column)
    if prefix:
        values = parse_array(cell)
        if prefix == "label" and not all(0.0 <= value <= 1.0 for value in values):
            raise ValueError(f"labels outside 0-1 in {_short(cell)}")
        return {f"{prefix}_{emotion}": value for emotion, value in zip(EMOTIONS, values, strict=True)}
    if column == "file":
        match = _FILE.fullmatch(cell)
        if not match:
            raise ValueError(f"{_short(cell)} is not of the form ['001.mp3.spec']")
        return {"clip": match[1]}
    if column == "converged":
        if cell not in ("True", "False"):
            raise ValueError(f"{_short(cell)} is neither True nor False")
        return {"converged": cell == "True"}
    if column == "epoch":
        if not cell.isascii() or not cell.isdigit():
            raise ValueError(f"{_short(cell)} is not a count")
        return {"iterations": int(cell)}
    value = _parse_number(cell)
    if column == "norm" and value < 0:
        raise ValueError(f"{_short(cell)} is not a norm")
    return {{"db": "db", "norm": "l2", "adv-target": "threshold"}[column]: value}


def parse_array(cell: str) -> list[float]:
    """Parse the text of a NumPy array ``[[a b ...]]`` with one value per emotion, without evaluating it."""
    text = cell.strip()
    if not (text.startswith("[[") and text.endswith("]]")):
        raise ValueError(f"{_short(cell)} is not an array in [[ ]]")
    numbers = text[2:-2].split()
    if len(numbers) != len(EMOTIONS):
        raise ValueError(f"{len(numbers)} numbers, not {len(EMOTIONS)}, in {_short(cell)}")
    return [_parse_number(number) for number in numbers]


def _parse_number(text: str) -> float:
    try:
        value = float("invalid" if "_" in text else text)  # float() itself reads 1_0 as 10
    except ValueError:
        raise ValueError(f"{_short(text)} is not a number") from None
    if not np.isfinite(value):
        raise ValueError(f"{_short(text)} is not finite")
    return value


def _disagreements(logs: list[PublishedLog]) -> list[str]:
    """Every model was attacked on the same clips: name the runs whose clips or labels differ."""
    return [
        f"{log.run}: clips or labels differ from those of {logs[0].run}"
        for log in logs[1:]
        if log.labels_digest != logs[0].labels_digest
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 40 else f"{line[:37]}...")
