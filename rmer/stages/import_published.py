"""Stage ``import``: the published attack logs as train and attack runs, in the form of the project's own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from rmer.data.dataset import EMOTIONS
from rmer.data.published_logs import PublishedLog, read_published_logs
from rmer.errors import UserError
from rmer.evaluation.attacked import attack_metrics, named_columns, with_errors
from rmer.evaluation.metrics import constant_mae, regression_scores
from rmer.parameters import Parameters, name_choice, place
from rmer.report.readable import budget_in_words
from rmer.stages.descriptions import attacked_result, description, trained_result, worst_clip
from rmer.stages.run_names import budget_name, run_name
from rmer.stages.score_logging import log_scores
from rmer.systems.catalogue import CATALOGUE
from rmer.tracking import Artifact, Origin, Outcome, Run, RunSpec, Stage, Store, Tag
from rmer.training.protocol import resolve_fit

# Cells of a published excerpt, 313 frames of 149 bands: what bounds an L2 norm under an L-inf budget.
CELLS = 313 * 149
PUBLISHED = "published"


@dataclass(frozen=True)
class ImportParams(Parameters):
    """Parameters of ``import_published``."""

    source: str = place("", "clone of the published repository, or its runs/adversaries")
    study: str = name_choice(PUBLISHED, "name of the group of runs")


def import_published(store: Store, params: ImportParams) -> Outcome:
    """Import the 50 published logs; what the study has already is left as it is.

    Returns the outcome of the importing run. Raises UserError, before any run is opened, where the logs are
    missing or malformed.
    """
    if not params.source:
        mend = "Clone https://github.com/CPJKU/robustness_mer_bottleneck and name its folder"
        raise UserError("no folder given", where="parameter source", mend=mend)
    logs = read_published_logs(Path(params.source).expanduser())
    content = hashlib.sha256("".join(log.digest for log in logs).encode()).hexdigest()[:16]
    study, config = params.study or None, {"logs": content, "runs": len(logs)}
    tags = {Tag.ORIGIN: Origin.IMPORTED, Tag.DATASET: logs[0].labels_digest}
    spec = RunSpec(Stage.IMPORT, "published logs", config, tags, study)
    outcome = store.perform(spec, lambda run: _body(run, store, logs, study))
    if outcome.skipped:
        _import_logs(store, logs, study)  # runs that somebody deleted since then
    return outcome


def _body(run: Run, store: Store, logs: Sequence[PublishedLog], study: str | None) -> None:
    table = _import_logs(store, logs, study)
    run.table(table, "tables/runs.csv")
    run.metrics({"import/runs": 2 * len(table), "import/clips": sum(len(log.clips) for log in logs)})
    links = "\n".join(
        f"- {row.system} seed {row.seed}: trained `{row.train_run_id}`, attacked `{row.attack_run_id}`"
        for row in table.itertuples()
    )
    run.note(f"Logs of the published study (Hoedt, Flexer and Widmer, SMC 2025).\n\n{links}\n")


def _import_logs(store: Store, logs: Sequence[PublishedLog], study: str | None) -> pd.DataFrame:
    """Import every log that the study lacks; return run ids, one row a log."""
    done = {
        record.tags.get(Tag.CONFIG, ""): record
        for record in store.find(tags={Tag.ORIGIN: Origin.IMPORTED}, study=study)
    }
    rows = []
    for log in tqdm(logs, desc="importing", unit="log", leave=False):
        spec = _train_spec(log, study)
        trained = done.get(spec.digest)
        train_run_id = trained.run_id if trained else store.perform(spec, partial(_log_train, log)).run_id
        spec = _attack_spec(log, study, train_run_id)
        attacked = done.get(spec.digest)
        if attacked is None:
            attack_run_id = store.perform(spec, partial(_log_attack, log, train_run_id)).run_id
        else:
            attack_run_id = attacked.run_id
            if attacked.tags.get(Tag.TRAIN_RUN_ID) != train_run_id:  # which took the place of a deleted one
                store.set_tags(attack_run_id, {Tag.TRAIN_RUN_ID: train_run_id})
                store.set_tags(train_run_id, _link(attack_run_id, log))
        rows.append((log.system, log.seed, log.run, train_run_id, attack_run_id))
    return pd.DataFrame(rows, columns=["system", "seed", "source_run", "train_run_id", "attack_run_id"])


def _link(attack_run_id: str, log: PublishedLog) -> dict[str, str]:
    budget = budget_in_words("linf", str(log.hparams["clip_eps"]))
    return {f"{Tag.ATTACK_RUN_ID}.{attack_run_id}": f"{PUBLISHED}, {budget}"}


def _train_spec(log: PublishedLog, study: str | None) -> RunSpec:
    tags = _tags(log)
    fit = resolve_fit(CATALOGUE[log.system], "published", seed=log.seed)
    return RunSpec(
        stage=Stage.TRAIN,
        name=run_name(log.system, f"s{log.seed}"),
        config={
            "system": log.system,
            "dataset": tags[Tag.DATASET],
            "split_scheme": PUBLISHED,
            "normalised_on": "all",
            **fit.values(),
            "source_run": log.run,
            "source_log": log.digest,
        },
        tags=tags,
        study=study,
    )


def _attack_spec(log: PublishedLog, study: str | None, train_run_id: str) -> RunSpec:
    tags = _tags(log)
    return RunSpec(
        stage=Stage.ATTACK,
        name=run_name(log.system, f"s{log.seed}", PUBLISHED, budget_name("linf", log.hparams["clip_eps"])),
        config={
            "attack": PUBLISHED,
            "attack_protocol": PUBLISHED,
            "system": log.system,
            "seed": log.seed,
            "dataset": tags[Tag.DATASET],
            "split": "test",
            "norm": "linf",
            "epsilon": float(log.hparams["clip_eps"]),
            **log.hparams,
            "source_run": log.run,
            "source_log": log.digest,
        },
        tags={
            **tags,
            Tag.ATTACK: PUBLISHED,
            Tag.ATTACK_PROTOCOL: PUBLISHED,
            Tag.NORM: "linf",
            Tag.EPSILON: f"{log.hparams['clip_eps']:g}",
            Tag.SPLIT: "test",
            Tag.BUDGET_HELD: "true" if budget_violations(log) == 0 else "false",
            Tag.TRAIN_RUN_ID: train_run_id,
        },
        study=study,
    )


def budget_violations(log: PublishedLog) -> int:
    """Count clips whose logged L2 norm no perturbation within the L-inf budget can reach."""
    return int((log.clips["l2"] > float(log.hparams["clip_eps"]) * math.sqrt(CELLS)).sum())


def _tags(log: PublishedLog) -> dict[str, str]:
    return {
        Tag.ORIGIN: Origin.IMPORTED,
        Tag.SYSTEM: log.system,
        Tag.SEED: str(log.seed),
        Tag.TRAIN_PROTOCOL: PUBLISHED,
        Tag.SPLIT_SCHEME: PUBLISHED,
        Tag.DATASET: log.labels_digest,
    }


def _log_train(log: PublishedLog, run: Run) -> None:
    """Log what a published log says about the trained model: its predictions for the clean test clips."""
    labels, clean = _values(log, "label"), _values(log, "clean")
    scores = regression_scores(labels, clean, EMOTIONS).named("test", "emotion")
    log_scores(run, scores, EMOTIONS)
    columns = named_columns("label_", EMOTIONS, labels) | named_columns("pred_", EMOTIONS, clean)
    table = pd.DataFrame({"clip": log.clips["clip"], "split": "test", **columns})
    run.table(table, Artifact.PREDICTIONS)
    _log_dataset(run, log)
    what = f"{log.system}, seed {log.seed}, imported from a published attack log"
    links = {"predictions": run.page(Artifact.PREDICTIONS)}
    more = ["Test predictions out of the log of an attack. There is no model."]
    run.note(description(what, trained_result(scores), links, more))


def _log_attack(log: PublishedLog, train_run_id: str, run: Run) -> None:
    """Log a published attack: scores, norms and the per-clip table. There are no saved adversaries."""
    run.tag_other(train_run_id, _link(run.run_id, log))
    labels, clean, adversarial = (_values(log, kind) for kind in ("label", "clean", "adv"))
    metrics = {
        **attack_metrics(labels, clean, adversarial, EMOTIONS),
        # Logs lack the training labels; of all constants this one is best for squared error.
        "constant/mae": constant_mae(labels, labels),
        "perturbation/l2": float(log.clips["l2"].mean()),
        "budget/violations": budget_violations(log),
    }
    log_scores(run, metrics, EMOTIONS)
    first = ["clip", "album", "iterations", "converged", "threshold", "linf", "l2", "db"]
    rest = [f"{kind}_{emotion}" for kind in ("label", "clean", "adv") for emotion in EMOTIONS]
    table = with_errors(log.clips.assign(album="", linf=np.nan)[first + rest], EMOTIONS)
    run.table(table, Artifact.ADVERSARY_CLIPS)
    run.ui_table(table, "per_clip.json")
    _log_dataset(run, log)
    what = f"{log.system}, seed {log.seed}, under the published attack, imported from its log"
    links = {"model": run.page(of=train_run_id), "clips": run.page("per_clip.json")}
    notes = (
        "`adv_*` is the prediction for the last iterate, `l2` the norm of the perturbation that was kept. "
        "Constant predictor: mean label of the attacked clips."
    )
    result = f"{attacked_result(metrics)} {worst_clip(table, EMOTIONS)}"
    run.note(description(what, result, links, [notes]))


def _log_dataset(run: Run, log: PublishedLog) -> None:
    run.dataset_input("soundtracks", log.labels_digest, source={"source_run": log.run}, context="test")


def _values(log: PublishedLog, kind: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return log.clips[[f"{kind}_{emotion}" for emotion in EMOTIONS]].to_numpy(np.float64)
