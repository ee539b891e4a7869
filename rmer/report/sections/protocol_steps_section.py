"""From the published study to the audible domain, a change at a time: tables, figure and sentences."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rmer.attacks.attack_domains import WAVEFORM
from rmer.evaluation.metrics import METRICS
from rmer.evaluation.protocol_steps import STEPS, ProtocolStep
from rmer.report.contents import Contents
from rmer.report.html import ReportFigure, ReportTable, Section
from rmer.report.readable import NO_VALUE, number, tick
from rmer.report.robustness import score_cells, shown_metrics
from rmer.report.style import DIAGONAL, lines_of, styled
from rmer.report.system_tables import is_adversarial

TICKS = dict(
    zip(
        STEPS.values(),
        ("published", "bridge", "corrected\nattack", "corrected\ntraining", "audible"),
        strict=True,
    )
)
COLUMNS = (
    "step", "train_protocol", "attack_protocol", "attack", "epsilon", "budget_held",
    "system", "seeds", "metric", "clean", "clean_std", "adv", "adv_std", "delta", "delta_std",
    "domain", "norm", "level",
)  # fmt: skip


def protocol_steps_section(contents: Contents) -> Section:
    """Return the section, with ``tables/protocol_steps.csv``; the figure needs two steps with runs."""
    steps = contents.steps
    drawn = [step for step in steps if not step.missing]
    data = {"protocol_steps": protocol_steps_table(steps)}
    tables = [
        ReportTable(
            "Bridge: the published attack with its budget enforced and the saved adversaries scored. Best: "
            "attacked score, mean over seeds, of the systems that are not trained adversarially; in brackets "
            "the best of all where it is another one.",
            readable_steps(steps),
        )
    ]
    figures = {}
    if len(drawn) > 1:
        tables.append(ReportTable("Mean ± population standard deviation over seeds.", readable_scores(drawn)))
        figures["protocol_steps"] = ReportFigure(
            "From published to audible",
            "Attacked scores, mean over seeds, step by step; short dashes: clean scores. Dotted: the "
            "constant predictor.",
            protocol_steps_figure(steps),
        )
    return Section("From the published study to the audible domain", _sentences(steps), tables, figures, data)


def protocol_steps_table(steps: Sequence[ProtocolStep]) -> pd.DataFrame:
    """Return ``tables/protocol_steps.csv``, in full precision; missing steps have a row without values."""
    rows: list[dict[Hashable, object]] = []
    for step in steps:
        known: dict[Hashable, object] = {name: getattr(step, name) for name in (*COLUMNS[1:5], *COLUMNS[-3:])}
        known |= {"step": step.title, "budget_held": budget_held(step)}
        rows += [known | row for row in step.scores.to_dict("records")] or [known]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def budget_held(step: ProtocolStep) -> str:
    """Return whether the budget held, in words."""
    if step.missing:
        return NO_VALUE
    if step.violations == 0:
        return "held"
    if math.isnan(step.violations):
        return "not known"
    of = "" if math.isnan(step.perturbations) else f" of {step.perturbations:.0f}"
    return f"did not hold: {step.violations:.0f}{of} exceed it"


def readable_steps(steps: Sequence[ProtocolStep]) -> pd.DataFrame:
    """Return one row a step as text: what it is, whether the budget held, and who looks best."""
    return pd.DataFrame(
        {
            "Step": [step.title for step in steps],
            "Attack": [step.attack or NO_VALUE for step in steps],
            "ε, or level": [_budget(step) for step in steps],
            "Budget": ["no runs" if step.missing else budget_held(step) for step in steps],
            **{
                f"Best by: {_lower(metric.title)}": [best(step, name) for step in steps]
                for name, metric in shown_metrics().items()
            },
            "Also changes": ["; ".join(step.changes) or NO_VALUE for step in steps],
        }
    )


def readable_scores(steps: Sequence[ProtocolStep]) -> pd.DataFrame:
    """Return one row for each step and system as text."""
    rows = [
        {"Step": _name(step), "System": str(system), **score_cells(group, 2)}
        for step in steps
        for system, group in step.scores.groupby("system", sort=False)
    ]
    return pd.DataFrame(rows).fillna(NO_VALUE)


def best(step: ProtocolStep, metric: str) -> str:
    """Return which system has the best attacked score of a step: ``A2M2E 1.16 (all: aA2E 1.08)``."""
    scores = step.scores[step.scores["metric"] == metric]
    if scores.empty or scores["adv"].isna().all():
        return NO_VALUE
    smallest_first = not METRICS[metric].larger_is_better
    ranked = scores.dropna(subset="adv").sort_values("adv", ascending=smallest_first, kind="stable")
    of_all = ranked.iloc[0]
    plain = ranked[[not is_adversarial(name) for name in ranked["system"]]]
    if plain.empty or plain.iloc[0]["system"] == of_all["system"]:
        return f"{of_all['system']} {number(of_all['adv'])}"
    first = plain.iloc[0]
    return f"{first['system']} {number(first['adv'])} (all: {of_all['system']} {number(of_all['adv'])})"


@styled
def protocol_steps_figure(steps: Sequence[ProtocolStep]) -> Figure:
    """Return attacked scores over the steps, a column a metric, a line a system; missing steps are named."""
    lines = lines_of(list(dict.fromkeys(name for step in steps for name in step.scores["system"])))
    metrics = shown_metrics()
    figure = Figure(figsize=(0.1 + 3.1 * len(metrics), 3.4), layout="constrained")
    for axes, (name, metric) in zip(figure.subplots(1, len(metrics)), metrics.items(), strict=True):
        for system, line in lines.items():
            clean, attacked = _along(steps, system, name, "clean"), _along(steps, system, name, "adv")
            axes.plot(range(len(steps)), attacked, label=system, ms=4, lw=1.1, mew=0.8, **line)
            axes.plot(range(len(steps)), clean, "_", ms=9, mew=1.2, color=line["color"], zorder=1)
        if metric.against_constant:
            constants = [step.constant for step in steps]
            axes.plot(range(len(steps)), constants, ":", color=DIAGONAL, lw=0.9, label="constant predictor")
            shown = [value for line in axes.lines for value in np.asarray(line.get_ydata(), float)]
            if np.nanmax(shown) > 12 * np.nanmin(shown) > 0:
                axes.set_yscale("log")
        for place, step in enumerate(steps):
            if step.missing:
                axes.text(
                    place, 0.5, "no runs", transform=axes.get_xaxis_transform(), rotation=90,
                    ha="center", va="center", color="#777777", style="italic",
                )  # fmt: skip
        axes.set_title(metric.title)
        axes.set_xlim(-0.5, len(steps) - 0.5)
        axes.set_xticks(range(len(steps)), [_tick(step) for step in steps])
        axes.tick_params(axis="x", labelsize=7)
        axes.yaxis.set_major_formatter(tick)
        axes.grid(axis="y", linewidth=0.4, color="#eeeeee")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 8), frameon=False)
    return figure


def _sentences(steps: Sequence[ProtocolStep]) -> list[str]:
    sentences = []
    broken = [_name(step) for step in steps if not step.missing and step.violations > 0]
    if broken:
        sentences.append(
            f"No budget held in: {', '.join(broken)}. Its systems are compared at perturbations of different "
            "size, whatever epsilon is named."
        )
    missing = [step.title for step in steps if step.missing]
    if missing:
        sentences.append(
            f"Without runs: {'; '.join(missing)}. Further studies are looked into with the parameter ladder."
        )
    confounded = [_name(step) for step in steps if step.changes]
    if confounded:
        sentences.append(
            f"More than the protocol changes on the way to: {'; '.join(confounded)} (see Also changes), so "
            "that the difference is not due to the step alone."
        )
    return sentences


def _along(steps: Sequence[ProtocolStep], system: str, metric: str, kind: str) -> list[float]:
    values = []
    for step in steps:
        found = step.scores[(step.scores["system"] == system) & (step.scores["metric"] == metric)]
        values.append(float(found[kind].iloc[0]) if len(found) else math.nan)
    return values


def _name(step: ProtocolStep) -> str:
    of = "" if step.domain == WAVEFORM else "ε\N{NO-BREAK SPACE}"
    return f"{step.title}, {of}{_budget(step)}"


def _tick(step: ProtocolStep) -> str:
    if step.missing:
        return TICKS[step.title]
    budget = _budget(step).replace(" ", "\n", 1) if step.domain == WAVEFORM else f"ε {_budget(step)}"
    return f"{TICKS[step.title]}\n{budget}"


def _budget(step: ProtocolStep) -> str:
    if step.domain == WAVEFORM and not math.isnan(step.level):
        return f"{step.norm} {step.level:g} dB"
    return NO_VALUE if math.isnan(step.epsilon) else tick(step.epsilon)


def _lower(title: str) -> str:
    return title if title[:2].isupper() else title.lower()
