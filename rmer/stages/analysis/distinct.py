"""Refuses to compare models that are one model under several names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rmer.errors import UserError
from rmer.evaluation.attacked import AttackedModel
from rmer.stages.analysis.reading import AnalysedRuns, run_in_words
from rmer.stages.analysis.selection import Selected
from rmer.systems.catalogue import known_system
from rmer.tracking import Store, Tag


def require_distinct(store: Store, runs: AnalysedRuns) -> None:
    """Raise UserError where two systems, or two seeds, have equal weights or equal clean predictions.

    Compared as two they would lend each other weight. One model under several attacks is no such case.
    """
    items = {item.record.run_id: item for item in runs.selected}
    found = [
        pair
        for models in runs.groups.values()
        for pair in _equal([(items[model.run_id], model) for model in models])
    ]
    if not found:
        return
    first, second, what = found[0]
    a, b = (f"{run_in_words(item, runs.selected)} (run {item.record.run_id})" for item in (first, second))
    others = len(found) - 1
    more = f" (and {others} more such pair{'s' if others > 1 else ''})" if others else ""
    mend = "Train one of them anew, or leave one out with systems or study"
    raise UserError(f"{a} and {b} are one model{more}: their {what} are equal", where=store.name, mend=mend)


def _equal(models: Sequence[tuple[Selected, AttackedModel]]) -> Iterator[tuple[Selected, Selected, str]]:
    """Yield the pairs of another system or seed that are equal, and in what."""
    seen: dict[object, Selected] = {}
    for item, model in models:
        weights = item.record.params.get("cfg.model")
        keys = {"predictions": (model.clips, model.targets, model.clean.tobytes())}
        for what, key in {**({"weights": weights} if weights else {}), **keys}.items():
            first = seen.setdefault((what, key), item)
            if _trained(first) != _trained(item) and not _of_any_seed(first, item):
                yield first, item, what
                break


def _of_any_seed(first: Selected, item: Selected) -> bool:
    """Return whether both are of one system whose weights no seed changes, as they are fitted at once."""
    known = known_system(item.system)
    return first.system == item.system and known is not None and known.fitted_at_once


def _trained(item: Selected) -> tuple[str, str]:
    """Return what a model was trained as, whatever the data that it was attacked on."""
    return item.system, item.record.tags.get(Tag.SEED, "")
