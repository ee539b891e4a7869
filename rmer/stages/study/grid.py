"""The grid of a sweep: every combination of parameters of training and attacks, from YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, product
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from rmer.errors import UserError, shown
from rmer.nearest import did_you_mean
from rmer.parameters import Parameters, name_choice, param, place
from rmer.plain_yaml import parse_yaml, read_yaml_file
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.train_params import TrainParams

P = TypeVar("P", bound=Parameters)

# Parameters of attack that name models: of no use where the grid itself trains them.
MODEL = AttackParams.names("model")
# More could neither be listed nor done.
MOST_JOBS = 10_000


@dataclass(frozen=True)
class GridParams(Parameters):
    """What a sweep does."""

    grid: str = place("", "YAML file with the keys train and attack: each parameter a value or list")
    train: str = param(
        "", "instead of the file's: YAML such as {system: [A2E, A2M2E], seed: [6, 21]}", kind="document"
    )
    attack: str = param(
        "", "instead of the file's: YAML such as {attack: pgd, epsilon: [.01, .02]}", kind="document"
    )
    study: str = name_choice("", "name of the group of runs")


@dataclass(frozen=True)
class Grid:
    """Combinations by name: models to train, and attacks on each (on models that there are, if none)."""

    models: dict[str, TrainParams]
    attacks: dict[str, AttackParams]

    @property
    def devices(self) -> set[str]:
        """The devices that jobs ask for."""
        training = {params.device for params in self.models.values()}
        return training | {params.device for params in self.attacks.values()}

    def __str__(self) -> str:
        models = f"{len(self.models)} models to train: {', '.join(self.models)}"
        attacks = f"{len(self.attacks)} attacks a model: {', '.join(self.attacks)}"
        return f"- {models if self.models else 'models that there are'}\n- {attacks}"


def read_grid(params: GridParams) -> Grid:
    """Expand a grid; raises UserError for what is no grid and for every bad parameter in it."""
    texts = {"train": params.train, "attack": params.attack}
    grid = _grid_file(Path(params.grid)) if params.grid else {}
    grid |= {name: parse_yaml(text, f"parameter {name}") for name, text in texts.items() if text}
    if unknown := sorted(map(str, set(grid) - set(texts))):
        mend = did_you_mean(unknown, texts, "A grid has the keys train and attack")
        raise UserError(f"unknown key {', '.join(unknown)}", where=params.grid, mend=mend)

    common = {"study": params.study}
    models = _expand(TrainParams, grid.get("train", []), common, "{0.system} s{0.seed}", ("system", "seed"))
    attacks = _expand(AttackParams, grid.get("attack", []), common, "{0.attack}", ("attack",))
    if not models and not attacks:
        raise UserError("is empty", where="grid", mend="Give grid, train or attack")
    if any(attack.dry_run for attack in attacks.values()):
        mend = "Give it to sweep itself"
        raise UserError("jobs of a grid are run", where="grid: attack: dry_run", mend=mend)
    chosen = [name for name in MODEL if any(getattr(attack, name) for attack in attacks.values())]
    if models and chosen:
        mend = "Leave it out: attacks are on the models that the grid trains"
        raise UserError("chooses other models", where=f"grid: attack: {', '.join(chosen)}", mend=mend)
    return Grid(models, attacks)


def _expand(
    kind: type[P], entry: Any, common: Mapping[str, str], title: str, titled: tuple[str, ...]
) -> dict[str, P]:
    """Return every combination under a name: its title (that shows ``titled``), then what else varies."""
    combinations = list(_combinations(entry))
    seen = {key: {repr(given.get(key)) for given in combinations} for key in chain(*combinations)}
    varied = [key for key, values in seen.items() if len(values) > 1 and key not in titled]
    entries: dict[str, P] = {}
    for given in combinations:
        params = kind.from_mapping({**common, **given}, where="grid")
        rest = [f"{key}={getattr(params, key)}" for key in varied if key in given]
        if params not in entries.values():
            entries[" ".join([title.format(params), *rest])] = params
    return entries


def _combinations(entry: Any) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values in a mapping, or in each of a list of mappings."""
    for mapping in entry if isinstance(entry, list) else [entry]:
        if not isinstance(mapping, Mapping):
            mend = "Write parameters with their values: {seed: [6, 21]}"
            raise UserError(f"{shown(mapping)} holds no parameters", where="grid", mend=mend)
        lists = [value if isinstance(value, list) else [value] for value in mapping.values()]
        if empty := [str(name) for name, values in mapping.items() if values == []]:
            mend = "Give a value, or leave the parameter out"
            raise UserError("has no values", where=f"grid: {', '.join(empty)}", mend=mend)
        if (size := prod(map(len, lists))) > MOST_JOBS:
            mend = f"A sweep takes at most {MOST_JOBS}: split it"
            raise UserError(f"has {size} combinations", where="grid", mend=mend)
        for values in product(*lists):
            yield dict(zip(map(str, mapping), values, strict=True))


def _grid_file(path: Path) -> dict[Any, Any]:
    values = read_yaml_file(path, mend="Check grid")
    if not isinstance(values, dict):
        raise UserError("is no grid", where=str(path), mend="Give the keys train and attack")
    return values
