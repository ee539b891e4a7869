"""The commands that make runs anew, out of the parameters that the runs logged."""

from __future__ import annotations

import dataclasses
import shlex
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from rmer.attacks.attack_domains import SPECTROGRAM
from rmer.attacks.known_attacks import ATTACKS
from rmer.errors import UserError
from rmer.parameters import Parameters
from rmer.stages.attack.attack_defaults import defaults_of
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.preprocess import PreprocessParams
from rmer.stages.train_params import TrainingParams
from rmer.systems.catalogue import CATALOGUE, System
from rmer.systems.network import ARCHITECTURES
from rmer.tracking import Origin, RunRecord, Tag

HEAD = """\
#!/usr/bin/env bash
# Repeats the runs of this analysis. Needs rmer{commit} and the data; finished runs are not done again.
# usage: bash reproduce.sh {usage}
set -euo pipefail
"""


def reproduce_script(
    datasets: Sequence[RunRecord],
    trained: Sequence[RunRecord],
    attacked: Sequence[RunRecord],
    analysis: Parameters,
) -> str:
    """Return a shell script: preprocess, train, attack, analyze, each with the parameters that were used.

    Runs of a stage come in the order in which they were made.
    """
    imported = [record for record in attacked if record.tags.get(Tag.ORIGIN) == Origin.IMPORTED]
    computed = [record for record in attacked if record not in imported]
    lines = [
        f'rmer import-published --source "$1"{_options(study)}'
        for study in {record.tags.get(Tag.STUDY, ""): _study(record) for record in imported}.values()
    ]
    first = 2 if imported else 1
    digests = list(dict.fromkeys(record.tags.get(Tag.DATASET, "") for record in _by_time(datasets)))
    for record in _by_time(datasets):
        options = logged(PreprocessParams, record) | _study(record)
        data = first + digests.index(record.tags.get(Tag.DATASET, ""))
        lines.append(f'rmer preprocess --soundtracks_dir "${data}"{_options(options)}')
    for record in _by_time(trained):
        if record.tags.get(Tag.ORIGIN) == Origin.COMPUTED:
            options = _model(record) | logged(TrainingParams, record) | _study(record)
            if Tag.FOLD in record.tags:  # folds have no other split
                options = {**options, "split_scheme": "", "fold": record.tags[Tag.FOLD]}
            if len(digests) > 1:
                options = {**options, "dataset_run_id": record.tags.get(Tag.DATASET, "")}
            lines.append(f"rmer train{_options(options)}")
    # One command attacks all folds of a system and seed.
    lines += dict.fromkeys(_attack(record) for record in _by_time(computed))
    given = {
        field.name: getattr(analysis, field.name)
        for field in dataclasses.fields(analysis)
        if field.metadata["role"] != "place" and getattr(analysis, field.name) != field.default
    }
    lines.append(f"rmer analyze{_options(given)} --bundle bundle")
    folders = [f"DATA_FOLDER_{place + 1}" for place in range(len(digests))]
    folders = folders if len(folders) > 1 else ["DATA_FOLDER"]
    usage = " ".join((["PUBLISHED_CLONE"] if imported else []) + (folders if computed else []))
    commits = sorted({record.tags[Tag.GIT_COMMIT] for record in attacked if Tag.GIT_COMMIT in record.tags})
    commit = f" (git commit {', '.join(commits)})" if commits else ""
    return HEAD.format(commit=commit, usage=usage) + "\n".join(lines) + "\n"


def _attack(record: RunRecord) -> str:
    attack, domain = record.tags.get(Tag.ATTACK, ""), record.tags.get(Tag.DOMAIN, SPECTROGRAM)
    known = {"attack", "split", "precision", *(defaults_of(attack, domain) if attack in ATTACKS else ())}
    values = {name: value for name, value in logged(AttackParams, record).items() if name in known}
    named = {"system": Tag.SYSTEM, "seed": Tag.SEED, "train_protocol": Tag.TRAIN_PROTOCOL}
    if Tag.TRAIN_RUN_ID not in record.tags:
        named |= {"split_scheme": Tag.SPLIT_SCHEME, "model_uri": Tag.MODEL_URI}
        named |= {"dataset_run_id": Tag.DATASET_RUN_ID}
    if Tag.TRAINED_ON in record.tags:  # whose clips are all attacked
        named |= {"trained_on": Tag.TRAINED_ON, "dataset_run_id": Tag.DATASET}
        values.pop("split", None)
    values = {name: record.tags.get(tag, "") for name, tag in named.items()} | values
    return f"rmer attack{_options(values | _study(record))}"


def logged(kind: type[Parameters], record: RunRecord) -> dict[str, Any]:
    """Return the parameters of a stage that determined a run's result and are not their defaults."""
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        text = record.params.get(f"cfg.{field.name}")
        given = field.metadata["role"] == "result" and text not in (None, "", "none")
        if given and not _is_default(text, field.default, hints[field.name]):
            values[field.name] = text
    return values


def _model(record: RunRecord) -> dict[str, Any]:
    """Return the options that name the system of a train run, and its seed."""
    name = record.tags.get(Tag.SYSTEM, "")
    options = {"system": name} if name in CATALOGUE else _variation(name, record.params)
    return {**options, "seed": record.tags.get(Tag.SEED, "")}


def _variation(name: str, params: Mapping[str, str]) -> dict[str, Any]:
    """Return the fewest options that make a system out of one of the catalogue; its name where none do."""
    wanted: dict[str, Any] = {
        "arch": params.get("cfg.arch", ""),
        "task_loss_weight": float(params.get("cfg.task_loss_weight", "nan")),
        "adversarial": params.get("cfg.adversarial") == "true",
    }
    permuted, supervised = params.get("cfg.permuted_concepts") == "true", wanted["task_loss_weight"] < 1
    alike = [known for known in CATALOGUE.values() if known.permuted_concepts == permuted]
    ways = [
        {"system": known.name} | {key: value for key, value in wanted.items() if getattr(known, key) != value}
        for known in sorted(alike, key=lambda known: known.supervises_concepts != supervised)
        if wanted["arch"] in ARCHITECTURES and _varied_name(known, wanted) == name
    ]
    return min(ways, key=len, default={"system": name})


def _varied_name(system: System, wanted: Mapping[str, Any]) -> str:
    """Return the name of a system with other properties; empty where it cannot have them."""
    try:
        return system.varied(**wanted).name
    except UserError:
        return ""


def _study(record: RunRecord) -> dict[str, str]:
    return {"study": record.tags.get(Tag.STUDY, "")}


def _by_time(records: Sequence[RunRecord]) -> list[RunRecord]:
    return sorted(records, key=lambda record: record.start_time)


def _is_default(text: str | None, default: Any, hint: Any) -> bool:
    kind = (typing.get_args(hint) or (hint,))[0]
    if default is None or text is None:
        return False
    if kind in (int, float):
        return float(text) == float(default)
    return text == (str(default).lower() if kind is bool else str(default))


def _options(values: Mapping[str, Any]) -> str:
    return "".join(
        f" --{name} {shlex.quote(str(value).lower() if isinstance(value, bool) else str(value))}"
        for name, value in values.items()
        if value not in (None, "")
    )
