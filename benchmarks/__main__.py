"""All benchmarks: ``python -m benchmarks --reference CLONE`` (see docs/benchmarks.md)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import click
import torch
from matplotlib.figure import Figure

from benchmarks.damage import search_strength, time_to_damage
from benchmarks.evaluation import peak_memory
from benchmarks.gradients import attack_gradients
from benchmarks.growth import cost_growth
from benchmarks.machine import ISAS, facts, held_to
from benchmarks.measuring import Result, Settings
from benchmarks.preprocess import preprocessing
from benchmarks.scheduler import scheduling
from benchmarks.stores import logging_overhead, logs_and_analysis
from benchmarks.table import around_results, as_json, as_markdown, as_metrics, write_page
from benchmarks.tiers import tiers
from benchmarks.training import adversarial_epoch, corrected_adversarial_epoch, training_epoch
from rmer.errors import UserError
from rmer.systems.devices import resolve_device
from rmer.tracking import Origin, Run, RunSpec, Tag, connect

BENCHMARKS: dict[str, Callable[[Settings], Result]] = {
    "gradients": attack_gradients,
    "training": training_epoch,
    "adversarial": adversarial_epoch,
    "corrected": corrected_adversarial_epoch,
    "strength": search_strength,
    "damage": time_to_damage,
    "tiers": tiers,
    "preprocess": preprocessing,
    "analysis": logs_and_analysis,
    "logging": logging_overhead,
    "memory": peak_memory,
    "scheduler": scheduling,
    "growth": cost_growth,
}
STAGE, PAGE = "benchmark", "benchmarks.md"
QUICK_REPEATS, QUICK_SECONDS = 3, 10.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--reference",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="clone of the published repository, to be compared with",
)
@click.option(
    "--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="this benchmark alone; may be repeated"
)
@click.option("--quick", is_flag=True, help="smaller: for a look, not for a record")
@click.option(
    "--repeats", default=5, show_default=True, type=click.IntRange(1), help="rounds of each benchmark"
)
@click.option(
    "--seconds", default=60.0, show_default=True, help="no further round of a benchmark after these"
)
@click.option(
    "--device", default="cpu", show_default=True, help="of gradients and training: cpu, cuda, cuda:<number>"
)
@click.option(
    "--isa",
    default="",
    type=click.Choice(["", *ISAS]),
    help="hold the CPU to older instructions  [default: its own]",
)
@click.option("--threads", default=0, help="threads of torch  [default: one a core]")
@click.option("--store", default="", help="tracking store of --model  [default: MLFLOW_TRACKING_URI]")
@click.option(
    "--model", default="", help="id of the train run to attack  [default: a small one, trained now]"
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="folder of benchmarks.md to write the results into, with benchmarks.json and the figures",
)
@click.option("--log/--no-log", default=True, show_default=True, help="log an MLflow run too")
def main(
    reference: Path | None,
    only: tuple[str, ...],
    quick: bool,
    repeats: int,
    seconds: float,
    device: str,
    isa: str,
    threads: int,
    store: str,
    model: str,
    output: Path | None,
    log: bool,
) -> None:
    """Measure the project against the published code and against plain matrix products."""
    if isa and held_to() != isa:
        # Libraries read it when they load: a new process.
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env=os.environ | ISAS[isa], check=False).returncode)
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    if quick:
        repeats, seconds = min(repeats, QUICK_REPEATS), min(seconds, QUICK_SECONDS)
    clone = None if reference is None else reference.resolve()
    try:
        if output is not None:
            _require_page(output, isa)
        settings = Settings(repeats, seconds, clone, quick, store, model, resolve_device(device))
        about = facts(settings.device)
        results = run(settings, only or tuple(BENCHMARKS))
    except UserError as error:
        click.echo(f"benchmarks: {error}", err=True)
        sys.exit(error.exit_code)
    markdown = as_markdown(results, about)
    click.echo(markdown)
    shown = {name: value for name, value in asdict(settings).items() if name not in ("reference", "store")}
    shown["published"] = reference is not None
    content = as_json(results, about, shown)
    if output is not None:
        write(output, results, markdown, content, isa)
    if log:
        log_run(results, about, markdown, content)


def run(settings: Settings, names: tuple[str, ...]) -> dict[str, Result]:
    """Run benchmarks by name, telling on standard error which one is on."""
    results = {}
    for name in names:
        started = time.perf_counter()
        click.echo(f"{name} ...", err=True)
        results[name] = BENCHMARKS[name](settings)
        click.echo(f"{name}: {time.perf_counter() - started:.0f} s", err=True)
    return results


def write(
    folder: Path, results: Mapping[str, Result], markdown: str, content: dict[str, object], isa: str = ""
) -> None:
    """Write the results into a folder's page, beside it as JSON, and the figures into its ``images``.

    A CPU that was held to older instructions has a section and a file of its own, and no figures.
    """
    if not isa:
        (folder / "images").mkdir(exist_ok=True)
        for name, figure in _figures(results):
            figure.savefig(folder / "images" / f"{name}.png", dpi=150)
    file = f"benchmarks-{isa.lower()}.json" if isa else "benchmarks.json"
    (folder / file).write_text(json.dumps(content, indent=1) + "\n")
    write_page(folder / PAGE, markdown, isa)


def log_run(
    results: Mapping[str, Result], about: Mapping[str, str], markdown: str, content: dict[str, object]
) -> None:
    """Log an MLflow run of stage ``benchmark``; the date is part of what it is."""

    def body(run: Run) -> None:
        run.metrics(as_metrics(results))
        run.json(content, "benchmarks.json")
        run.text(markdown, PAGE)
        for name, figure in _figures(results):
            run.figure(figure, f"figures/{name}")

    name = f"benchmarks | {about['CPU']}, {about['cores']} cores"
    spec = RunSpec(STAGE, name, {**about, "measured": sorted(results)}, tags={Tag.ORIGIN: Origin.COMPUTED})
    outcome = connect().perform(spec, body)
    click.echo(f"logged: run {outcome.run_id}", err=True)


def _require_page(folder: Path, isa: str) -> None:
    """Raise UserError where results would have no place: now, and not when they are there."""
    try:
        around_results(folder / PAGE, isa)
    except (OSError, ValueError) as error:
        mend = "Name docs, or a folder with such a page"
        raise UserError(f"no page for the results ({error})", where=f"output {folder}", mend=mend) from error


def _figures(results: Mapping[str, Result]) -> list[tuple[str, Figure]]:
    return [item for result in results.values() for item in result.figures.items()]


if __name__ == "__main__":
    main()
