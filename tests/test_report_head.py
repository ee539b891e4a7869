"""What a report begins with: the answer in plain sentences, one figure, what the systems are, worst clips."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import sync_playwright

from rmer.errors import UserError
from rmer.evaluation.attacked import AttackedModel
from rmer.report.contents import Contents
from rmer.report.expectations import expectations
from rmer.report.heard import Heard, HeardClip
from rmer.report.html import Report, Section, render
from rmer.report.legend import UNKNOWN, legend
from rmer.report.listening.sound_files import changed_part
from rmer.report.plain_answer import plain_answer
from rmer.report.sections.clips_section import clips_section, suffering
from rmer.report.summary_figure import summary_figure
from rmer.report.whole_report import report_of
from rmer.systems.catalogue import CATALOGUE

TARGETS = ("tension", "tender")
SEEDS = (1, 2, 3, 4, 5)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ABOUT = {
    "study": "small-c00ee1", "data": "demo, 60 clips, 64 frames", "models": "25 models of 5 systems",
    "clips": "8 test clips of 4 albums", "runs": "25 attacks on sound and spectrograms, 2026-11-27",
}  # fmt: skip
CLEAN = 0.05


def model(system: str, seed: int, gain: float, **tables: float) -> AttackedModel:
    """A model that errs by .05, under attack by ``gain`` more, on the last clip by twice that."""
    labels = np.linspace(0.3, 0.6, 8)
    gains = np.where(np.arange(8) == 7, 2 * gain, gain) + 0.001 * seed
    table = pd.DataFrame({"clip": [f"{clip:03d}" for clip in range(8)]})
    table["album"] = [f"album {clip // 2}" for clip in range(8)]
    for target in TARGETS:
        table[f"label_{target}"] = labels
        table[f"clean_{target}"] = labels + CLEAN
        table[f"adv_{target}"] = table[f"adv_clipped_{target}"] = labels + CLEAN + gains
        table[f"adv_joint_{target}"] = -labels
    return AttackedModel.from_table(
        table.assign(**tables), name=system, system=system, seed=str(seed), run_id=f"{system}-{seed}"
    )


def contents(gains: Mapping[str, float], *, constant: float = 0.2, corrected: bool = True) -> Contents:
    models = [model(system, seed, gain) for system, gain in gains.items() for seed in SEEDS]
    return Contents(
        groups={"linf": models},
        logged={item.run_id: {"constant/mae": constant, "budget/violations": 0.0} for item in models},
        selection={"epsilon": "0.01"},
        reference="A2M2E",
        corrected=corrected,
    )


def test_every_system_of_the_catalogue_has_a_line_of_its_own() -> None:
    described = dict(legend([*CATALOGUE, "aplacebo", "A2M2E w.3", "mine"]))
    assert UNKNOWN not in [described[name] for name in CATALOGUE]
    assert len({described[name] for name in CATALOGUE}) == len(CATALOGUE)
    assert described["aA2E"] == "A2E, trained on attacked clips too"
    assert described["aplacebo"] == "placebo, trained on attacked clips too"
    assert described["A2M2E w.3"] == described["A2M2E"]
    assert described["mine"] == UNKNOWN


def test_the_answer_is_three_sentences_with_the_numbers_of_the_question() -> None:
    answer, damage, grounds = plain_answer(contents({"A2E": 0.2, "A2M2E": 0.05, "aA2E": 0.01}))
    assert answer == "Is the interpretable system (A2M2E) more robust than the black box A2E? Only in part."
    assert damage == (
        "When the spectrogram is changed within L-inf .01, the mean error (clipped MAE, on a scale of 0-1) "
        "goes, of A2E from .05 to .27 and A2M2E from .05 to .11; always predicting the mean errs by .20."
    )
    assert grounds == "This rests on 5 training seeds a system and 8 clips of 4 albums."


def test_a_yes_that_the_placebo_shares_is_qualified_at_once() -> None:
    answer = plain_answer(contents({"A2E": 0.2, "A2M2E": 0.05, "placebo": 0.05}))[0]
    assert answer.endswith(
        "Only in part. But by clipped MAE it is not shown to be more robust than its placebo."
    )


def test_a_budget_that_was_exceeded_is_not_called_kept() -> None:
    kept = contents({"A2E": 0.2, "A2M2E": 0.05})
    logged = {run: {**found, "budget/violations": 3.0} for run, found in kept.logged.items()}
    given = {name: vars(kept)[name] for name in Contents.__dataclass_fields__}
    _, damage, grounds = plain_answer(Contents(**{**given, "logged": logged}))
    assert damage.startswith(
        "When the spectrogram is changed with a budget of L-inf .01, which is exceeded, the mean error"
    )
    assert grounds.endswith("the budget of the attack was not enforced.")


def test_what_speaks_against_the_numbers_is_said_with_them() -> None:
    grounds = plain_answer(contents({"A2E": 0.01, "A2M2E": 0.01}, constant=0.05))[2]
    assert "the attack does too little to tell systems apart" in grounds
    assert "without attack, all systems hardly beat always predicting the mean" in grounds


def test_the_sound_answers_before_spectrograms() -> None:
    seen = contents({"A2E": 0.01, "A2M2E": 0.01})
    heard = Contents(
        **{**vars(contents({"A2E": 0.2, "A2M2E": 0.05})), "selection": {"domain": "waveform"}, "levels": {}}
    )
    both = Contents(**{**{name: vars(seen)[name] for name in Contents.__dataclass_fields__}, "sound": heard})
    answer, damage, grounds = plain_answer(both)
    assert "on spectrograms, the attack does too little to tell systems apart" in grounds
    assert "? On the sound" in answer
    assert damage.startswith("When the sound is changed within several budgets (linf)")


def test_where_no_question_was_asked_the_metrics_are_asked() -> None:
    answer = plain_answer(contents({"A2E": 0.2, "A2M2E": 0.05}, corrected=False))[0]
    assert answer == (
        "Which system fares best under attack depends on the metric: by its mean it is A2M2E by raw MAE and "
        "clipped MAE, A2E by correlation."
    )
    assert plain_answer(contents({"A2E": 0.2}))[0].startswith("Only A2E was attacked")


def test_controls_that_behave_as_theory_says() -> None:
    found = expectations(contents({"A2E": 0.2, "A2M2E": 0.05, "aA2E": 0.02, "placebo": 0.205}))
    assert found == [
        "aA2E loses less than A2E (clipped MAE: .026 and .221), as theory says of adversarial training.",
        "placebo loses about as much as A2E (clipped MAE: .226 and .221), as theory says of a control.",
    ]


def test_controls_that_do_not() -> None:
    adversarial, placebo = expectations(contents({"A2E": 0.1, "aA2E": 0.2, "placebo": 0.02}, constant=0.05))
    assert adversarial.startswith(
        "aA2E loses no less than A2E (clipped MAE: .221 and .116), unlike what theory"
    )
    assert placebo.startswith("placebo loses less than A2E (clipped MAE: .026 and .116), where theory")


def test_a_system_that_wins_by_every_metric() -> None:
    found = contents({"A2E": 0.2, "A2M2E": 0.05}, corrected=False)
    systems = found.systems.assign(adv_corr=[-0.5, 0.5])
    object.__setattr__(found, "systems", systems)
    assert plain_answer(found)[0] == "A2M2E has the best mean under attack, whichever metric is asked."


def test_too_few_seeds_cannot_tell() -> None:
    models = [model("A2E", 1, 0.1), model("aA2E", 1, 0.2)]
    few = Contents(groups={"linf": models}, logged={item.run_id: {} for item in models})
    (sentence,) = expectations(few)
    assert sentence.endswith("of adversarial training; 1 seed a system and 8 clips of 4 albums cannot tell.")


def test_clips_that_suffered_most_come_first_with_the_model_that_they_moved_most() -> None:
    table = suffering([model("A2E", 1, 0.2), model("A2M2E", 2, 0.1)])
    assert table.columns[:4].tolist() == ["clip", "error_clean", "error_attacked", "difference"]
    assert len(table) == 8
    first = table.iloc[0]
    assert (first["clip"], first["worst_system"], first["worst_seed"]) == ("007", "A2E", "1")
    # The label is .6, the attacked prediction of A2E beyond the scale: clipped, its error is .4.
    assert first["error_attacked"] == pytest.approx((0.4 + 0.6 + CLEAN + 0.2 + 0.002 - 0.6) / 2)
    assert first["difference"] == pytest.approx(first["error_attacked"] - CLEAN)
    assert first["worst_difference"] == pytest.approx(0.4 - CLEAN)


def test_sounds_are_part_of_the_page_where_there_are_any() -> None:
    silent = contents({"A2E": 0.2, "A2M2E": 0.1})
    given = {name: vars(silent)[name] for name in Contents.__dataclass_fields__}
    sound = HeardClip(
        "007", "A2E", "1", 0.05, 0.4, 22.0, "data:audio/flac;base64,a", "data:audio/flac;base64,b"
    )
    heard = Contents(**{**given, "heard": Heard(sounds=[sound])})
    section = clips_section(heard)
    page = render(page_of(section))
    assert page.count("<audio") == 2
    assert page.count('src="data:audio/flac;base64,') == 2
    assert "Clip 007, A2E s1: error .05 to .40, 22 dB signal to difference" in page
    assert "<audio" not in render(page_of(clips_section(silent)))


def test_what_is_listened_to_begins_where_the_attack_does() -> None:
    clip = np.zeros(22050 * 8, np.int16)
    attacked = clip.copy()
    attacked[40000:] = 3
    clean, adversary = changed_part(clip, attacked, seconds=2.0)
    assert len(clean) == len(adversary) == 44100
    assert (adversary == 3).all()
    assert len(changed_part(clip, clip, seconds=20.0)[0]) == len(clip)
    with pytest.raises(UserError):
        changed_part(clip, clip[1:])


def page_of(*sections: Section) -> Report:
    return Report(
        title="Title", headline=["Found."], selection={}, systems=pd.DataFrame({"System": ["A2E"]}),
        systems_caption="", sections=sections, caveats=[], runs=[], answer=["Yes."],
        legend=[("A2E", "a black box")], about={"study": "mine", "code": "git commit abc"},
    )  # fmt: skip


def test_all_but_the_beginning_is_folded_and_the_contents_lead_there() -> None:
    page = render(page_of(Section("Open & first", ["One."], open=True), Section("Folded", ["Two."])))
    links = re.findall(r'<a href="#([^"]+)"', page)
    assert links[0] == "open-first"
    assert {"folded", "findings-in-full", "what-was-analysed", "runs"} <= set(links)
    for link in links:
        assert page.count(f'id="{link}"') == 1
    folded = re.findall(r"<details>.*?</details>", page, re.DOTALL)
    assert any("<h2>Folded</h2>" in part and "Two." in part for part in folded)
    assert not any("One." in part for part in folded)
    assert page.index("Yes.") < page.index("a black box") < page.index("<nav>") < page.index("One.")


def test_the_first_figure_shows_every_system_before_and_under_attack() -> None:
    found = contents({"A2E": 0.2, "A2M2E": 0.05})
    (axes,) = summary_figure({"here": found.models}, "mae_clipped", 0.2).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A2E", "A2M2E"]
    large = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    table = found.robustness["linf"]
    rows = table[table["metric"] == "mae_clipped"]
    assert large == pytest.approx([value for row in rows.itertuples() for value in (row.clean, row.adv)])
    assert any(list(line.get_xdata()) == [0.2, 0.2] for line in axes.lines)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_first_screen_holds_the_beginning_and_links_unfold(tmp_path: Path) -> None:
    found = contents({"A2E": 0.2, "A2B2E": 0.2, "A2M2E": 0.05, "aA2E": 0.1, "placebo": 0.15})
    given = {name: vars(found)[name] for name in Contents.__dataclass_fields__}
    whole = report_of(
        Contents(**{**given, "scatter": {"A2E": found.models[0]}, "emotions": TARGETS, "about": ABOUT})
    )
    file = tmp_path / "report.html"
    file.write_text(render(whole))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(file.as_uri())
        for part in (".answer", ".first img", ".legend", "nav"):
            box = page.locator(part).bounding_box() or {"y": -1, "height": 0}
            assert 0 <= box["y"] < box["y"] + box["height"] <= 900, part
        section = page.locator("#corrected-comparison")
        assert not section.is_visible()
        page.click("nav >> text=Corrected comparison")
        section.wait_for(state="visible")
        page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, "nothing is cut on a phone"
        browser.close()
