"""How scores are logged: averages as metrics, those of single targets as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from rmer.tracking import Artifact, Run

# Of single emotions these are metrics, too: on the clean test clips and under attack.
KEPT = [f"{group}/{{}}/{metric}" for group in ("test", "adv") for metric in ("mae", "corr")]


def log_scores(
    run: Run,
    scores: Mapping[str, float],
    emotions: Sequence[str],
    concepts: Sequence[str] = (),
    *,
    model: str | None = None,
    dataset: tuple[str, str] | None = None,
) -> None:
    """Log scores called ``group/metric`` or ``group/target/metric``; see :meth:`Run.metrics` for the rest.

    The table has a row for each group and target, and a column for each metric: as metrics, hundreds of them
    would bury those that matter.
    """
    single = {*emotions, *concepts}
    named = {name: name.split("/") for name in scores}
    of_targets = {name: parts for name, parts in named.items() if len(parts) == 3 and parts[1] in single}
    kept = {form.format(emotion) for form in KEPT for emotion in emotions}
    metrics = {name: value for name, value in scores.items() if name not in of_targets or name in kept}
    run.metrics(metrics, model=model, dataset=dataset)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for name, (group, target, metric) in of_targets.items():
        rows.setdefault((group, target), {})[metric] = scores[name]
    table = [{"group": group, "target": target, **row} for (group, target), row in rows.items()]
    run.table(pd.DataFrame(table), Artifact.SCORES)
