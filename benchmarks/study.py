"""The whole study on synthetic data of full size, in slices: ``python -m benchmarks.study --device cuda``.

Each call goes on where the last one stopped, as the runs in the store are the state, and stops after
``--seconds``. It prints what is done and to do, and what it took: see docs/gpu.md.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from benchmarks.machine import facts
from rmer.data.audio.filterbank import BANDS, FPS
from rmer.data.dataset import CONCEPTS, EMOTIONS, Dataset
from rmer.data.splits import album_split, part_column, published_split
from rmer.errors import UserError
from rmer.execution.engine_params import EngineParams
from rmer.execution.scheduler import TimeIsUp, raise_failures, run_jobs
from rmer.stages.study.plan import Plan, StudyParams, make_plan
from rmer.stages.study.study import study_jobs
from rmer.systems.devices import resolve_device
from rmer.tracking import Artifact, Origin, Run, RunRecord, RunSpec, Stage, Store, Tag, config_digest, connect
from rmer.tracking.find import FINISHED
from rmer.tracking.locations import home

SYSTEMS = "A2E,A2B2E,A2M2E,aA2E,aA2B2E,aA2M2E"
STUDY, STAGE = "benchmark", "benchmark"
SLICE = "slice/seconds"
ALBUMS = 45
# What --quick changes: everything is there, and small.
QUICK: dict[str, Any] = {
    "systems": "A2E,aA2M2E",
    "seeds": "6",
    "clips": 30,
    "frames": 16,
    "epochs": 2,
    "adversarial_iterations": 2,
    "max_iters": 10,
    "tier": "quick",
}


@dataclass(frozen=True)
class Part:
    """Jobs of one kind: how many there are, how many are done, and the seconds that were computed.

    ``seconds`` are ``cost/seconds`` of finished runs, and epochs of trainings that were stopped.
    """

    name: str
    jobs: int
    done: int
    seconds: float
    a_run: float | None

    @property
    def projected(self) -> float | None:
        """Seconds of all jobs of this kind, if the others take as long as those done."""
        return None if self.a_run is None else self.a_run * self.jobs


@dataclass(frozen=True)
class Report:
    """What was done so far; ``slices`` are the seconds of each by the clock, whatever was done in them."""

    parts: list[Part]
    slices: list[float]

    @property
    def done(self) -> int:
        """Runs that are finished."""
        return sum(part.done for part in self.parts)

    @property
    def jobs(self) -> int:
        """Runs of the whole study."""
        return sum(part.jobs for part in self.parts)

    @property
    def seconds(self) -> float:
        """All slices together."""
        return sum(self.slices)

    @property
    def projected(self) -> float | None:
        """Seconds of the whole study by the clock, once a job of each kind is done.

        What was computed so far took this long by the clock; the rest is taken to need as much besides.
        """
        whole = [part.projected for part in self.parts]
        computed = sum(part.seconds for part in self.parts)
        if any(value is None for value in whole) or not computed:
            return None
        return sum(value or 0.0 for value in whole) * self.seconds / computed

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "done": self.done,
            "to_do": self.jobs - self.done,
            "seconds": self.seconds,
            "slices": self.slices,
            "projected_seconds": self.projected,
            "parts": [{**asdict(part), "projected": part.projected} for part in self.parts],
        }

    def __str__(self) -> str:
        table = pd.DataFrame([{**asdict(part), "projected": part.projected} for part in self.parts])
        projected = "not known yet" if self.projected is None else f"{self.projected / 60:.1f} minutes"
        return (
            f"{table.to_markdown(index=False, floatfmt='.1f', missingval='-')}\n\n"
            f"{self.done} of {self.jobs} runs in {len(self.slices)} slices of together "
            f"{self.seconds / 60:.1f} minutes; the whole study: {projected}"
        )


def study_plan(device: str, *, quick: bool = False, jobs: int = 1, **changes: Any) -> Plan:
    """Return the plan of the study: corrected training, the published attack, and the suite.

    ``jobs`` of its runs share the device; ``changes`` are other parameters of ``main``. Worker processes make
    the runs, also one at a time: they can be stopped anywhere, and the store is read by another process.
    """
    shared: dict[str, Any] = {"engine": "local", "jobs_at_once": jobs}
    shared |= {"job_gpus": 1 / jobs} if resolve_device(device).type == "cuda" else {}
    given: dict[str, Any] = {"systems": SYSTEMS, "train_protocol": "corrected", "attacks": "published,suite"}
    given |= {"precision": "auto", "clips": 360, **(QUICK if quick else {}), **shared, **changes}
    return make_plan(StudyParams(size="full", domains="spectrogram", study=STUDY, device=device, **given))


def study_slice(store: Store, plan: Plan, seconds: float) -> Report:
    """Go on with a study for so many seconds; raises JobsFailed where a job fails."""
    dataset_run_id = log_dataset(store, plan.params.clips or 0, plan.params.frames or 0)
    jobs = study_jobs(plan, dataset_run_id)

    def body(run: Run) -> None:
        number, started = (run.logged_step(SLICE) or 0) + 1, time.perf_counter()
        try:
            engine = EngineParams.of(plan.params)
            done, failures = run_jobs(store, jobs, engine, owner=run.run_id, title="study", seconds=seconds)
        finally:
            run.metrics({SLICE: time.perf_counter() - started}, step=number)
        raise_failures(run, jobs, done, failures)

    listed = {job.name: job.params.as_dict() for job in jobs}
    config = {"jobs": config_digest(STAGE, listed), "runs": len(jobs)}
    spec = RunSpec(STAGE, f"study of {len(jobs)} runs", config, tags={Tag.ORIGIN: Origin.COMPUTED})
    try:
        run_id = store.perform(spec, body).run_id
    except TimeIsUp:
        run_id = store.search({Tag.STAGE: STAGE}, most=1)[0].run_id
    slices = [value for _, value in store.metric_history(run_id, SLICE)]
    return Report(_parts(store, plan), slices)


def log_dataset(store: Store, clips: int, frames: int) -> str:
    """Log noise whose labels follow the level of its lower and its upper bands; return the id of the run."""

    def body(run: Run) -> None:
        synthetic_dataset(clips, frames).save(run.work_dir / Artifact.DATASET)
        run.file(run.work_dir / Artifact.DATASET)

    config = {"synthetic": "levels", "clips": clips, "frames": frames}
    return store.perform(RunSpec(Stage.PREPROCESS, "synthetic clips", config, study=STUDY), body).run_id


def synthetic_dataset(clips: int, frames: int) -> Dataset:
    """Return clips of all albums with ratings and concepts that can be learnt."""
    rng = np.random.default_rng(5)
    names = (*EMOTIONS, *CONCEPTS)
    levels = rng.uniform(0.2, 0.6, (clips, 2)).astype(np.float32)
    spectrograms = rng.gamma(2.0, 0.2, (clips, frames, BANDS)).astype(np.float32)
    spectrograms *= np.repeat(levels, [BANDS // 2, BANDS - BANDS // 2], axis=1)[:, None, :]
    ratings = 0.5 + (levels - 0.4) @ rng.normal(0, 1, (2, len(names)))
    albums = [f"album {clip % ALBUMS:02d}" for clip in range(clips)]
    table = pd.DataFrame({"clip": [f"{clip + 1:03d}" for clip in range(clips)], "file": "", "album": albums})
    table = table.assign(track="", **dict(zip(names, ratings.clip(0, 1).T, strict=True)))
    table = table.assign(
        spec_mean=spectrograms.mean((1, 2)),
        spec_mean_square=np.square(spectrograms).mean((1, 2)),
        spec_frames=frames,
        excerpt_start=0,
        split_published=part_column(published_split(clips), clips),
        split_album=part_column(album_split(albums, ratings[:, : len(EMOTIONS)]), clips),
    )
    return Dataset(spectrograms, table, EMOTIONS, CONCEPTS, {"fps": FPS})


def _parts(store: Store, plan: Plan) -> list[Part]:
    """Return the kinds of jobs in their order, with what the store holds of each."""
    records = [
        record
        for stage in (Stage.TRAIN, Stage.ATTACK)
        for record in store.search({Tag.STUDY: STUDY, Tag.STAGE: stage})
    ]
    models = len(plan.seeds) * len(plan.folds)
    kinds = {f"train {system.name}": models for system in plan.systems}
    kinds |= {f"attack {name}": len(plan.models) for name in plan.attack_variants}
    parts = []
    for name, jobs in kinds.items():
        own = [record for record in records if _kind(record) == name]
        finished = [record.metrics["cost/seconds"] for record in own if record.status == FINISHED]
        begun = sum(_seconds_of_epochs(store, record) for record in own if record.status != FINISHED)
        a_run = sum(finished) / len(finished) if finished else None
        parts.append(Part(name, jobs, len(finished), sum(finished) + begun, a_run))
    return parts


def _kind(record: RunRecord) -> str:
    if record.tags[Tag.STAGE] == Stage.TRAIN:
        return f"train {record.tags[Tag.SYSTEM]}"
    norm = record.tags[Tag.NORM]
    return f"attack {record.tags[Tag.ATTACK]}" + ("" if norm == "linf" else f" {norm}")


def _seconds_of_epochs(store: Store, record: RunRecord) -> float:
    return sum(value for _, value in store.metric_history(record.run_id, "cost/epoch_seconds"))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:<number>")
@click.option("--seconds", default=540.0, show_default=True, help="length of this slice")
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1), help="jobs that share the device"
)
@click.option("--seeds", default="", help="training seeds, by commas  [default: the ten published]")
@click.option("--compile", is_flag=True, help="compile the gradients of attacks")
@click.option("--quick", is_flag=True, help="everything small: for a look, not for a record")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="store and report  [default: one for this device and size in RMER_HOME]",
)
def main(
    device: str, seconds: float, jobs: int, seeds: str, compile: bool, quick: bool, folder: Path | None
) -> None:
    """Go on with the study on synthetic data, and say what is done and what it took."""
    changes: dict[str, Any] = {"compile": compile, **({"seeds": seeds} if seeds else {})}
    try:
        plan = study_plan(device, quick=quick, jobs=jobs, **changes)
        kind = f"{resolve_device(device).type}{'-quick' if quick else ''}"
        folder = folder or home() / "benchmark" / kind
        folder.mkdir(parents=True, exist_ok=True)
        report = study_slice(connect(f"sqlite:///{folder / 'mlflow.db'}"), plan, seconds)
    except UserError as error:
        click.echo(f"benchmarks: {error}", err=True)
        sys.exit(error.exit_code)
    about = {**facts(resolve_device(device)), "device": kind, "jobs at once": jobs, "compile": compile}
    (folder / "study.json").write_text(json.dumps({**about, **report.as_dict()}, indent=1) + "\n")
    click.echo(f"{report}\n{folder / 'study.json'}")


if __name__ == "__main__":
    main()
