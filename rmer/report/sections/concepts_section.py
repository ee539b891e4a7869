"""The report's part on concepts: what attacks do to them, over seeds, and why some systems have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmer.evaluation.concepts import AttackedConcepts, movement_table, shift_table
from rmer.evaluation.interventions import repair_table
from rmer.evaluation.leakage import BETWEEN, TASK, leakage_means, leakage_table
from rmer.report.concept_figures import (
    REPLACEMENTS,
    Systems,
    concept_effects,
    concept_movement,
    concept_repair,
    concept_shift,
    concept_weights,
    replacement,
)
from rmer.report.contents import Contents
from rmer.report.html import ReportFigure, ReportTable, Section
from rmer.report.readable import in_words, mean_and_std, number
from rmer.systems.catalogue import known_system

LIMITS = (
    "These are statements about models, exact because the layer from concepts to emotions is linear. A "
    "shifted concept is what the model takes the attacked clip for, not what a listener would hear. Concepts "
    "go together in music, so a weight is not the influence of one concept alone, and replacing one concept "
    "may make a combination that the model has never seen."
)


def reason_without(system: str) -> str:
    """Return why a system of this name is not explained by concepts (a phrase without a full stop)."""
    known = known_system(system)
    if known is None:
        return "no units that are known to stand for rated concepts"
    if known.fitted_at_once:
        return "features that nobody rates for units; tables/feature_*.csv of its suites tell what moves them"
    if not known.has_bottleneck:
        return "no bottleneck, the emotions follow from the features of the convolutions directly"
    if known.permuted_concepts:
        return "units trained on the ratings of other clips, so that the concepts' names would mislead"
    if not known.supervises_concepts:
        return (
            "units trained through the emotions alone, so that nothing says what one stands for and mixtures "
            "of them would serve as well"
        )
    return "no explanation in the attack runs: only the suite logs one, and only where concepts are rated"


def concepts_section(contents: Contents) -> Section:
    """Return the section, with ``tables/concept_*.csv`` of systems that are explained."""
    systems, reasons = contents.explained, dict[str, list[str]]()
    for name, reason in contents.unexplained.items():
        reasons.setdefault(reason, []).append(name)
    leakage = {name: over_seeds([_leakage(model) for model in models]) for name, models in systems.items()}
    paragraphs = [
        " ".join([*findings(name, models), *_leaks(leakage[name])]) for name, models in systems.items()
    ]
    paragraphs += [LIMITS] if systems else []
    paragraphs += [f"Not explained: {', '.join(names)} ({reason})." for reason, names in reasons.items()]
    if not systems:
        return Section("Concepts", paragraphs)
    figures = _figures(systems, contents.emotions)
    tables = _readable(systems)
    if any(table[TASK].notna().any() for table in leakage.values()):
        tables.append(_readable_leakage(leakage))
    data = {**concept_tables(systems), "concept_leakage": _leakage_data(systems, leakage)}
    return Section("Concepts", paragraphs, tables, figures, data)


def findings(name: str, models: Sequence[AttackedConcepts]) -> list[str]:
    """Return sentences on one system: what is moved, what carries the movement, what repairs it."""
    shift = over_seeds([shift_table(model) for model in models])
    if shift["share"].isna().any():
        return [f"{name}: the attack moves no concept."]
    most = shift.iloc[int(shift["shift_abs_spreads"].fillna(0).to_numpy().argmax())]
    carriers = shift.sort_values("share", ascending=False, kind="stable").head(3)
    carried = ", ".join(
        f"{in_words(concept)} {100 * share:.0f} %"
        for concept, share in zip(carriers["concept"], carriers["share"], strict=True)
    )
    sentences = [
        f"{name}: the attack moves {in_words(most['concept'])} furthest, by {number(most['shift_abs'], 3)} "
        f"on average, {number(most['shift_abs_spreads'], 1)} times its spread over clean clips. Most of the "
        f"emotions' movement goes through {carried}."
    ]
    return sentences + _repairs([repair_table(model) for model in models])


def concept_tables(systems: Systems) -> dict[str, pd.DataFrame]:
    """Return artifact name -> table in full precision: means and population standard deviations over seeds.

    The columns of :func:`shift_table`, :func:`movement_table` and :func:`repair_table` (without the concept
    of each step, which differs between seeds), after ``system`` and ``seeds``; ``<column>_std`` for each.
    """

    def joined(table: Callable[[AttackedConcepts], pd.DataFrame]) -> pd.DataFrame:
        frames = [
            over_seeds([table(model) for model in models]).assign(system=name, seeds=len(models))
            for name, models in systems.items()
        ]
        together = pd.concat(frames, ignore_index=True)
        return together[["system", "seeds", *together.columns[:-2]]]

    return {
        "concept_shift": joined(shift_table),
        "concept_movement": joined(movement_table),
        "concept_repair": joined(lambda model: repair_table(model).drop(columns=["concept", "alone_mae"])),
    }


def over_seeds(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean of each number over tables of the same rows, with its standard deviation after it."""
    result: dict[str, Any] = {}
    for column in tables[0].columns:
        if pd.api.types.is_float_dtype(tables[0][column]):
            values = np.stack([table[column].to_numpy() for table in tables])
            result |= {column: values.mean(axis=0), f"{column}_std": values.std(axis=0)}
        else:
            result[column] = tables[0][column].to_numpy()
    return pd.DataFrame(result)


def _repairs(tables: Sequence[pd.DataFrame]) -> list[str]:
    curves = {
        (kind, values): np.mean(
            [replacement(table, kind, values)["mae"].to_numpy() for table in tables], axis=0
        )
        for kind, values, _ in REPLACEMENTS
    }
    undone, rated = curves["adversarial", "clean"], curves["adversarial", "rated"]
    damage, sentences = undone[0] - undone[-1], []
    if damage > 0:
        shares = (undone[0] - undone) / damage
        half = int((shares >= 0.5).argmax())
        more = f"; {half} of {len(undone) - 1} undo {100 * shares[half]:.0f} %" if half > 1 else ""
        sentences.append(
            f"Giving one concept its clean value back undoes {100 * shares[1]:.0f} % of the MAE that the "
            f"attack adds{more}."
        )
    sentences.append(
        f"With every concept set to its rating the MAE is {number(rated[-1], 3)} (attacked "
        f"{number(undone[0], 3)}, clean {number(undone[-1], 3)})."
    )
    if rated[-1] >= undone[0]:
        sentences.append(
            "So ratings do not repair this system: its last layer fits the concepts as it estimates them, "
            "not as they were rated."
        )
    return sentences


def _leakage(model: AttackedConcepts) -> pd.DataFrame:
    return leakage_table(model) if model.leakage is None else model.leakage


def _leaks(table: pd.DataFrame) -> list[str]:
    """Return a sentence on whether a system's concepts carry what they are named after; of few clips none."""
    found = leakage_means(table)
    told, chance = found[TASK], found[f"{TASK}_control"]
    if np.isnan(told):
        return []
    said = (
        f"Concept leakage to the emotions is {number(told, 3)}, where chance alone gives {number(chance, 3)}"
    )
    if told > 2 * chance:
        return [f"{said}: its units tell more of the emotions than the concepts that they are named after."]
    return [f"{said}: nothing says that its units tell more of the emotions than the concepts do."]


def _readable_leakage(leakage: Mapping[str, pd.DataFrame]) -> ReportTable:
    rows = [
        {
            "System": name,
            "Concept": in_words(str(row["concept"])),
            "To the emotions": number(row[TASK], 3),
            "By chance": number(row[f"{TASK}_control"], 3),
            "To other concepts": number(row[BETWEEN], 3),
            "By chance ": number(row[f"{BETWEEN}_control"], 3),
        }
        for name, table in leakage.items()
        for row in table.to_dict("records")
    ]
    return ReportTable(
        "Concept leakage on clean clips (Parisini et al. 2025), 0-1: how much more the predicted concept "
        "tells of the emotions, and of the other concepts, than the rated one does; mean over seeds. By "
        "chance: the same of the ratings with the errors of other clips, which cannot tell more.",
        pd.DataFrame(rows),
    )


def _leakage_data(systems: Systems, leakage: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    frames = [
        table.assign(system=name, seeds=len(systems[name]))[["system", "seeds", *table.columns]]
        for name, table in leakage.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _readable(systems: Systems) -> list[ReportTable]:
    shifts, repairs = [], []
    for name, models in systems.items():
        shifts += _shift_rows(name, models)
        repairs += _repair_rows(name, [repair_table(model) for model in models])
    return [
        ReportTable(
            "What the attack does to each concept: mean over clips; mean ± population standard deviation "
            "over seeds. Spread: standard deviation of the clean predictions over clips. Shift: attacked "
            "minus clean predicted concept (rating / 10). Share: of the absolute movement of all emotions. "
            "Net share: of what is left after movements cancel. MAE: predicted concept against its rating.",
            pd.DataFrame(shifts),
        ),
        ReportTable(
            "MAE of the emotions after 0, 1, 2, ... concepts are replaced, each time the one that leaves the "
            "smallest MAE (chosen with the rated emotions in hand); mean over seeds. First: the concept that "
            "is most often replaced first, and in how many seeds.",
            pd.DataFrame(repairs),
        ),
    ]


def _shift_rows(name: str, models: Sequence[AttackedConcepts]) -> list[dict[str, str]]:
    table = over_seeds([shift_table(model) for model in models])

    def text(row: Mapping[Any, Any], column: str, digits: int = 3, factor: float = 1.0) -> str:
        mean, std = factor * row[column], factor * row[f"{column}_std"]
        return number(mean, digits) if len(models) == 1 else mean_and_std(mean, std, digits)

    return [
        {
            "System": name,
            "Concept": in_words(str(row["concept"])),
            "Spread": text(row, "spread"),
            "Shift": text(row, "shift"),
            "|Shift|": text(row, "shift_abs"),
            "|Shift| in spreads": text(row, "shift_abs_spreads", 2),
            "Share (%)": text(row, "share", 0, 100),
            "Net share (%)": text(row, "net_share", 0, 100),
            "MAE, clean": text(row, "clean_mae"),
            "MAE, adv.": text(row, "adv_mae"),
        }
        for row in table.to_dict("records")
    ]


def _repair_rows(name: str, tables: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    rows = []
    for kind, values, title in REPLACEMENTS:
        curves = [replacement(table, kind, values) for table in tables]
        first, seeds = Counter(curve["concept"].iloc[1] for curve in curves).most_common(1)[0]
        means = np.mean([curve["mae"].to_numpy() for curve in curves], axis=0)
        row = {"System": name, "Replaced": title}
        row |= {str(step): number(value, 3) for step, value in enumerate(means)}
        rows.append(row | {"First": f"{in_words(first)} ({seeds} of {len(tables)})"})
    return rows


def _figures(systems: Systems, emotions: Sequence[str]) -> dict[str, ReportFigure]:
    pooled = "clips of all seeds" if any(len(models) > 1 for models in systems.values()) else "clips"
    boxes = f"Boxes over {pooled}: quartiles, whiskers from 5 to 95 %."
    return {
        "concept_shift": ReportFigure(
            "Shift of the concepts",
            "Left: attacked minus clean predicted concept. Right: share of the absolute movement of all "
            f"emotions that goes through the concept; dots: seeds. {boxes}",
            concept_shift(systems),
        ),
        "concept_movement": ReportFigure(
            "From concepts to emotions",
            "Weight times shift of the concept: mean absolute value over clips and seeds (rating / 10).",
            concept_movement(systems),
        ),
        "concept_repair": ReportFigure(
            "Interventions",
            "MAE of the emotions after concepts are replaced, each time the one that leaves the smallest "
            "MAE. Thin lines: seeds.",
            concept_repair(systems),
        ),
        "concept_effects": ReportFigure(
            "Effects",
            "Weight times predicted concept, relative to the mean clean clip: what each concept adds to the "
            f"emotion. {boxes}",
            concept_effects(systems, emotions),
        ),
        "concept_weights": ReportFigure(
            "Weights",
            "Left: weight of each concept. Right: weight times the concept's spread, the change of the "
            "emotion when the concept rises by one spread. Mean over seeds; ±: signs differ between them.",
            concept_weights(systems),
        ),
    }
