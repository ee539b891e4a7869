"""Addresses in MLflow's UI: runs, their files, comparisons, and lists of runs that are prepared.

A page is what follows the address of the UI (``#/experiments/...``), which descriptions of runs link to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from rmer.tracking.find import quoted

# Where `mlflow ui` serves a store that has no server of its own.
LOCAL = "http://127.0.0.1:5000"
# Experiments have this tag for a list of runs that is shared, followed by its key.
SHARED = "mlflow.sharedViewState."
METRIC_WIDTH = 130  # pixels, for the longest name of a metric
# Without it the UI opens in its mode for language models, which hides runs of training.
TRAINING = {"workflowType": "machine_learning"}


@dataclass(frozen=True)
class View:
    """A list of runs of one experiment.

    ``key`` names it; ``tags`` are those that the runs have; ``order`` is the metric that sorts them, the
    largest first; ``columns`` are the metrics and tags that are shown.
    """

    key: str
    tags: Mapping[str, str]
    order: str
    metrics: Sequence[str] = ()
    shown_tags: Sequence[str] = ()

    @property
    def facets(self) -> dict[str, Any]:
        """What selects and sorts runs, which an address can say by itself."""
        clauses = [f"tags.`{tag}` = {quoted(value)}" for tag, value in self.tags.items()]
        return {
            "searchFilter": " AND ".join(clauses),
            "orderByKey": f"metrics.`{self.order}`",
            "orderByAsc": False,
        }

    @property
    def state(self) -> str:
        """What the UI keeps of a shared list of runs, as the text of a tag."""
        metrics = [f"metrics.`{name}`" for name in self.metrics]
        columns = metrics + [f"tags.`{name}`" for name in self.shown_tags]
        return json.dumps(
            {
                **self.facets,
                "selectedColumns": columns,
                "columnOrder": ["attributes.`Run Name`", *columns, "runDateAndNestInfo", "duration"],
                "columnWidths": dict.fromkeys(metrics, METRIC_WIDTH),
            }
        )

    def shared_page(self, experiment_id: str) -> str:
        """Return the page of the list, once the experiment has its tag."""
        return _list(experiment_id, {"viewStateShareKey": self.key})

    def plain_page(self, experiment_id: str) -> str:
        """Return the page of the same runs in the same order with the UI's own columns."""
        facets = {key: str(value).lower() if value is False else value for key, value in self.facets.items()}
        return _list(experiment_id, facets)


def run_page(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Return the page of a run, or of one of its files."""
    file = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}{file}?{urlencode(TRAINING)}"


def comparison_page(run_ids: Sequence[str], experiment_ids: Sequence[str]) -> str:
    """Return the page that compares runs."""
    named = {"runs": list(run_ids), "experiments": list(dict.fromkeys(experiment_ids))}
    given = {name: json.dumps(ids, separators=(",", ":")) for name, ids in named.items()}
    return f"#/compare-runs?{urlencode({**given, **TRAINING})}"


def _list(experiment_id: str, given: Mapping[str, str]) -> str:
    return f"#/experiments/{experiment_id}/runs?{urlencode({**TRAINING, **given})}"
