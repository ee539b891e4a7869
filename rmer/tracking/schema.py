"""Names that other people's queries rely on: tags, stages, protocols, metric groups, artifact paths.

A change here breaks stored runs: raise :data:`SCHEMA_VERSION` and say so in the changelog.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rmer.old_names import as_digested

SCHEMA_VERSION = "3"
SCHEMA_VERSIONS = ("1", "2", SCHEMA_VERSION)  # what stores may hold
# Digests are of the names of the first version (rmer/old_names.py), so that no run of before is done again.
_DIGESTED = "1"
DEFAULT_EXPERIMENT = "rmer"


class Tag:
    """Tag names. Runs of a study are flat; lineage is in the ``*_run_id`` tags."""

    SCHEMA = "rmer.schema"
    STAGE = "rmer.stage"
    STUDY = "rmer.study"
    CONFIG = "rmer.config"
    ORIGIN = "rmer.origin"
    TIER = "rmer.tier"
    SYSTEM = "rmer.system"
    SEED = "rmer.seed"
    DATASET = "rmer.dataset"
    DATASET_NAME = "rmer.dataset_name"
    WEIGHTS = "rmer.weights"
    TRAIN_PROTOCOL = "rmer.train_protocol"
    ATTACK_PROTOCOL = "rmer.attack_protocol"
    SPLIT_SCHEME = "rmer.split_scheme"
    FOLD = "rmer.fold"  # of a cross-validation: the fold that is tested, from 1
    TRAINED_ON = "rmer.trained_on"  # of attacks on other data than the model's own: digest of its own
    TRAINED_ON_NAME = "rmer.trained_on_name"
    ATTACK = "rmer.attack"
    ATTACK_SEED = "rmer.attack_seed"
    NORM = "rmer.norm"
    EPSILON = "rmer.epsilon"
    DOMAIN = "rmer.domain"  # of attacks on sound: waveform
    BUDGET = "rmer.budget"  # of these, in dB
    SPLIT = "rmer.split"
    BUDGET_HELD = "rmer.budget_held"
    SOUNDTRACKS_DIR = "rmer.soundtracks_dir"  # of preprocess runs: where their clips lay
    DATASET_RUN_ID = "rmer.dataset_run_id"
    TRAIN_RUN_ID = "rmer.train_run_id"
    MODEL_URI = "rmer.model_uri"
    ATTACK_RUN_ID = "rmer.attack_run_id"  # on train runs, followed by .<run id of the attack>
    DUPLICATE_OF = "rmer.duplicate_of"
    JOB = "rmer.job"
    ERROR = "rmer.error"
    OPENING = "rmer.opening"
    RECOMPUTED = "rmer.recomputed"
    DIGESTS = "rmer.digests"  # followed by .<number>: of the run's artifacts
    HOST = "rmer.host"
    PID = "rmer.pid"
    PROCESS_STARTED = "rmer.process_started"
    HEARTBEAT = "rmer.heartbeat"
    GIT_COMMIT = "rmer.git.commit"
    GIT_DIRTY = "rmer.git.dirty"


class Stage:
    """Values of ``rmer.stage``."""

    PREPROCESS = "preprocess"
    TRAIN = "train"
    ATTACK = "attack"
    ANALYZE = "analyze"
    IMPORT = "import"
    STUDY = "study"
    SWEEP = "sweep"
    PREDICT = "predict"


class Origin:
    """Values of ``rmer.origin``."""

    COMPUTED = "computed"
    IMPORTED = "imported"
    EXTERNAL = "external"


class Artifact:
    """Paths inside a run's artifacts."""

    DATASET = "dataset"
    WARNINGS = "dataset/warnings.txt"
    DUPLICATES = "dataset/duplicates.csv"
    CHECKPOINTS = "checkpoints"
    PREDICTIONS = "tables/predictions.csv"
    SCORES = "tables/scores.csv"
    ADVERSARIES = "adversaries/adversaries.npy"
    SOUNDS = "adversaries"
    LISTEN = "listen.html"
    LISTENING = "listening"
    CODECS = "tables/codecs.csv"
    ADVERSARY_CLIPS = "adversaries/clips.csv"
    CURVE = "tables/curve.csv"
    CURVE_CLIPS = "tables/curve_clips.csv"
    SANITY = "tables/sanity.csv"
    PRECISION = "tables/precision.csv"
    REPORT = "report.html"
    SONGS = "predictions.html"


# Group of what an analysis or a study says of several systems, in one section of the UI, the last.
VERSUS = "versus"


def is_time(metric: str) -> bool:
    """Tell whether a metric says how long something took, which is no result."""
    return "second" in metric


def config_digest(stage: str, config: Mapping[str, Any]) -> str:
    """Return the idempotence key: a digest of the stage and of everything that determines its result.

    ``config`` holds plain JSON values; key order does not matter and numbers are compared as numbers
    (``1`` equals ``1.0``).
    """
    text = json.dumps([_DIGESTED, stage, _plain(as_digested(config))], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, float)):
        return repr(float(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(f"a configuration value must be plain JSON, not {type(value).__name__}")
