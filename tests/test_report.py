"""Tables, sentences, figures and HTML of a report."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.filterbank import BANDS, FRAME_SIZE, band_frequencies, filterbank
from rmer.data.dataset import Normalisation
from rmer.errors import UserError
from rmer.evaluation.attacked import AttackedModel, with_errors
from rmer.report import findings, paper_figures, readable, system_tables
from rmer.report.html import Report, ReportFigure, ReportTable, Section, UsedRun, render
from rmer.report.latex import latex_table
from rmer.report.spectrogram_figure import spectrogram_comparison

TARGETS = ("tension", "tender")
LABELS = np.array([[0.1, 0.8], [0.3, 0.4], [0.5, 0.6], [0.9, 0.2]])


def model(
    system: str, seed: int, *, clean: float = 0.1, attacked: float = 1.0, **more: object
) -> AttackedModel:
    """A model that errs by ``clean`` on every clip, and by ``attacked`` under attack."""
    columns: dict[str, object] = {"clip": ["002", "001", "003", "004"], "l2": 2.0, "linf": 0.01}
    for index, target in enumerate(TARGETS):
        columns[f"label_{target}"] = LABELS[:, index]
        columns[f"clean_{target}"] = LABELS[:, index] + clean
        columns[f"adv_{target}"] = LABELS[:, index] + attacked
    table = pd.DataFrame(columns | more)
    return AttackedModel.from_table(
        table, name=system, system=system, seed=str(seed), run_id=f"{system}-{seed}"
    )


@pytest.fixture
def models() -> list[AttackedModel]:
    errors = {"A2M2E": (1.0, 1.2, 1.4), "A2E": (2.0, 2.5, 3.0), "aA2E": (0.9, 1.0, 1.1)}
    return [
        model(system, seed, attacked=error, clean=0.1 * (1 + seed / 10))
        for system, values in errors.items()
        for seed, error in enumerate(values)
    ]


def test_clips_are_put_in_order_with_their_values() -> None:
    attacked = model("A2E", 0)
    assert attacked.clips == ("001", "002", "003", "004")
    assert attacked.labels.tolist() == [[0.3, 0.4], [0.1, 0.8], [0.5, 0.6], [0.9, 0.2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_tension": np.nan}, "labels that are not numbers"),
        ({"clean_tender": np.inf}, "clean predictions that are not numbers"),
        ({"clean_tender": [0.1, np.nan, 0.2, 0.3]}, "clean predictions that are not numbers"),
        ({"clip": "001"}, "a clip twice"),
        ({"label_anger": 0.5}, "lacks clean_anger, adv_anger"),
    ],
)
def test_unusable_clip_tables(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model("A2E", 0, **change)


def test_systems_table_has_mean_and_population_std_over_seeds(models: list[AttackedModel]) -> None:
    table = system_tables.systems_table(models).set_index("system")
    assert list(table.index) == ["A2E", "A2M2E", "aA2E"]
    row = table.loc["A2E"]
    assert row["seeds"] == 3
    assert row["adv_mae"] == pytest.approx(2.5, abs=1e-12)
    assert row["adv_mae_std"] == pytest.approx(np.std([2.0, 2.5, 3.0]), abs=1e-12)
    assert row["delta_mae_median"] == pytest.approx(2.39, abs=1e-12)
    assert row["clean_corr"] == pytest.approx(1.0, abs=1e-12)
    # Every prediction lies above the scale, so that clipped it is 1.
    assert row["adv_mae_clipped"] == pytest.approx((1 - LABELS).mean(), abs=1e-12)


def test_columns_are_those_that_others_read(models: list[AttackedModel]) -> None:
    assert ",".join(system_tables.systems_table(models).columns) == (
        "system,seeds,clean_corr,clean_corr_std,clean_mae,clean_mae_std,adv_corr,adv_corr_std,adv_mae,adv_mae_std,"
        "delta_mae,delta_mae_std,delta_mae_median,adv_mae_clipped,adv_mae_clipped_std"
    )
    assert ",".join(system_tables.tests_table(models, "A2M2E").columns) == "test,metric,a,b,n,statistic,p"


def test_tests_pair_equal_seeds_only() -> None:
    a = [model("A2E", seed, attacked=1 + seed / 10) for seed in (1, 2, 3)]
    b = [model("A2M2E", seed, attacked=1 + seed / 20) for seed in (3, 4, 2)]
    table = system_tables.tests_table([*b, *a], "A2M2E").set_index(["test", "metric"])
    assert table.loc[("paired_t_pooled", "adv/mae"), "n"] == 2 * len(LABELS)
    # Seeds 2 and 3: differences .1 and .15.
    assert table.loc[("paired_t_seeds", "adv/mae"), "statistic"] == pytest.approx(5.0, abs=1e-9)
    assert table.loc[("welch_seeds", "adv/mae"), "n"] == 6


def test_other_clips_are_never_paired() -> None:
    other = [model("A2M2E", seed, clip=["005", "006", "007", "008"]) for seed in (1, 2)]
    table = system_tables.tests_table([*other, model("A2E", 1), model("A2E", 2)], "A2M2E").set_index("test")
    assert table.loc["paired_t_pooled", "n"] == 0
    assert np.isnan(table.loc["paired_t_pooled", "p"])


def test_attacks_table(models: list[AttackedModel]) -> None:
    metrics = {item.run_id: {"budget/violations": 1.0, "constant/mae": 0.2} for item in models}
    del metrics["aA2E-0"]["budget/violations"]
    table = system_tables.attacks_table(models, metrics).set_index("system")
    assert table.loc["A2E", "violations"] == 3
    assert np.isnan(table.loc["aA2E", "violations"])
    assert table.loc["A2E", ["clips", "l2_median", "linf_max", "constant_mae"]].tolist() == pytest.approx(
        [12, 2.0, 0.01, 0.2]
    )
    assert table.loc["A2E", "outside_scale"] == 1.0
    assert table.loc["aA2E", "outside_scale"] == pytest.approx((7 + 8 + 8) / 24)


def test_rescored_adversaries_are_reported_where_there_are_any() -> None:
    rescored = {f"rescored_{target}": LABELS[:, index] + 0.3 for index, target in enumerate(TARGETS)}
    table = system_tables.attacks_table([model("A2E", 1, **rescored)], {"A2E-1": {}})
    assert table.loc[0, "rescored_mae"] == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7324, ".73"),
        (-0.3203, "-.32"),
        (1.786, "1.79"),
        (0.999, "1.00"),
        (0.0, ".00"),
        (-0.001, ".00"),
        (10, "10.00"),
    ],
)
def test_numbers_without_leading_zero(value: float, text: str) -> None:
    assert readable.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.567e-32, "4.6e-32"), (0.0239, ".024"), (0.54, ".540"), (np.nan, "-"), (1.0, "1.000")],
)
def test_p_values(value: float, text: str) -> None:
    assert readable.p_value(value) == text


def test_readable_table_begins_with_the_values_of_2019(models: list[AttackedModel]) -> None:
    lines = readable.markdown(readable.readable_table(system_tables.systems_table(models))).splitlines()
    assert len(lines) == 2 + 2 + 3
    assert re.split(r"\s*\|\s*", lines[2])[1:4] == ["A2E (2019)", "-", ".76"]
    cells = re.split(r"\s*\|\s*", lines[4])[1:7]
    assert cells == ["A2E", "3", "1.00 ± .00", ".11 ± .01", "1.00 ± .00", "2.50 ± .41"]


def test_latex_escapes_and_sets_numbers_in_math_mode(models: list[AttackedModel]) -> None:
    text = latex_table(readable.readable_table(system_tables.systems_table(models)), "100 % of a_b")
    assert r"\caption{100 \% of a\_b}" in text
    assert r"$2.50 \pm .41$" in text
    assert r"$\Delta$MAE" in text
    assert not set(text) & {"±", "Δ"}
    assert text.count(r"\\") == 1 + 2 + 3


def test_headline_says_when_the_metrics_disagree(models: list[AttackedModel]) -> None:
    systems, tests = system_tables.systems_table(models), system_tables.tests_table(models, "A2M2E")
    systems["adv_corr"] = [-0.1, -0.2, -0.3]
    sentences = findings.headline(systems, tests)
    assert "Best by raw adversarial MAE: aA2E (1.00 ± .08)." in sentences
    assert "Best by adversarial correlation: A2E (-.10 ± .00)." in sentences
    assert any("disagree" in sentence for sentence in sentences)
    assert any("A2M2E against A2E, under attack: raw MAE lower (p = " in sentence for sentence in sentences)


def test_headline_of_one_system() -> None:
    alone = [model("A2E", 1)]
    assert findings.headline(
        system_tables.systems_table(alone), system_tables.tests_table(alone, "A2M2E")
    ) == ["A2E: MAE .10 clean, 1.00 under attack."]


def caveats(models: list[AttackedModel], violations: float, **selection: str) -> str:
    metrics = {item.run_id: {"budget/violations": violations, "constant/mae": 0.2} for item in models}
    attacks = system_tables.attacks_table(models, metrics)
    return "\n".join(findings.caveats(system_tables.systems_table(models), attacks, selection))


def test_caveats_of_the_published_protocol(models: list[AttackedModel]) -> None:
    selection = dict.fromkeys(("attack_protocol", "train_protocol", "split_scheme"), "published")
    text = caveats(models, 4, **selection, epsilon="0.001")
    assert "36 of 36 perturbations exceed epsilon 0.001" in text
    assert "last iterate" in text
    assert "statistics of all clips" in text
    assert "same albums" in text
    assert "96-100 % of the adversarial predictions leave the rating scale" in text
    assert "As few as 3 seed(s)" in text
    assert "MAE of .200; under attack worse than that, even clipped: A2E, A2M2E, aA2E" in text


def test_caveats_of_a_bounded_attack(models: list[AttackedModel]) -> None:
    text = caveats(models, 0, attack_protocol="corrected", train_protocol="corrected", split_scheme="album")
    for absent in ("exceed", "last iterate", "statistics of all clips", "same albums"):
        assert absent not in text


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([[1.0, 1.1, 1.2], [1.3, 1.2]], None),
        ([[0.9, 1.0, 1.0, 1.1, 1.2], [1.0, 1.1, 1.2, 1.0, 4.0]], (1.2, 4.0)),
        ([[0.1, 0.1, 0.1], [4.0, 4.0, 4.1]], None),
        ([[1.0, 1.0, 1.0, 1.0, 1.2], [1.0]], None),
        ([[5.0]], None),
        ([[]], None),
    ],
    ids=["close", "outlier", "two groups", "small gap", "one value", "nothing"],
)
def test_axis_breaks_for_outliers_only(
    groups: list[list[float]], expected: tuple[float, float] | None
) -> None:
    assert paper_figures.axis_break([np.array(group, dtype=float) for group in groups]) == expected


def test_box_plot_has_two_axes_when_broken_and_shows_every_seed(models: list[AttackedModel]) -> None:
    assert len(paper_figures.performance_difference(models).axes) == 1
    outlier = [model("A2E", seed, attacked=2 + seed / 100) for seed in range(9)] + [
        model("A2E", 9, attacked=9)
    ]
    figure = paper_figures.performance_difference([*outlier, *models[:3]])
    assert len(figure.axes) == 2
    shown = figure.axes[0].get_ylim()
    assert shown[0] < 8.9 < shown[1]
    dots = [line for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert sorted(len(line.get_xdata()) for line in dots) == [3, 10]


def test_twins_stand_side_by_side(models: list[AttackedModel]) -> None:
    labels = [
        text.get_text() for text in paper_figures.performance_difference(models).axes[-1].get_xticklabels()
    ]
    assert labels == ["A2E", "aA2E", "A2M2E"]


def draw_scatter(models: list[AttackedModel]) -> Figure:
    return paper_figures.label_versus_prediction({item.system: item for item in models}, TARGETS)


@pytest.mark.parametrize("draw", [paper_figures.performance_difference, draw_scatter])
def test_figures_print_as_png_and_svg(
    models: list[AttackedModel], draw: Callable[[list[AttackedModel]], Figure]
) -> None:
    figure = draw(models)
    for form in ("png", "svg"):
        file = BytesIO()
        figure.savefig(file, format=form, dpi=200)
        if form == "png":
            image = np.asarray(Image.open(file).convert("L"))
            assert image.shape[1] >= 600
            assert 0.005 < (image < 128).mean() < 0.5


def test_scatter_shows_every_clip_clean_and_attacked(models: list[AttackedModel]) -> None:
    axes = draw_scatter(models).axes[0]
    by_label = {line.get_label(): line for line in axes.lines}
    assert by_label["clean"].get_ydata().tolist() == models[2].clean[:, 0].tolist()
    assert by_label["adversarial"].get_ydata().tolist() == models[2].adversarial[:, 0].tolist()
    bottom, top = axes.get_ylim()
    assert bottom < models[2].labels[:, 0].min() < models[2].adversarial[:, 0].max() < top


def test_predictions_far_off_the_scale_leave_room_for_the_others() -> None:
    near, far = (
        paper_figures.label_versus_prediction({"A2E": model("A2E", 1, attacked=error)}, TARGETS).axes[0]
        for error in (1.0, 50.0)
    )
    assert near.get_yscale() == "linear"
    assert far.get_yscale() == "symlog"
    bottom, low, high, top = far.transData.transform([(0, y) for y in (far.get_ylim()[0], 0, 1, 50)])[:, 1]
    assert (high - low) / (top - bottom) > 0.3
    assert [text.get_text() for text in far.get_yticklabels()] == [".5", "1", "2", "5", "10"]


def test_figures_ignore_the_users_style(models: list[AttackedModel]) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30}):
        axes = paper_figures.performance_difference(models).axes[0]
        assert axes.get_facecolor()[:3] == (1.0, 1.0, 1.0)
        assert mpl.rcParams["font.size"] == 30


class Addresses(HTMLParser):
    """Collects every address that a document refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "href" and tag == "a":
                self.linked.append(str(value))
            elif name in ("src", "href", "srcset", "data"):
                self.loaded.append(str(value))


@pytest.fixture
def report(models: list[AttackedModel]) -> Report:
    systems, tests = system_tables.systems_table(models), system_tables.tests_table(models, "A2M2E")
    attacks = system_tables.attacks_table(models, {item.run_id: {} for item in models})
    return Report(
        title="Systems <under> attack",
        headline=findings.headline(systems, tests),
        selection={"study": "a & b"},
        systems=readable.readable_table(systems),
        systems_caption="Means.",
        sections=[
            Section(
                "Tests",
                ["A & B."],
                [
                    ReportTable("Two-sided.", readable.readable_tests(tests)),
                    ReportTable("Norms.", readable.readable_attacks(attacks)),
                ],
                {"x": ReportFigure("Loss", "What is lost.", paper_figures.performance_difference(models))},
            )
        ],
        caveats=["Mind this."],
        runs=[UsedRun("A2E", "1", "abc", "def", "http://127.0.0.1/#/r/abc"), UsedRun("A2E", "2", "ghi", "")],
    )


def test_html_loads_nothing_from_outside(report: Report) -> None:
    page = render(report)
    parser = Addresses()
    parser.feed(page)
    assert len(parser.loaded) == 1
    assert parser.loaded[0].startswith("data:image/svg+xml;base64,")
    assert [link for link in parser.linked if not link.startswith("#")] == ["http://127.0.0.1/#/r/abc"]
    assert "@import" not in page
    assert "url(" not in page


def test_html_escapes_and_holds_every_part(report: Report) -> None:
    page = render(report)
    assert "<h1>Systems &lt;under&gt; attack</h1>" in page
    assert "a &amp; b" in page
    for part in (
        "2.50 ± .41",
        "paired t, clips of all seeds pooled (as published)",
        "raw MAE, attacked",
        "A &amp; B.",
        "Norms.",
        "Mind this.",
        "abc",
        "ghi",
        'alt="Loss: What is lost."',
    ):
        assert part in page


def test_spectrograms_of_an_attack_are_in_hertz_and_decibels() -> None:
    before = np.zeros((1, 20, BANDS), np.float32)
    after = before + np.float32(0.1)
    figure = spectrogram_comparison(["001"], before, after, Normalisation(0.5, 0.4), 31.3)
    original, adversary, change, level_bar, change_bar = figure.axes
    shown = [float(np.unique(axes.images[0].get_array()).squeeze()) for axes in (original, adversary, change)]
    assert shown == pytest.approx([20 * 0.5, 20 * 0.54, 20 * 0.04], rel=1e-5)
    assert original.get_ylabel() == "clip 001\nfrequency (Hz)"
    ticks = dict(
        zip([text.get_text() for text in original.get_yticklabels()], original.get_yticks(), strict=True)
    )
    assert np.interp(ticks["1k"], np.arange(BANDS), band_frequencies()) == pytest.approx(1000, rel=1e-6)
    assert [axes.get_ylabel() for axes in (level_bar, change_bar)] == ["level (dB)", "change (dB)"]


def test_bands_are_largest_at_their_frequencies() -> None:
    bins = filterbank().argmax(axis=0)
    np.testing.assert_allclose(band_frequencies(), bins * SAMPLE_RATE / FRAME_SIZE, rtol=1e-12)


def test_other_bands_than_the_front_ends_have_numbers() -> None:
    arrays = np.zeros((1, 20, 7), np.float32), np.ones((1, 20, 7), np.float32)
    figure = spectrogram_comparison(["001"], *arrays, Normalisation(0.0, 1.0), 31.3)
    assert figure.axes[0].get_ylabel() == "clip 001\nband"


def test_clip_tables_begin_with_the_error() -> None:
    table = pd.DataFrame({"clip": ["a", "b"], "l2": 1.0})
    for name, error in (("label", 0.0), ("clean", 0.1), ("adv", 3.0), ("adv_clipped", 0.4)):
        table[f"{name}_tension"] = 0.2 + error
    found = with_errors(table, ["tension"])
    assert found.columns[:4].tolist() == ["clip", "error_clean", "error_attacked", "difference"]
    assert set(found.columns[4:]) == set(table.columns) - {"clip"}
    assert found.loc[1, ["error_clean", "error_attacked", "difference"]].tolist() == pytest.approx(
        [0.1, 0.4, 0.3]
    )
    alone = with_errors(table.drop(columns="adv_clipped_tension"), ["tension"])
    assert alone["error_attacked"].tolist() == pytest.approx([0.8, 0.8]), "3.2 clipped to the scale"
