"""The tables of an analysis as one reads or prints them: rounded text, Markdown, LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from rmer.evaluation.metrics import METRICS
from rmer.evaluation.statistics import PAIRED_T_POOLED, PAIRED_T_SEEDS, WELCH_SEEDS

# Clean correlation on Soundtracks as Chowdhury et al. (ISMIR 2019) report it; they give no MAE.
REPORTED_2019 = {"A2E": 0.76, "A2M2E": 0.75}

READABLE_COLUMNS = {
    "System": "",
    "Seeds": "",
    "Clean corr.": "clean_corr",
    "Clean MAE": "clean_mae",
    "Adv. corr.": "adv_corr",
    "Adv. MAE": "adv_mae",
    "ΔMAE": "delta_mae",
    "Median ΔMAE": "delta_mae_median",
    "Adv. MAE, clipped": "adv_mae_clipped",
}
NO_VALUE = "-"
TEST_NAMES = {
    PAIRED_T_POOLED: "paired t, clips of all seeds pooled (as published)",
    PAIRED_T_SEEDS: "paired t, one score a seed",
    WELCH_SEEDS: "Welch's t, one score a seed",
}
SCORE_KINDS = {"adv": "attacked", "delta": "Δ"}
NORM_NAMES = {"linf": "L∞", "l2": "L2"}
SOUND_NORM_NAMES = {"masking": "masking", "snr": "SNR", "linf": "largest sample"}


def readable_table(systems: pd.DataFrame, reported: Mapping[str, float] = REPORTED_2019) -> pd.DataFrame:
    """Return the systems table as text, ``.73 ± .02``, below the ``reported`` correlations of 2019.

    These belong to Soundtracks: pass an empty mapping for other data.
    """
    rows = [
        dict.fromkeys(READABLE_COLUMNS, NO_VALUE)
        | {"System": f"{system} (2019)", "Clean corr.": number(value)}
        for system, value in reported.items()
    ]
    for row in systems.to_dict("records"):
        cells = {"System": str(row["system"]), "Seeds": str(row["seeds"])}
        for title, column in READABLE_COLUMNS.items():
            if f"{column}_std" in row:
                cells[title] = mean_and_std(row[column], row[f"{column}_std"])
            elif column:
                cells[title] = number(row[column])
        rows.append(cells)
    return pd.DataFrame(rows, columns=list(READABLE_COLUMNS))


def readable_attacks(attacks: pd.DataFrame) -> pd.DataFrame:
    """Return the table of attacks as text."""
    budget = [
        NO_VALUE if math.isnan(violations) else f"{violations:.0f} of {clips}"
        for violations, clips in zip(attacks["violations"], attacks["clips"], strict=True)
    ]
    return pd.DataFrame(
        {
            "System": attacks["system"],
            "Median L2": [number(value) for value in attacks["l2_median"]],
            "Largest L∞": [number(value, 4) for value in attacks["linf_max"]],
            "Signal to perturbation (dB)": [number(value, 1) for value in attacks["snr_db"]],
            "Budget exceeded": budget,
            "Predictions off scale": [f"{100 * value:.0f} %" for value in attacks["outside_scale"]],
            "MAE of saved adversaries": [number(value) for value in attacks["rescored_mae"]],
            "MAE of a constant": [number(value) for value in attacks["constant_mae"]],
        }
    )


def readable_tests(tests: pd.DataFrame) -> pd.DataFrame:
    """Return the tests as text."""
    return pd.DataFrame(
        {
            "Test": [TEST_NAMES.get(name, name) for name in tests["test"]],
            "Score": [_score(name) for name in tests["metric"]],
            "a": tests["a"],
            "b": tests["b"],
            "n": tests["n"].astype(str),
            "Statistic": [number(value) for value in tests["statistic"]],
            "p": [p_value(value) for value in tests["p"]],
        }
    )


def _score(metric: str) -> str:
    """Return a score as it is read: ``clipped MAE, attacked``."""
    kind, _, name = metric.partition("/")
    return f"{METRICS[name].phrase}, {SCORE_KINDS[kind]}"


def markdown(table: pd.DataFrame) -> str:
    """Return a text table as Markdown; columns but the first are centred."""
    align = ["left", *["center"] * (table.shape[1] - 1)]
    return f"{table.to_markdown(index=False, colalign=align, disable_numparse=True)}\n"


def grouped(titles: Sequence[str]) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the two lines of a table's head whose titles are like ``MAE: clean``: groups, titles below.

    A group is its name, empty for a column without one, and the number of its neighbouring columns.
    """
    groups: list[tuple[str, int]] = []
    below = []
    for title in titles:
        group, _, rest = title.rpartition(": ")
        below.append(rest)
        if group and groups and groups[-1][0] == group:
            groups[-1] = (group, groups[-1][1] + 1)
        else:
            groups.append((group, 1))
    return groups, below


def number(value: float, digits: int = 2) -> str:
    """Return a number without its leading zero: ``.73``, ``-.32``, ``1.79``; a dash where it has no value."""
    if not math.isfinite(value):
        return NO_VALUE
    text = f"{value:.{digits}f}"
    return _without_zero(text.removeprefix("-") if float(text) == 0 else text)


def _without_zero(text: str) -> str:
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def mean_and_std(mean: float, std: float, digits: int = 2) -> str:
    """Return ```.73 ± .02```."""
    return f"{number(mean, digits)} ± {number(std, digits)}" if math.isfinite(mean) else NO_VALUE


def over_seeds(mean: float, std: float, seeds: int, digits: int = 2) -> str:
    """Return ```.73 ± .02```, or the mean alone where a single seed has no spread."""
    return mean_and_std(mean, std, digits) if seeds > 1 else number(mean, digits)


def tick(value: float, _: object = None) -> str:
    """Return the label of an axis' tick: ```.175```, ```.1```, ```2```."""
    return _without_zero(f"{value:.3g}")


def interval(low: float, high: float, digits: int = 3) -> str:
    """Return ``-.012 to .034``; a dash where it has no value."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NO_VALUE
    return f"{number(low, digits)} to {number(high, digits)}"


def epsilon_in_words(epsilon: float) -> str:
    """Return ``.01``."""
    return f"{epsilon:g}".removeprefix("0")


def budget_in_words(norm: str, epsilon: str) -> str:
    """Return ``L-inf .01``."""
    size = epsilon_in_words(float(epsilon)) if epsilon else ""
    return f"{ {'linf': 'L-inf', 'l2': 'L2'}.get(norm, norm) } {size}".strip()


def sound_budget_in_words(norm: str, budget: float | None) -> str:
    """Return a budget of sounds in dB in words: ``6 dB below what the music masks``."""
    if budget is None:
        return f"several budgets ({norm})"
    if norm == "snr":
        return f"a signal-to-noise ratio of {budget:g} dB"
    if norm == "linf":
        return f"a largest sample of {budget:g} dBFS"
    if budget == 0:
        return "what the music masks"
    return f"{abs(budget):g} dB {'below' if budget < 0 else 'above'} what the music masks"


def and_list(names: Sequence[str]) -> str:
    """Return names as in a sentence: ``A2E, A2B2E and A2M2E``."""
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def in_words(name: str) -> str:
    """Return the name of a concept or a check as it is read: ``L2 at least L-inf``."""
    return name.replace("_", " ").replace("l2 ", "L2 ").replace("linf", "L-inf")


def p_value(value: float) -> str:
    """Return a p value with three decimals, or two digits and an exponent below .001."""
    return f"{value:.1e}" if value < 0.001 else number(value, 3)
