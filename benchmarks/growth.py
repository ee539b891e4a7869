"""How cost grows: seconds and memory against clips, budgets, seeds, and runs in the store."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from benchmarks.data import SMALL
from benchmarks.evaluation import STEPS, evaluate
from benchmarks.measuring import Result, Row, Settings, Target, silence
from benchmarks.processes import Cost, in_new_process
from benchmarks.stores import scratch_store
from rmer.report.style import GREY, HIGHLIGHT, styled
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.import_published import PUBLISHED as STUDY
from rmer.stages.import_published import ImportParams, import_published
from rmer.tracking import Stage, Store, Tag, connect

CLIPS, EPSILONS = (9, 18, 36, 72), (1, 2, 4, 7)
SEEDS, RUNS = (10, 6, 3), (100, 1000, 10_000)
# What MLflow keeps of a run in a SQL store.
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")
LONGEST = 15.0  # seconds


def cost_growth(settings: Settings) -> Result:
    """Measure every point once, in a process of its own."""
    records: list[tuple[str, int, Cost]] = []
    for clips in CLIPS[:2] if settings.quick else CLIPS:
        records.append(("clips", clips, in_new_process(evaluate, clips, SMALL, 1, threads=1)))
    for epsilons in EPSILONS[:2] if settings.quick else EPSILONS:
        records.append(("budgets", epsilons, in_new_process(evaluate, CLIPS[0], SMALL, epsilons, threads=1)))
    notes = [
        f"Evaluations run on one thread, with {SMALL} frames and {STEPS} steps; those over budgets attack "
        f"{CLIPS[0]} clips."
    ]
    rows = []
    if settings.reference is None:
        notes.append("Growth of the analysis needs the published logs: name a clone with --reference.")
    else:
        found = _analyses(settings.reference, RUNS[:2] if settings.quick else RUNS)
        records += found
        largest, cost = max((amount, cost) for kind, amount, cost in found if kind == "runs in the store")
        name = f"analysis selected by tags from {largest:,} runs (sqlite)"
        rows.append(Row(name, "50 attacked models", cost.seconds, "s", targets=(Target("value", LONGEST),)))
    table = pd.DataFrame(
        [(kind, amount, cost.seconds, cost.megabytes) for kind, amount, cost in records],
        columns=["grows with", "amount", "seconds", "MB"],
    )
    return Result(rows, {"Cost growth": table}, notes, {"cost-growth": growth_figure(table)})


@styled
def growth_figure(table: pd.DataFrame) -> Figure:
    """Draw seconds and memory against each amount; dashed, seconds that grow in proportion to it."""
    kinds = list(dict.fromkeys(table["grows with"]))
    figure = Figure(figsize=(1.9 * len(kinds), 3.4), layout="constrained")
    grid = figure.subplots(2, len(kinds), sharex="col", sharey="row", squeeze=False)
    for kind, times, memory in zip(kinds, *grid, strict=True):
        rows = table[table["grows with"] == kind].sort_values("amount")
        amounts, seconds = rows["amount"].to_numpy(), rows["seconds"].to_numpy()
        times.plot(amounts, seconds[0] * amounts / amounts[0], "--", color=GREY, linewidth=0.8)
        for axes, measured in ((times, seconds), (memory, rows["MB"])):
            axes.plot(amounts, measured, "o-", color=HIGHLIGHT, markersize=3, linewidth=1)
            axes.grid(alpha=0.3, linewidth=0.5)
        memory.set_xscale("log")
        memory.set_xticks(amounts, [f"{amount:,}" for amount in amounts])
        memory.minorticks_off()
        memory.set_xlabel(kind)
    times, memory = grid[:, 0]
    times.set_yscale("log")
    times.set_ylim(table["seconds"].min() / 1.5, table["seconds"].max() * 1.5)
    times.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    times.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    times.yaxis.set_minor_locator(NullLocator())
    times.set_ylabel("seconds")
    memory.set_ylim(0, 1.1 * table["MB"].max())
    memory.set_ylabel("peak memory (MB)")
    return figure


def fill(store: Store, run_id: str, copies: int) -> None:
    """Copy a run of a sqlite store, under another study: logging so many would take minutes."""
    ids = [(uuid.uuid4().hex,) for _ in range(copies)]
    with closing(sqlite3.connect(store.uri.removeprefix("sqlite:///"))) as database, database:
        database.execute("CREATE TEMP TABLE copies (id TEXT)")
        database.executemany("INSERT INTO copies VALUES (?)", ids)
        for table in TABLES:
            names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            values = ["copies.id" if name == "run_uuid" else f"{table}.{name}" for name in names]
            database.execute(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} "
                f"FROM {table}, copies WHERE run_uuid = ?",
                (run_id,),
            )
        for tag, value in ((Tag.STUDY, "'filler'"), (Tag.CONFIG, "run_uuid")):
            database.execute(
                f"UPDATE tags SET value = {value} WHERE key = ? AND run_uuid IN (SELECT id FROM copies)",
                (tag,),
            )


def analyse(uri: str, number: int) -> None:
    """Analyse the imported study; ``number`` makes it another analysis than the one before."""
    analyze(connect(uri), AnalyzeParams(study=STUDY, bootstrap_seed=number))


def _analyses(clone: Path, runs: tuple[int, ...]) -> list[tuple[str, int, Cost]]:
    """Analyse the imported logs in ever larger stores, then fewer and fewer of their seeds."""
    records = []
    with scratch_store() as store:
        with silence():
            import_published(store, ImportParams(source=str(clone)))
        attacked = store.find(Stage.ATTACK)
        present = len(store.search({}))
        for number, amount in enumerate(runs):
            fill(store, attacked[0].run_id, max(0, amount - present))
            present = max(present, amount)
            records.append(("runs in the store", amount, in_new_process(analyse, store.uri, number)))
        seeds = sorted({record.tags[Tag.SEED] for record in attacked}, key=int)
        for kept in SEEDS:
            for record in attacked:
                if record.tags[Tag.SEED] in seeds[kept:]:
                    store.client.delete_run(record.run_id)
            records.append(("seeds", kept, in_new_process(analyse, store.uri, len(runs) + kept)))
    return records
