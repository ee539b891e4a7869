"""Lists of runs in the UI that a command ends with: the models and the attacks of a study, side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rmer.evaluation.comparison import PRIMARY
from rmer.stages.descriptions import MAIN_SCORE
from rmer.tracking import RunRecord, Stage, Store, Tag
from rmer.tracking.schema import config_digest
from rmer.tracking.ui import View, comparison_page

# Lines of more runs cannot be told apart.
MOST_COMPARED = 5


def models_view(study: str) -> View:
    """Return the trained models of a study, or of all, the best correlation on test clips first."""
    return View(
        key=_key("models", study),
        tags=_tags(Stage.TRAIN, study),
        order=MAIN_SCORE,
        metrics=(MAIN_SCORE, "test/emotion/mae", "constant/mae", "validation/emotion/corr"),
        shown_tags=(Tag.SYSTEM, Tag.SEED),
    )


def attacks_view(study: str) -> View:
    """Return the attacks of a study, or all, those that do most to the clipped MAE first."""
    return View(
        key=_key("attacks", study),
        tags=_tags(Stage.ATTACK, study),
        order=PRIMARY,
        metrics=(PRIMARY, "clean/mae", "adv/mae", "constant/mae", "clean/corr", "adv/corr"),
        shown_tags=(Tag.SYSTEM, Tag.SEED, Tag.ATTACK),
    )


def comparison(store: Store, attacks: Sequence[RunRecord]) -> str:
    """Return the address that compares attack runs: those like the first, a seed of every system first.

    Where some are on the sound, those like the first of these: studies are judged by what is heard.
    """
    if not attacks:
        return ""
    first = next((run for run in attacks if Tag.DOMAIN in run.tags), attacks[0])
    alike = [run for run in attacks if _kind(run) == _kind(first)]
    alike.sort(key=lambda run: [run.tags.get(tag, "").rjust(12) for tag in (Tag.FOLD, Tag.SEED, Tag.SYSTEM)])
    chosen = alike[:MOST_COMPARED]
    page = comparison_page([run.run_id for run in chosen], [run.experiment_id for run in chosen])
    return store.in_ui(page) if len(chosen) > 1 else ""


def _kind(run: RunRecord) -> tuple[str | None, ...]:
    return tuple(run.tags.get(tag) for tag in (Tag.ATTACK, Tag.NORM, Tag.EPSILON, Tag.DOMAIN, Tag.TIER))


def _tags(stage: str, study: str) -> dict[str, str]:
    return {Tag.STAGE: stage, **({Tag.STUDY: study} if study else {})}


def _key(name: str, study: str) -> str:
    """Return a key that stands for one study alone and may stand in an address."""
    if not study:
        return f"rmer-{name}"
    written = re.sub(r"[^\w.-]", "_", study, flags=re.ASCII)[:40]
    return f"rmer-{name}-{written}" + (f"-{config_digest('', {'': study})[:6]}" if written != study else "")
