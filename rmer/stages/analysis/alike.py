"""What runs must share to be compared: tags, settings of the attack, and all that determined the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from rmer.attacks.suite import TIERS, Suite
from rmer.stages.analysis.parallel import named_runs
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.train_params import ModelParams, TrainParams
from rmer.tracking import RunRecord, Store, Tag
from rmer.tracking.values import ABSENT, PREFIX

# Tags that must agree: tag -> the parameter that narrows a selection to one value.
DIMENSIONS = {
    Tag.ORIGIN: "origin",
    Tag.TRAIN_PROTOCOL: "train_protocol",
    Tag.DATASET: "dataset",
    Tag.TRAINED_ON: "trained_on",
    Tag.SPLIT_SCHEME: "split_scheme",
    Tag.SPLIT: "split",
    Tag.ATTACK: "attack",
    Tag.TIER: "tier",
    Tag.ATTACK_PROTOCOL: "attack_protocol",
    Tag.DOMAIN: "domain",
    Tag.NORM: "norm",
    Tag.EPSILON: "epsilon",
    Tag.BUDGET: "budget",
    Tag.ATTACK_SEED: "attack_seed",
}
# What an attack run logs beside the settings of the attack: of the model, the machine and the training.
NOT_OF_ATTACK = frozenset(
    ("model", "architecture", "normalised_on", "source_run", "source_log", "threads", "clips", "source_model",
     "training", "adversarial_training", "listen", "codecs", "fold", "labels", "search",
     *AttackParams.names("model", "machine"),
     *DIMENSIONS.values())
)  # fmt: skip
# What a train run logs beside what determined the training: repetitions may differ in it.
NOT_OF_TRAINING = frozenset(
    ("seed", "system", "source_run", "source_log", "threads", "mean", "std", "fold", "fold_clips",
     *TrainParams.names("machine"), *DIMENSIONS.values())
)  # fmt: skip
# Systems differ in these by design, protocols in those: only runs of one system, or protocol, must agree.
OF_SYSTEM = frozenset(
    ("emotion_weight", "concept_weight", "stop_on_concepts", "permuted_concepts", *ModelParams.names())
)
OF_PROTOCOL = frozenset(("normalised_on", "drop_last"))
# What names of settings of the training begin with.
TRAINING = "training."
# Absence says nothing of these: an attack without random numbers has no seed, a single attack no tier, one on
# spectrograms no budget in dB.
OPTIONAL = (Tag.TIER, Tag.ATTACK_SEED, Tag.BUDGET)
# The attack that evaluates a model at several budgets; its runs under both norms make one evaluation.
SUITE = "suite"
# What a suite searches by where no gradient passes a model, and the settings that follow from it: suites that
# search alike must agree in them. That this one is the weaker attack is for the report to say.
SEARCH = f"{PREFIX}search"
OF_SEARCH = frozenset(
    ("precision", "warm_start", *(name for tier in TIERS for name in Suite.implied({"tier": tier})))
)
# What a budget in dB is named by: it means something else under each norm of the sound.
OF_BUDGET = ("epsilon", "budget", "budgets")

# Run id -> name -> value.
Settings = Mapping[str, Mapping[str, str]]


def settings_of(store: Store, records: Sequence[RunRecord]) -> Settings:
    """Return the settings of attack runs: of the attack (``steps``), and of the training (``training.lr``).

    Where the train run was deleted, the training is what the attack run itself says about it.
    """
    trained = {record.run_id: record for record in named_runs(store, records, Tag.TRAIN_RUN_ID)}
    return {
        record.run_id: _of_attack(record)
        | _of_training(record, trained.get(record.tags.get(Tag.TRAIN_RUN_ID, "")))
        for record in records
    }


def dimensions(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return the tags that must agree; the budget of sounds alone is told in dB alone.

    Where all models were attacked on the data that they were trained on, these are told once.
    """
    untold = {Tag.EPSILON} if all(map(on_sound, records)) else set()
    if not any(Tag.TRAINED_ON in record.tags for record in records):
        untold.add(Tag.TRAINED_ON)
    return {tag: name for tag, name in DIMENSIONS.items() if tag not in untold}


def dimension_of(record: RunRecord, tag: str) -> str:
    """Return the value of one of :data:`DIMENSIONS`; a run that names no other data is of the model's own."""
    own = record.tags.get(Tag.DATASET, ABSENT) if tag == Tag.TRAINED_ON else ABSENT
    return record.tags.get(tag, own)


def on_sound(record: RunRecord) -> bool:
    """Return whether an attack run changed the sound of clips."""
    return Tag.DOMAIN in record.tags


def is_by_predictions(record: RunRecord) -> bool:
    """Return whether a suite asked a model for predictions alone, as no gradient passes it."""
    return SEARCH in record.params


def differing_but_norm(records: Sequence[RunRecord], settings: Settings) -> dict[str, Counter[str]]:
    """Return what differs between runs that may have several norms: that is no difference.

    Nor are then budgets of sounds, which are in the dB of their norm; those of one norm must agree.
    """
    differences = differing(records, settings)
    differences.pop("norm", None)
    if all(map(on_sound, records)):
        norms: dict[str, list[RunRecord]] = {}
        for record in records:
            norms.setdefault(record.tags.get(Tag.NORM, ABSENT), []).append(record)
        within = [differing(members, settings) for members in norms.values()]
        for name in OF_BUDGET:
            if not any(name in found for found in within):
                differences.pop(name, None)
    return differences


def differing(records: Sequence[RunRecord], settings: Settings) -> dict[str, Counter[str]]:
    """Return parameter or setting -> its values and their counts, for every one that is not the same."""
    differences: dict[str, Counter[str]] = {}
    for tag, parameter in dimensions(records).items():
        values = Counter(dimension_of(record, tag) for record in records)
        if tag in OPTIONAL:
            del values[ABSENT]
        if len(values) > 1:
            differences[parameter] = values
    for name in sorted({name for record in records for name in settings[record.run_id]}):
        # Runs of another origin have other parameters; that they are of another origin is said already.
        absence = {ABSENT} if "origin" in differences else set()
        groups = _peers(name, records, settings)
        if any(len(set(values) - absence) > 1 for values in groups):
            differences[name] = Counter(value for values in groups for value in values)
    return differences


def _of_attack(record: RunRecord) -> dict[str, str]:
    found = _params(record, NOT_OF_ATTACK)
    if record.tags.get(Tag.ATTACK) == SUITE:
        found.pop("source_system", None)  # of a control, which takes what other system there is
    return found


def _of_training(record: RunRecord, trained: RunRecord | None) -> dict[str, str]:
    if trained is not None:
        return {f"{TRAINING}{name}": value for name, value in _params(trained, NOT_OF_TRAINING).items()}
    told = {name: record.params.get(f"{PREFIX}{name}") for name in ("training", "adversarial_training")}
    return {name: value for name, value in told.items() if value is not None}


def _params(record: RunRecord, left_out: Collection[str]) -> dict[str, str]:
    logged = {key.removeprefix(PREFIX): text for key, text in record.params.items() if key.startswith(PREFIX)}
    return {name: text for name, text in logged.items() if name not in left_out}


def _peers(name: str, records: Sequence[RunRecord], settings: Settings) -> list[list[str]]:
    """Return the values of a setting, those of runs that must agree in it together."""
    groups: dict[tuple[str | None, ...], list[str]] = {}
    for record in records:
        of = settings[record.run_id]
        groups.setdefault(_kind(name, record, of), []).append(of.get(name, ABSENT))
    return list(groups.values())


def _kind(name: str, record: RunRecord, settings: Mapping[str, str]) -> tuple[str | None, ...]:
    """Return what runs that must agree in a setting have in common."""
    tags = record.tags
    if name == "adversarial_training":
        return (tags.get(Tag.TRAIN_PROTOCOL), str(name in settings))
    if name in OF_SEARCH:
        return (tags.get(Tag.ATTACK), record.params.get(SEARCH))
    if not name.startswith(TRAINING):
        return () if name == "training" else (tags.get(Tag.ATTACK),)
    of_training = name.removeprefix(TRAINING)
    if of_training in OF_SYSTEM:
        return (tags.get(Tag.TRAIN_PROTOCOL), tags.get(Tag.SYSTEM))
    if of_training in OF_PROTOCOL:
        return (tags.get(Tag.TRAIN_PROTOCOL),)
    if of_training.startswith("adversarial_"):
        return (tags.get(Tag.TRAIN_PROTOCOL), settings.get(f"{TRAINING}adversarial"))
    return ()
