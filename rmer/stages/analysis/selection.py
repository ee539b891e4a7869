"""Which attack runs an analysis is about: found by tags, and never a mixture without being told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rmer.data.folds import folds_of
from rmer.data.splits import ALL
from rmer.data.tables.text_tables import some
from rmer.errors import UserError
from rmer.nearest import did_you_mean, nearest
from rmer.stages.analysis.alike import (
    DIMENSIONS,
    SUITE,
    Settings,
    differing,
    differing_but_norm,
    dimension_of,
    dimensions,
    on_sound,
    settings_of,
)
from rmer.tracking import RunRecord, Stage, Store, Tag
from rmer.tracking.find import FINISHED
from rmer.tracking.values import ABSENT

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
        """Training seed of the attacked model, empty where it has none.

        On other data than their own, the models of all folds see all clips: each is told apart.
        """
        tags = self.record.tags
        seed, fold = tags.get(Tag.SEED, ""), tags.get(Tag.FOLD)
        return f"{seed} f{fold}" if fold and tags.get(Tag.SPLIT) == ALL else seed

    @property
    def fold(self) -> int:
        """Fold of a cross-validation that was tested, from 1; 0 where none was."""
        tags = self.record.tags
        return 0 if tags.get(Tag.SPLIT) == ALL else int(tags.get(Tag.FOLD, 0))

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


def select_attack_runs(
    store: Store,
    tags: Mapping[str, str],
    *,
    study: str,
    systems: Sequence[str],
    where: Mapping[str, str],
    allow_mixed: bool,
) -> list[Selected]:
    """Return the newest finished attack run of every configuration that has these tags and settings.

    ``where`` maps settings (:func:`rmer.stages.analysis.alike.settings_of`) to values that they must have.

    Raises UserError when there is none; when runs differ in a tag of
    :data:`rmer.stages.analysis.alike.DIMENSIONS` or in a setting of attack or training; when a system and
    seed occur twice, or lack folds of their cross-validation. With ``allow_mixed`` what differs becomes part
    of the row's name, and the newest run of a row and seed counts. Several norms of a suite of attacks are no
    mixture. Without a tag of the domain, runs are those on spectrograms.
    """
    records = find_attack_runs(store, tags, study, systems)
    if Tag.DOMAIN not in tags:  # budgets of spectrograms and of sounds have nothing in common
        records = [record for record in records if not on_sound(record)]
    if not records:
        raise _nothing_found(store, tags, study, systems)
    settings = settings_of(store, records)
    for name, value in where.items():
        records = _narrowed(store, records, settings, name, value)
    suites = all(record.tags.get(Tag.ATTACK) == SUITE for record in records)
    differences = differing_but_norm(records, settings) if suites else differing(records, settings)
    if differences and not allow_mixed:
        raise _mixture(store, differences, study, settings[records[0].run_id])
    selected = [Selected(record, _name(record, differences, settings[record.run_id])) for record in records]
    chosen = _one_a_seed(store, selected, allow_mixed=allow_mixed)
    _check_folds(store, chosen)
    return chosen


def find_attack_runs(
    store: Store, tags: Mapping[str, str], study: str, systems: Sequence[str]
) -> list[RunRecord]:
    """Return the newest finished attack run of every configuration, whatever else it is, newest first.

    What ``tags`` say of the data that models were trained on also finds those that were attacked on these.
    """
    trained_on = tags.get(Tag.TRAINED_ON)
    searched = {tag: value for tag, value in tags.items() if tag != Tag.TRAINED_ON}
    return [
        record
        for record in store.find(Stage.ATTACK, searched, study or None)
        if (not systems or record.tags.get(Tag.SYSTEM) in systems)
        and trained_on in (None, dimension_of(record, Tag.TRAINED_ON))
    ]


def shared_tags(selected: Sequence[Selected]) -> dict[str, str]:
    """Return tag -> value, several joined by commas, of every dimension that some run has."""
    shared = {}
    for tag in dimensions([item.record for item in selected]):
        values = sorted({item.record.tags[tag] for item in selected if tag in item.record.tags})
        if values:
            shared[tag] = ", ".join(values)
    return shared


def _narrowed(
    store: Store, records: Sequence[RunRecord], settings: Settings, name: str, value: str
) -> list[RunRecord]:
    """Return the runs with this value of a setting; raise UserError where there is none."""
    kept = [record for record in records if _is_same(settings[record.run_id].get(name, ABSENT), value)]
    if kept:
        return kept
    found = sorted({settings[record.run_id].get(name, ABSENT) for record in records})
    if found == [ABSENT]:
        known = sorted({known for record in records for known in settings[record.run_id]})
        mend = did_you_mean([name], known, f"Known are {', '.join(known)}")
        raise UserError(f"no attack run found has a setting {name}", where=store.name, mend=mend)
    mend = f"Its values are {'; '.join(found)}"
    raise UserError(f"no attack run found has {name}={value}", where=store.name, mend=mend)


def _is_same(a: str, b: str) -> bool:
    """Return whether two texts are the same, or the same number (``.01`` and ``0.01``)."""
    try:
        return a == b or float(a) == float(b)
    except ValueError:
        return False


def _name(record: RunRecord, differences: Collection[str], settings: Mapping[str, str]) -> str:
    values = [dimension_of(record, tag) for tag, name in DIMENSIONS.items() if name in differences]
    others = [name for name in differences if name not in DIMENSIONS.values()]
    values += [f"{name} {settings.get(name, ABSENT)}" for name in others]
    return " ".join([record.tags.get(Tag.SYSTEM, ABSENT), *dict.fromkeys(values)])


def _one_a_seed(store: Store, selected: Sequence[Selected], *, allow_mixed: bool) -> list[Selected]:
    """Keep the newest run (they come newest first) of each row and seed; refuse to choose unless told."""
    rows: dict[tuple[str, str, str, int], list[Selected]] = {}
    for item in selected:
        rows.setdefault((item.name, item.seed, item.norm, item.fold), []).append(item)
    twice = {key: items for key, items in rows.items() if len(items) > 1}
    if twice and not allow_mixed:
        (name, seed, _, fold), items = next(iter(twice.items()))
        runs = ", ".join(
            f"{item.record.run_id} (study {item.record.tags.get(Tag.STUDY, ABSENT)}, "
            f"trained in {item.record.tags.get(Tag.TRAIN_RUN_ID, ABSENT)})"
            for item in items
        )
        of = f" fold {fold}" if fold else ""
        what = (
            f"{len(twice)} systems and seeds occur more than once; {name} seed {seed}{of} does in runs {runs}"
        )
        mend = "Narrow with study, or allow_mixed=true takes the newest of each"
        raise UserError(what, where=store.name, mend=mend)
    return [items[0] for items in rows.values()]


def by_model(selected: Sequence[Selected]) -> dict[tuple[str, str, str], list[Selected]]:
    """Return row, seed and norm -> its runs: one, or those of all folds of a cross-validation in order."""
    models: dict[tuple[str, str, str], list[Selected]] = {}
    for item in sorted(selected, key=lambda item: item.fold):
        models.setdefault((item.name, item.seed, item.norm), []).append(item)
    return models


def _check_folds(store: Store, selected: Sequence[Selected]) -> None:
    """Raise UserError where a system and seed were not attacked in every fold of their cross-validation."""
    lacking = []
    for (name, seed, norm), items in by_model(selected).items():
        folds = folds_of(items[0].record.tags.get(Tag.SPLIT_SCHEME, "")) if items[0].fold else 0
        missing = sorted(set(range(1, folds + 1)) - {item.fold for item in items})
        if missing:
            lacking.append(f"{name} s{seed} ({norm}) lacks {', '.join(map(str, missing))} of {folds}")
    if lacking:
        what = f"folds of the cross-validation are not complete: {some(lacking)}"
        mend = "Train and attack these folds (main goes on where it stopped), or leave the systems out"
        raise UserError(what, where=store.name, mend=mend)


def _mixture(
    store: Store, differences: Mapping[str, Counter[str]], study: str, newest: Mapping[str, str]
) -> UserError:
    """Return the error that says what differs, and how to narrow, to the settings of the newest run, say."""
    found = "; ".join(
        f"{name}: " + ", ".join(f"{value} ({n} runs)" for value, n in sorted(values.items()))
        for name, values in differences.items()
    )
    ways = [name for name in differences if name in DIMENSIONS.values()]
    settings = [f"{name}={newest.get(name, ABSENT)}" for name in differences if name not in ways]
    ways += [f"where={','.join(settings)}"] if settings else []
    ways += [] if study else ["study"]
    mend = f"Narrow with {' or '.join(ways)}; allow_mixed=true compares them side by side"
    return UserError(f"the attack runs found are not alike: {found}", where=store.name, mend=mend)


def _nothing_found(store: Store, tags: Mapping[str, str], study: str, systems: Sequence[str]) -> UserError:
    wanted = [f"{DIMENSIONS[tag]}={value}" for tag, value in tags.items()]
    wanted += [f"study={study}"] if study else []
    wanted += [f"systems={','.join(systems)}"] if systems else []
    existing = store.search({Tag.STAGE: Stage.ATTACK}, status=FINISHED, most=MOST_LISTED)
    names = {Tag.STUDY: "study", Tag.SYSTEM: "systems", **DIMENSIONS}
    known = {
        tag: sorted(values)
        for tag in names
        if (values := {record.tags[tag] for record in existing if tag in record.tags})
    }
    has = "; ".join(f"{names[tag]}: {some(values)}" for tag, values in known.items())
    asked = {Tag.STUDY: [study], Tag.SYSTEM: systems, Tag.ATTACK: [tags.get(Tag.ATTACK, "")]}
    unknown = [(tag, name) for tag in asked for name in asked[tag] if name not in known.get(tag, [])]
    near = [near for tag, name in unknown for near in nearest(name, known.get(tag, []))]
    what = "no finished attack run" + (f" with {', '.join(wanted)}" if wanted else "")
    question = f"Did you mean {', '.join(near)}? " if near else ""
    mend = f"{question}Among its newest are {has}" if existing else "Run attack or import_published first"
    return UserError(what, where=store.name, mend=mend)
