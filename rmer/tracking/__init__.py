"""The only room that imports MLflow: opening runs, finding them by tags, logging, models, spool and server.

    store = connect()
    outcome = store.perform(RunSpec("train", "A2E s6", config), body)
    for record in store.find(stage="train", tags={Tag.SYSTEM: "A2E"}): ...

Every write goes to a local journal first and is sent by a background thread, so that a tracking server that
is slow or away never stops a computation.
"""

from __future__ import annotations

import os

# MLflow reads this while it is imported: a research tool sends no usage data unless its user asks for it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from rmer.tracking.delivery.replay import SyncResult
from rmer.tracking.find import RunRecord
from rmer.tracking.lifecycle.run_spec import Outcome, RunSpec
from rmer.tracking.runs import Run
from rmer.tracking.schema import Artifact, Origin, Stage, Tag, config_digest
from rmer.tracking.server.serving import serve
from rmer.tracking.store import Store, connect, mark_wrapper_failed

__all__ = [
    "Artifact",
    "Origin",
    "Outcome",
    "Run",
    "RunRecord",
    "RunSpec",
    "Stage",
    "Store",
    "SyncResult",
    "Tag",
    "config_digest",
    "connect",
    "mark_wrapper_failed",
    "serve",
]
