"""Analysis of attacks on the sound: the primary evaluation beside that of spectrograms, or alone."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from attack_runs import PASSED, attack_run, sound_run, suite_run

from rmer.errors import UserError
from rmer.evaluation.comparison import PRIMARY, SystemSample, compare_systems
from rmer.report.budget_scales import OF_SOUNDS
from rmer.report.comparing import system_samples
from rmer.report.robustness import readable_areas
from rmer.report.sections.protocol_steps_section import readable_steps
from rmer.stages.analysis.analyze import Analysis, analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.domains import select_domains
from rmer.stages.analysis.reading import read_runs
from rmer.stages.prepared_views import MOST_COMPARED, comparison
from rmer.tracking import Stage, Store, Tag

# On the sound the order of systems is another one than on spectrograms.
SEEN = {"A2E": 0.05, "A2M2E": 0.06, "placebo": 0.05}
HEARD = {"A2E": 0.2, "A2M2E": 0.05, "placebo": 0.06}
FAILED = PASSED.assign(passed=pd.array([False, True, None], dtype="boolean"))


@pytest.fixture(scope="module")
def store(lasting_store: Store) -> Store:
    """A store whose study ``both`` holds attacks on spectrograms and, under two norms, on the sound."""
    for seed in (1, 2):
        for system, damage in SEEN.items():
            suite_run(lasting_store, "both", system, seed, damage=damage + seed / 1000)
        for system, damage in HEARD.items():
            sanity = FAILED if (system, seed) == ("A2E", 2) else PASSED
            sound_run(lasting_store, "both", system, seed, damage=damage + seed / 1000, sanity=sanity)
            sound_run(lasting_store, "both", system, seed, norm="snr", budget=40.0, budgets=(50.0, 40.0))
    return lasting_store


@pytest.fixture(scope="module")
def analysis(store: Store) -> Analysis:
    return analyze(store, AnalyzeParams(study="both"))


@pytest.fixture(scope="module")
def spectrograms(store: Store) -> Analysis:
    return analyze(store, AnalyzeParams(study="both", domain="spectrogram"))


def test_tables_of_spectrograms_stay_as_they_are(analysis: Analysis, spectrograms: Analysis) -> None:
    for name in ("systems", "robustness", "comparisons", "curves", "sanity", "attacks", "tests"):
        pd.testing.assert_frame_equal(analysis.tables[name], spectrograms.tables[name])
    assert not [name for name in spectrograms.tables if name.startswith("sound_")]
    assert analysis.outcome.run_id != spectrograms.outcome.run_id


def test_the_answer_of_the_sound_stands_first(analysis: Analysis) -> None:
    first, second, third, *others = analysis.report.headline
    assert first.startswith("On the sound, the primary evaluation: Is the interpretable system (A2M2E)")
    assert "more robust than A2E" in first
    assert second.startswith("Primary endpoint, gain of clipped MAE at 6 dB below what the music masks:")
    assert third.startswith("Secondary endpoint, change of correlation")
    seen = [sentence for sentence in others if sentence.startswith("On spectrograms: Is the interpretable")]
    assert len(seen) == 1
    assert any("at L-inf .01" in sentence for sentence in others)
    assert "1 of 24 sanity checks failed, in 1 run" in " ".join(analysis.report.headline)
    about = analysis.report.about
    assert about["models"] == "6 models of 3 systems"
    assert about["clips"] == "12 test clips of 6 albums"
    assert about["runs"].startswith("18 attacks on sound and spectrograms, 20")
    assert about["training seeds"] == "1, 2"
    assert analysis.report.title == "3 systems under the suite of attacks on sound and spectrograms"


def test_the_statistics_of_the_sound_are_those_of_spectrograms(store: Store, analysis: Analysis) -> None:
    """The same test over seeds and albums, margins and Holm's correction, computed here from the runs."""
    runs = read_runs(store, select_domains(store, AnalyzeParams(study="both")).sound)
    assert list(runs.groups) == ["masking", "snr"]
    samples: list[SystemSample] = system_samples(runs.groups["masking"])
    expected = {(row.endpoint, row.a): row for row in compare_systems(samples, "A2M2E")}
    table = analysis.tables["sound_comparisons"]
    assert len(table) == len(expected) == 4
    for row in table.to_dict("records"):
        wanted = expected[row["endpoint"], row["a"]]
        for column in ("difference", "low", "high", "p", "p_holm", "tost_p_holm", "margin"):
            assert row[column] == pytest.approx(getattr(wanted, column), abs=1e-12)
    gain = table.set_index(["endpoint", "a"]).loc[(PRIMARY, "A2E"), "difference"]
    assert gain == pytest.approx(HEARD["A2E"] - HEARD["A2M2E"], abs=0.04)
    metrics = store.get(analysis.outcome.run_id).metrics
    assert metrics["versus/A2E - A2M2E sound_delta_mae_clipped_difference"] == pytest.approx(gain)
    assert metrics["versus/A2E - A2M2E delta_mae_clipped_difference"] < 0.01
    robustness = analysis.tables["sound_robustness"].set_index(["norm", "system", "metric"])
    delta = robustness.loc[("masking", "A2E", "mae_clipped"), "delta"]
    assert metrics["versus/A2E sound_delta_mae_clipped"] == pytest.approx(delta)


def test_curves_are_over_db(analysis: Analysis) -> None:
    curves = analysis.tables["sound_curves"]
    budgets = {norm: rows["db"].dropna().unique().tolist() for norm, rows in curves.groupby("norm")}
    assert budgets == {"masking": [-20.0, -6.0], "snr": [50.0, 40.0]}
    assert curves["db"].isna().equals(curves["epsilon"] == 0)
    axes = analysis.report.figures["sound_curves"].figure.axes
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["none", "-20", "-6"]
    assert axes[0].get_xlabel() == "budget (dB over masked)"


def test_attacks_on_the_sound_are_those_that_are_compared(store: Store) -> None:
    attacks = sorted(store.find(Stage.ATTACK, study="both"), key=lambda run: Tag.DOMAIN in run.tags)
    compared = [run for run in attacks if run.run_id in comparison(store, attacks)]
    assert len(compared) == MOST_COMPARED
    assert {(run.tags[Tag.DOMAIN], run.tags[Tag.NORM]) for run in compared} in (
        {("waveform", "masking")},
        {("waveform", "snr")},
    )


def test_a_single_budget_has_a_point_and_no_area(store: Store) -> None:
    for seed in (1, 2):
        for system in SEEN:
            sound_run(store, "brief", system, seed, budgets=(-6.0,))
    found = analyze(store, AnalyzeParams(study="brief")).report
    (section,) = (one for one in found.sections if one.title == "Over the budget")
    assert section.tables == []
    labels = found.figures["curves"].figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["none", "-6"]


def test_the_section_of_the_sound_says_what_was_done_and_where_to_listen(
    store: Store, analysis: Analysis
) -> None:
    first, section = analysis.report.sections[:2]
    assert first.title == "Clips that suffered most"
    assert section.title == "Audible domain: attacks on the sound"
    told = " ".join(section.paragraphs)
    assert "within 6 dB below what the music masks" in told
    assert "Beside it stand a signal-to-noise ratio of 40 dB" in told
    assert "noise of the same budget adds at most .010" in told
    assert "No listeners were asked" in told
    runs = [run for run in store.find(Stage.ATTACK, study="both") if Tag.DOMAIN in run.tags]
    assert len(section.links) == len(runs) == 12
    assert {link.where.split()[-1] for link in section.links} == {run.run_id for run in runs}
    page = store.download(analysis.outcome.run_id, "report.html").read_text()
    assert "Listen to A2M2E s1 (masking)" in page
    assert page.index("Audible domain") < page.index("Over the budget")


def test_every_attacked_clip_has_a_row(store: Store, analysis: Analysis) -> None:
    clips = store.read_table(analysis.outcome.run_id, "tables/sound_clips.csv")
    assert len(clips) == 12 * 12
    assert (
        clips["delta_mae_clipped"] - clips["adv_mae_clipped"] + clips["clean_mae_clipped"]
    ).abs().max() < 1e-9
    robustness = analysis.tables["sound_robustness"].set_index(["norm", "system", "metric"])
    for (norm, system), rows in clips.groupby(["norm", "system"]):
        delta = robustness.loc[(norm, system, "mae_clipped"), "delta"]
        assert rows["delta_mae_clipped"].mean() == pytest.approx(delta, abs=1e-9)
    audible = analysis.tables["sound_audible"].set_index(["norm", "system"])
    assert (audible["noise_delta_mae_clipped"] == 0.01).all()
    assert (audible["after_mp3"] == 0.2).all()
    assert audible.loc[("masking", "A2E"), "noise_to_mask_db_max"] == -6


def test_the_step_after_the_corrected_one_is_audible(analysis: Analysis) -> None:
    steps = analysis.tables["protocol_steps"]
    last = steps[steps["step"] == "audible domain"]
    assert set(last["domain"]) == {"waveform"}
    assert (last["norm"] == "masking").all()
    assert (last["level"] == -6).all()
    robustness = analysis.tables["sound_robustness"].set_index(["norm", "system", "metric"])
    for row in last.to_dict("records"):
        wanted = robustness.loc[("masking", row["system"], row["metric"]), "adv"]
        assert row["adv"] == pytest.approx(wanted, abs=1e-9)
    before = steps[steps["step"] == "corrected training and attack"]
    assert set(before["domain"]) == {"spectrogram"}
    section = next(part for part in analysis.report.sections if "audible domain" in part.title)
    assert section.tables[0].frame["ε, or level"].tolist()[-2:] == [".01", "masking -6 dB"]
    assert section.tables[0].frame["Also changes"].tolist()[-1] == "-"
    assert list(readable_steps([])["Step"]) == []


def test_the_sound_alone_has_the_usual_tables(store: Store) -> None:
    alone = analyze(store, AnalyzeParams(study="both", domain="waveform"))
    assert set(alone.tables["robustness"]["norm"]) == {"masking", "snr"}
    assert alone.tables["curves"]["db"].notna().any()
    assert "sound_robustness" not in alone.tables
    assert len(alone.tables["sound_clips"]) == 12 * 12
    assert alone.report.headline[0].startswith("Is the interpretable system")
    assert store.get(alone.outcome.run_id).tags[Tag.DOMAIN] == "waveform"
    one = analyze(store, AnalyzeParams(study="both", norm="masking"))
    assert set(one.tables["robustness"]["norm"]) == {"masking"}
    assert (
        one.tables["comparisons"]["difference"].tolist() == alone.tables["comparisons"]["difference"].tolist()
    )


def test_a_study_of_sound_alone_needs_no_word(store: Store, study: str) -> None:
    sound_run(store, study, "A2E", 1)
    assert select_domains(store, AnalyzeParams(study=study)).sound == []
    found = analyze(store, AnalyzeParams(study=study))
    assert found.report.title == "1 system under the suite of attacks on sound"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"budget": -10.0, "budgets": (-20.0, -10.0)}, r"budget: -10 \(1 runs\), -6 \(1 runs\)"),
        ({"budgets": (-30.0, -6.0)}, r"budgets: -20,-6 \(1 runs\), -30,-6 \(1 runs\)"),
        ({"train_protocol": "published"}, "train_protocol: "),
    ],
)
def test_refuses_to_mix_sounds(store: Store, study: str, change: dict[str, object], told: str) -> None:
    sound_run(store, study, "A2E", 1)
    sound_run(store, study, "A2M2E", 1, **change)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=told):
        analyze(store, AnalyzeParams(study=study))


def test_settings_that_no_sound_has_leave_it_out_and_say_so(store: Store, study: str) -> None:
    for system in ("A2E", "A2M2E"):
        suite_run(store, study, system, 1, epsilons=(0.01, 0.05))
        sound_run(store, study, system, 1)
    found = analyze(store, AnalyzeParams(study=study, where="epsilons=0.01,0.05"))
    assert "sound_robustness" not in found.tables
    assert "Attacks on the sound are left out: no attack run found has" in found.report.caveats[-1]


def test_a_single_attack_has_sound_too(store: Store, study: str) -> None:
    attack_run(store, study, "A2E", 1, attack="published", attack_protocol="published")
    sound_run(store, study, "A2E", 1)
    with pytest.raises(UserError, match=r"attack: published"):
        analyze(store, AnalyzeParams(study=study, allow_mixed=False, attack="none"))
    assert "sound_robustness" not in analyze(store, AnalyzeParams(study=study, attack="published")).tables


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"domain": "waveform", "epsilon": 0.01}, "is of the other domain"),
        ({"norm": "snr", "epsilon": 0.01}, "is of the other domain"),
        ({"norm": "l2", "budget": -6.0}, "is of the other domain"),
        ({"domain": "waveform", "norm": "l2"}, "l2 is no norm of domain waveform"),
        ({"domain": "spectrogram", "norm": "masking"}, "masking is no norm of domain spectrogram"),
    ],
)
def test_parameters_of_two_domains(given: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        AnalyzeParams(**given)  # type: ignore[arg-type]


def test_break_even_in_db() -> None:
    """Three models: broken between budgets, never, and before any attack."""
    rows = [
        {
            "system": name, "seeds": 1, "metric": "mae_clipped", "auc": 0.1, "auc_std": 0.0,
            "breakeven": at, "breakeven_low": at, "breakeven_high": at,
        }
        for name, at in (("A2E", 10 ** (-10 / 20)), ("A2M2E", math.inf), ("placebo", 0.0))
    ]  # fmt: skip
    table = readable_areas(
        pd.DataFrame(rows), 10 ** (-6 / 20), unit="dB", shown=lambda at: OF_SOUNDS.shown("masking", at)
    )
    assert table["Break-even dB"].tolist() == ["-9.9", "> -6", "none"]
