"""What the report answers: never more than the tests behind it can carry."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.comparison import PRIMARY, SECONDARY, Comparison
from rmer.report import answers
from rmer.report.comparing import compare_models, system_samples
from rmer.report.robustness import robustness_table
from rmer.report.sections.comparison_section import comparisons_table, differences_figure

TARGETS = ("tension", "tender")


def comparison(
    a: str, endpoint: str, difference: float, p_holm: float, *, equivalent: bool = False
) -> Comparison:
    """A row against A2M2E."""
    numbers = {
        field.name: 3 if field.type == "int" else 0.5
        for field in dataclasses.fields(Comparison)
        if field.type in ("int", "float")
    }
    given = {"difference": difference, "p_holm": p_holm, "margin": 0.02}
    return Comparison(**{**numbers, **given}, endpoint=endpoint, a=a, b="A2M2E", equivalent=equivalent)  # type: ignore[arg-type]


def rows_of(verdicts: dict[str, tuple[str, str]]) -> list[Comparison]:
    """Rows with a verdict on both endpoints for each system."""
    signs = {
        answers.MORE: (1, 0.01, False),
        answers.LESS: (-1, 0.01, False),
        answers.ALIKE: (1, 0.9, True),
        answers.UNKNOWN: (1, 0.9, False),
    }
    rows = []
    for place, endpoint in enumerate((PRIMARY, SECONDARY)):
        for system, found in verdicts.items():
            sign, p, equivalent = signs[found[place]]
            size = 0.05 * sign * (1 if endpoint == PRIMARY else -1)
            rows.append(comparison(system, endpoint, size, p, equivalent=equivalent))
    return rows


@pytest.mark.parametrize(
    ("endpoint", "difference", "p", "equivalent", "expected"),
    [
        (PRIMARY, 0.1, 0.049, False, answers.MORE),
        (PRIMARY, -0.1, 0.049, False, answers.LESS),
        (SECONDARY, -0.1, 0.049, False, answers.MORE),
        (SECONDARY, 0.1, 0.049, False, answers.LESS),
        (PRIMARY, 0.01, 0.01, True, answers.SLIGHTLY_MORE),
        (SECONDARY, 0.01, 0.01, True, answers.SLIGHTLY_LESS),
        (PRIMARY, 0.01, 0.05, True, answers.ALIKE),
        (PRIMARY, 0.5, 0.05, False, answers.UNKNOWN),
        (PRIMARY, 0.5, math.nan, False, answers.UNKNOWN),
    ],
)
def test_verdict(endpoint: str, difference: float, p: float, equivalent: bool, expected: str) -> None:
    assert answers.verdict(comparison("A2E", endpoint, difference, p, equivalent=equivalent)) == expected


@pytest.mark.parametrize(
    ("a2e", "a2b2e", "short"),
    [
        ((answers.MORE, answers.MORE), (answers.MORE, answers.MORE), "Yes, by both endpoints."),
        ((answers.MORE, answers.LESS), (answers.MORE, answers.LESS), "It depends on the endpoint"),
        ((answers.MORE, answers.UNKNOWN), (answers.MORE, answers.MORE), "Only in part."),
        ((answers.UNKNOWN, answers.UNKNOWN), (answers.UNKNOWN, answers.UNKNOWN), "These runs cannot tell."),
        ((answers.ALIKE, answers.UNKNOWN), (answers.ALIKE, answers.ALIKE), "That is not shown."),
        ((answers.ALIKE, answers.LESS), (answers.ALIKE, answers.ALIKE), "No."),
    ],
)
def test_the_answer_needs_every_black_box_and_both_endpoints(
    a2e: tuple[str, str], a2b2e: tuple[str, str], short: str
) -> None:
    rows = rows_of({"A2E": a2e, "A2B2E": a2b2e, "aA2E": (answers.LESS, answers.LESS)})
    first = answers.answers(rows, "A2M2E", "L-inf .01", 10)[0]
    assert f"more robust than the black boxes A2E and A2B2E? {short}" in first
    assert "aA2E" not in first


def test_the_answer_tells_endpoints_apart() -> None:
    rows = rows_of({"A2E": (answers.MORE, answers.ALIKE), "A2B2E": (answers.MORE, answers.UNKNOWN)})
    sentences = answers.answers(rows, "A2M2E", "L-inf .01", 10)
    assert (
        "It is, by clipped MAE, more robust than A2E and A2B2E; by correlation, as robust as A2E and not "
        "distinguishable from A2B2E." in sentences[0]
    )
    assert sentences[1].startswith(
        "Primary endpoint, gain of clipped MAE at L-inf .01: A2E - A2M2E .050 (95 %"
    )
    assert "Holm p = .010" in sentences[1]
    assert sentences[3:] == [
        "We call two systems equally robust if a test shows that they differ by less than .02 in clipped MAE "
        "and .02 in correlation. A2M2E and A2E: by clipped MAE they are not, by correlation they are; A2M2E "
        "and A2B2E: by clipped MAE they are not, by correlation the data cannot tell."
    ]


def test_each_of_several_controls_has_its_sentence() -> None:
    controls = {"placebo": (answers.MORE,) * 2, "placebo w.3": (answers.MORE, answers.ALIKE)}
    rows = rows_of({"A2E": (answers.MORE,) * 2, **controls})
    first, *others = answers.answers(rows, "A2M2E", "L-inf .01", seeds=5)
    assert "But by correlation it is not shown to be more robust than its placebo" in first
    said = [text.partition(" (permuted")[0] for text in others if text.startswith("Control: ")]
    assert said == [
        "Control: A2M2E is, by both endpoints, more robust than placebo",
        "Control: A2M2E is, by clipped MAE, more robust than placebo w.3; by correlation, as robust as "
        "placebo w.3",
    ]


def test_an_adversarially_trained_placebo_is_no_black_box_and_no_control_of_a_plain_system() -> None:
    rows = rows_of({"A2E": (answers.MORE,) * 2, "aplacebo": (answers.LESS,) * 2})
    sentences = answers.answers(rows, "A2M2E", "L-inf .01", seeds=5)
    assert "more robust than the black box A2E? Yes, by both endpoints." in sentences[0]
    assert (
        sentences[-1] == "Against the other systems, A2M2E is, by both endpoints, less robust than aplacebo."
    )


@pytest.mark.parametrize(
    ("placebo", "qualified"), [(answers.UNKNOWN, True), (answers.ALIKE, True), (answers.MORE, False)]
)
def test_an_answer_that_the_placebo_shares_is_no_answer_for_interpretability(
    placebo: str, qualified: bool
) -> None:
    rows = rows_of({"A2E": (answers.MORE, answers.MORE), "placebo": (placebo, placebo)})
    sentences = answers.answers(rows, "A2M2E", "L-inf .01", 10)
    assert ("not shown to be more robust than its placebo" in sentences[0]) == qualified
    assert any(sentence.startswith("Control: A2M2E is, by both endpoints, ") for sentence in sentences)


def test_the_control_says_nothing_where_the_attack_does_nothing() -> None:
    rows = rows_of({"A2E": (answers.ALIKE,) * 2, "placebo": (answers.ALIKE,) * 2})
    said, unsaid = (
        answers.answers(rows, "A2M2E", "L-inf .01", 10, conclusive=conclusive)[-1]
        for conclusive in (True, False)
    )
    assert said.endswith("interpretable concepts are not what helps.")
    assert unsaid.endswith("the attack does too little to tell what helps against it.")


def test_few_seeds_and_missing_tests_are_said() -> None:
    rows = [comparison("A2E", endpoint, 0.1, math.nan) for endpoint in (PRIMARY, SECONDARY)]
    sentences = answers.answers(rows, "A2M2E", "L-inf .01", 1)
    assert "These runs cannot tell." in sentences[0]
    assert "no test: it needs two seeds" in sentences[1]
    assert sentences[-1].startswith("There are as few as 1 training seed a system")


@pytest.mark.parametrize(
    ("rows", "systems", "reference", "reason"),
    [
        ([], ["A2E"], "A2M2E", "Only A2E was attacked"),
        ([], ["A2E", "A2M2E"], "A2M2E", "attacked on different clips"),
        ([comparison("A2E", PRIMARY, 0.1, 0.1)], ["A2E", "A2B2E"], "A2M2E", "A2M2E is not among the systems"),
        ([comparison("aA2E", PRIMARY, 0.1, 0.1)], ["aA2E", "A2M2E"], "A2M2E", "No black box that is trained"),
    ],
)
def test_why_there_is_no_answer(
    rows: list[Comparison], systems: list[str], reference: str, reason: str
) -> None:
    assert reason in answers.without_answer(rows, systems, reference)[0]


def model(system: str, seed: int, gain: float, *, first_clip: int = 0) -> AttackedModel:
    """A model whose adversaries worst for clipped MAE err by ``gain`` more than its clean predictions do."""
    labels = np.linspace(0.3, 0.7, 8)
    table = pd.DataFrame({"clip": [f"{first_clip + clip:03d}" for clip in range(8)]})
    table["album"] = [f"album {clip // 2}" for clip in range(8)]
    for target in TARGETS:
        table[f"label_{target}"] = labels
        table[f"clean_{target}"] = labels + 0.05 + 0.001 * seed
        table[f"adv_{target}"] = labels + 5.0
        table[f"adv_clipped_{target}"] = labels + 0.05 + 0.001 * seed + gain
        table[f"adv_joint_{target}"] = -labels
    return AttackedModel.from_table(
        table, name=system, system=system, seed=str(seed), run_id=f"{system}-{seed}"
    )


def test_each_endpoint_takes_the_adversaries_that_are_worst_for_it() -> None:
    models = [model(system, seed, gain) for system, gain in (("A2E", 0.2), ("A2M2E", 0.1)) for seed in (1, 2)]
    (sample, _) = system_samples(models)
    assert sample.clean.shape == (2, 8, 2)
    assert sample.adversarial["mae_clipped"][0, 0, 0] == pytest.approx(0.3 + 0.051 + 0.2)
    assert sample.adversarial["corr"][0, :, 0] == pytest.approx(-sample.labels[:, 0])
    primary, secondary = compare_models(models, "A2M2E")
    assert (primary.a, primary.b, primary.seeds_a, primary.albums) == ("A2E", "A2M2E", 2, 4)
    assert primary.difference == pytest.approx(0.1, abs=1e-12)
    assert secondary.difference == pytest.approx(0.0, abs=1e-12)
    table = comparisons_table([primary, secondary])
    assert table.loc[0, "endpoint"] == PRIMARY
    assert len(differences_figure([primary, secondary]).axes) == 2


def test_intervals_that_leave_the_axis_end_in_an_arrow() -> None:
    wide = dataclasses.replace(comparison("A2E", PRIMARY, 0.01, 0.9), low=-0.02, high=9.0)
    axes = differences_figure([wide, comparison("A2B2E", PRIMARY, 0.01, 0.9)]).axes[0]
    arrows = [
        (line.get_marker(), line.get_xdata()[0]) for line in axes.lines if line.get_marker() in ("<", ">")
    ]
    assert arrows == [(">", axes.get_xlim()[1])] * 2
    assert axes.get_xlim()[1] < 0.5


def test_models_on_different_clips_are_not_compared() -> None:
    assert compare_models([model("A2E", 1, 0.2), model("A2M2E", 1, 0.1, first_clip=5)], "A2M2E") == []


def robustness(gains: dict[str, float], constant: float) -> pd.DataFrame:
    models = [model(system, 1, gain) for system, gain in gains.items()]
    return robustness_table(models, {item.run_id: {"constant/mae": constant} for item in models})


def caveats(gains: dict[str, float], constant: float) -> str:
    rows = [comparison("A2E", PRIMARY, 0.1, 0.5)]
    found = answers.comparison_caveats(robustness(gains, constant), rows, "A2M2E", list(gains))
    return "\n".join(found)


def reservations(gains: dict[str, float], constant: float, margin: float) -> str:
    row = dataclasses.replace(comparison("A2E", PRIMARY, 0.1, 0.5), margin=margin)
    return "\n".join(answers.reservations(robustness(gains, constant), [row], "A2M2E"))


def test_an_attack_that_does_nothing_and_models_that_know_nothing_are_said() -> None:
    gains = {"A2E": 0.2, "A2M2E": 0.1, "aA2M2E": 0.1}
    assert reservations(gains, 0.2, 0.05) == ""
    assert "of no system by more than .200, less than the margin of equivalence (.250)" in reservations(
        gains, 0.2, 0.25
    )
    assert "hardly better than always predicting the mean, or worse: A2E, A2M2E." in reservations(
        gains, 0.055, 0.05
    )


def test_caveats_of_a_comparison() -> None:
    gains = {"A2E": 0.2, "A2M2E": 0.1}
    assert "No placebo" in caveats(gains, 0.2)
    assert "No placebo" not in caveats({**gains, "placebo": 0.1}, 0.2)
    assert "every system is worse than always predicting the mean" in caveats(gains, 0.1)
    assert "every system is worse" not in caveats(gains, 0.2)
