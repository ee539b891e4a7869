"""Which attack runs an analysis is about: found by tags, and never a mixture without being told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rmer.data.tables import some
from rmer.errors import UserError
from rmer.tracking import RunRecord, Stage, Store, Tag
from rmer.tracking.find import FINISHED

# What runs must share to be compared: tag -> the parameter that narrows a selection to one value.
DIMENSIONS = {
    Tag.ORIGIN: "origin",
    Tag.TRAIN_PROTOCOL: "train_protocol",
    Tag.DATASET: "dataset",
    Tag.SPLIT_SCHEME: "split_scheme",
    Tag.SPLIT: "split",
    Tag.ATTACK: "attack",
    Tag.TIER: "tier",
    Tag.ATTACK_PROTOCOL: "attack_protocol",
    Tag.NORM: "norm",
    Tag.EPSILON: "epsilon",
    Tag.ATTACK_SEED: "attack_seed",
}
# Parameters of an attack run that belong to the model or the machine; all others are settings of the attack.
NOT_SETTINGS = frozenset(
    f"cfg.{name}"
    for name in (
        "model", "system", "seed", "architecture", "normalised_on", "source_run", "source_log",
        "device", "threads", "clips", "source_model",
        *DIMENSIONS.values(),
    )
)  # fmt: skip
ABSENT = "(none)"
# Absence says nothing of these: an attack without random numbers has no seed, a single attack no tier.
OPTIONAL = (Tag.TIER, Tag.ATTACK_SEED)
# The attack that evaluates a model at several budgets; its runs under both norms make one evaluation.
SUITE = "suite"
# Runs of a large store that are looked at to say what there is.
MOST_LISTED = 200


@dataclass(frozen=True)
class Selected:
    """One attack run and the name of the row that it belongs to.

    Runs of a suite have the same name under both norms.
    """

    record: RunRecord
    name: str

    @property
    def system(self) -> str:
        """System of the attacked model."""
        return self.record.tags.get(Tag.SYSTEM, ABSENT)

    @property
    def seed(self) -> str:
        """Training seed of the attacked model, empty where it has none."""
        return self.record.tags.get(Tag.SEED, "")

    @property
    def norm(self) -> str:
        """Norm of the budget."""
        return self.record.tags.get(Tag.NORM, ABSENT)

    @property
    def is_suite(self) -> bool:
        """Whether the run is a whole evaluation: several attacks and budgets, and checks of them."""
        return self.record.tags.get(Tag.ATTACK) == SUITE

    @property
    def has_curve(self) -> bool:
        """Whether the run attacked at several budgets."""
        return "curve/mae" in self.record.metrics

    @property
    def searched_twice(self) -> bool:
        """Whether the search with reduced gradients was compared with one of float32 gradients."""
        return "precision/mae_loss" in self.record.metrics

    @property
    def reduced(self) -> bool:
        """Whether gradients were not in float32."""
        return self.record.params.get("cfg.precision", "fp32") != "fp32"


def select_attack_runs(
    store: Store, tags: Mapping[str, str], *, study: str, systems: Sequence[str], allow_mixed: bool
) -> list[Selected]:
    """Return the newest finished attack run of every configuration that has these tags.

    Raises
    ------
    UserError
        When there is none; when runs differ in a tag of :data:`DIMENSIONS` or in a setting of the attack;
        when a system and seed occur twice. With ``allow_mixed`` what differs becomes part of the row's name,
        and the newest run of a row and seed counts. Both norms of a suite of attacks are no mixture.
    """
    records = store.find(stage=Stage.ATTACK, tags=tags, study=study or None)
    if systems:
        records = [record for record in records if record.tags.get(Tag.SYSTEM) in systems]
    if not records:
        raise _nothing_found(store, tags, study, systems)
    differences = differing(records)
    if all(record.tags.get(Tag.ATTACK) == SUITE for record in records):
        differences.pop("norm", None)
    if differences and not allow_mixed:
        raise _mixture(store, differences, study)
    selected = [Selected(record, _name(record, differences)) for record in records]
    return _one_a_seed(store, selected, allow_mixed=allow_mixed)


def differing(records: Sequence[RunRecord]) -> dict[str, Counter[str]]:
    """Return parameter -> its values and their counts, for every dimension or setting that is not one."""
    differences = {}
    for tag, parameter in DIMENSIONS.items():
        values = Counter(record.tags.get(tag, ABSENT) for record in records)
        if tag in OPTIONAL:
            del values[ABSENT]
        if len(values) > 1:
            differences[parameter] = values
    settings = {key for record in records for key in record.params if key.startswith("cfg.")} - NOT_SETTINGS
    if all(record.tags.get(Tag.ATTACK) == SUITE for record in records):
        settings.discard("cfg.source_system")  # of a control, which takes what other system there is
    for key in sorted(settings):
        values = Counter(record.params[key] for record in records if key in record.params)
        # Attacks of different kind have different settings; that they differ is said once, by the attack.
        if len(values) > 1 and "attack" not in differences:
            differences[key] = values
    return differences


def shared_tags(selected: Sequence[Selected]) -> dict[str, str]:
    """Return tag -> value, several joined by commas, of every dimension that some run has."""
    shared = {}
    for tag in DIMENSIONS:
        values = sorted({item.record.tags[tag] for item in selected if tag in item.record.tags})
        if values:
            shared[tag] = ", ".join(values)
    return shared


def _name(record: RunRecord, differences: Mapping[str, object]) -> str:
    values = [record.tags.get(tag, ABSENT) for tag, name in DIMENSIONS.items() if name in differences]
    values += [
        f"{key.removeprefix('cfg.')} {record.params.get(key, ABSENT)}"
        for key in differences
        if key.startswith("cfg.")
    ]
    return " ".join([record.tags.get(Tag.SYSTEM, ABSENT), *dict.fromkeys(values)])


def _one_a_seed(store: Store, selected: Sequence[Selected], *, allow_mixed: bool) -> list[Selected]:
    """Keep the newest run (they come newest first) of each row and seed; refuse to choose unless told."""
    rows: dict[tuple[str, str, str], list[Selected]] = {}
    for item in selected:
        rows.setdefault((item.name, item.seed, item.norm), []).append(item)
    twice = {key: items for key, items in rows.items() if len(items) > 1}
    if twice and not allow_mixed:
        (name, seed, _), items = next(iter(twice.items()))
        runs = ", ".join(
            f"{item.record.run_id} (study {item.record.tags.get(Tag.STUDY, ABSENT)}, "
            f"trained in {item.record.tags.get(Tag.TRAIN_RUN_ID, ABSENT)})"
            for item in items
        )
        raise UserError(
            f"{len(twice)} systems and seeds occur more than once; {name} seed {seed} does in runs {runs}",
            where=store.name,
            mend="Narrow with study, or allow_mixed=true takes the newest of each",
        )
    return [items[0] for items in rows.values()]


def _mixture(store: Store, differences: Mapping[str, Counter[str]], study: str) -> UserError:
    found = "; ".join(
        f"{name.removeprefix('cfg.')}: "
        + ", ".join(f"{value} ({n} runs)" for value, n in sorted(values.items()))
        for name, values in differences.items()
    )
    parameters = [name for name in differences if not name.startswith("cfg.")]
    if not study:
        parameters.append("study")
    narrow = f"Narrow with {' or '.join(parameters)}" if parameters else "Analyse them as separate studies"
    return UserError(
        f"the attack runs found are not alike: {found}",
        where=store.name,
        mend=f"{narrow}; allow_mixed=true compares them side by side",
    )


def _nothing_found(store: Store, tags: Mapping[str, str], study: str, systems: Sequence[str]) -> UserError:
    wanted = [f"{DIMENSIONS[tag]}={value}" for tag, value in tags.items()]
    wanted += [f"study={study}"] if study else []
    wanted += [f"systems={','.join(systems)}"] if systems else []
    existing = store.search({Tag.STAGE: Stage.ATTACK}, status=FINISHED, most=MOST_LISTED)
    names = {Tag.STUDY: "study", Tag.SYSTEM: "systems", **DIMENSIONS}
    has = "; ".join(
        f"{name}: {some(sorted(values))}"
        for tag, name in names.items()
        if (values := {record.tags[tag] for record in existing if tag in record.tags})
    )
    return UserError(
        "no finished attack run" + (f" with {', '.join(wanted)}" if wanted else ""),
        where=store.name,
        mend=f"Among its newest are {has}" if existing else "Run attack or import_published first",
    )
