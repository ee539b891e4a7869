"""Import of the published logs, analysis, and what logging costs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from benchmarks.measuring import Result, Settings, Way, compare, interleave, timed
from benchmarks.reference import Published
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.import_published import PUBLISHED as STUDY
from rmer.stages.import_published import ImportParams, import_published
from rmer.tracking import Run, RunSpec, Stage, Store, connect

EPOCHS, METRICS = 200, 10


@contextmanager
def scratch_store() -> Iterator[Store]:
    """Open a new sqlite store in a folder of its own, and forget it afterwards."""
    before = os.environ.get("RMER_HOME")
    with tempfile.TemporaryDirectory() as name:
        os.environ["RMER_HOME"] = f"{name}/home"
        try:
            yield connect(f"sqlite:///{name}/mlflow.db")
        finally:
            if before is None:
                del os.environ["RMER_HOME"]
            else:
                os.environ["RMER_HOME"] = before


def logs_and_analysis(settings: Settings) -> Result:
    """Time the import of the 50 published logs and their analysis; needs the clone, which holds the logs."""
    if settings.reference is None:
        return Result(notes=["Import and analysis need the published logs: name a clone with --reference."])
    code = Published(settings.reference)
    source = ImportParams(source=str(settings.reference))
    with scratch_store() as store:
        imported = timed(lambda: import_published(store, source))
        seeds = count(1)  # the same analysis is logged once

        def ours() -> None:
            analyze(store, AnalyzeParams(study=STUDY, bootstrap_seed=next(seeds)))

        ways: dict[str, Way] = {"published tables and tests": code.performance, "analyze": ours}
        times = interleave(ways, repeats=max(1, settings.repeats // 2), seconds=settings.seconds)
    rows = compare("import of the 50 published logs as 100 runs", {"sqlite": [imported]})
    rows += compare("analysis of 50 attacked models", times)
    note = (
        "The published scripts print a table and two t-tests out of their log files; analyze adds tests "
        "over seeds, bootstrap intervals, figures and a report, and logs them."
    )
    return Result(rows, notes=[note])


def logging_overhead(settings: Settings) -> Result:
    """Time what logging an epoch's metrics takes from the computation, and until they are in the store."""
    numbers, blocked = count(), []

    def whole() -> None:
        spec = RunSpec(Stage.TRAIN, "benchmark", {"number": next(numbers)})

        def body(run: Run) -> None:
            started = time.perf_counter()
            for epoch in range(EPOCHS):
                run.metrics({f"val/{name}": float(epoch) for name in range(METRICS)}, step=epoch)
            blocked.append(time.perf_counter() - started)

        store.perform(spec, body)

    with scratch_store() as store:
        times = interleave({"until in the store": whole}, repeats=settings.repeats, seconds=settings.seconds)
    shown = {"in the computation": blocked[-len(times["until in the store"]) :], **times}
    return Result(compare(f"logging {METRICS} metrics of an epoch", shown, amounts=float(EPOCHS)))
