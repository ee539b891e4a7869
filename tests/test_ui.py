"""MLflow's UI as the end of a study sends its user there: five questions, each in at most three clicks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from browsers import chromium, mlflow_ui
from click.testing import CliRunner
from playwright.sync_api import Locator, Page

import entrypoints.main
from rmer.data.dataset import EMOTIONS
from rmer.stages.run_names import LONGEST
from rmer.tracking import Artifact, RunRecord, Stage, Store, Tag, connect
from rmer.tracking.ui import LOCAL

SYSTEMS = ("A2E", "A2B2E", "A2M2E", "aA2E", "placebo")
OPTIONS = (
    f"--systems {','.join(SYSTEMS)} --seeds 6 --clips 16 --frames 24 --width 0.125 --epochs 5 --steps 2 "
    "--adversarial_iterations 1 --attacks suite --domains spectrogram --engine serial --workers 1 "
    "--device cpu --study small"
)
MOST_CLICKS = 3

pytestmark = pytest.mark.slow


@dataclass
class Reader:
    """Somebody in front of the UI, whose clicks are counted."""

    page: Page
    clicks: int = 0

    def click(self, target: Locator) -> None:
        target.click()
        self.clicks += 1

    def click_to_new_page(self, target: Locator) -> None:
        with self.page.context.expect_page() as opened:
            self.click(target)
        self.page = opened.value

    def sees(self, text: str) -> Locator:
        """Wait until a text is there."""
        found = self.page.get_by_text(text).first
        found.wait_for()
        return found


@dataclass(frozen=True)
class Studied:
    """A store that a small study filled, and what the command printed."""

    store: Store
    output: str

    @property
    def addresses(self) -> dict[str, str]:
        """What the command told to open."""
        return dict(re.findall(r"^  (\w+) +(http\S+)$", self.output, re.MULTILINE))

    def of(self, stage: str, system: str) -> RunRecord:
        (found,) = self.store.find(stage, {Tag.SYSTEM: system})
        return found


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studied]:
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RMER_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        done = CliRunner().invoke(entrypoints.main.cli, OPTIONS.split())
        assert done.exit_code == 0, done.output
        yield Studied(connect(), done.stdout)


@pytest.fixture(scope="module")
def ui(studied: Studied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_ui(studied.store.uri, tmp_path_factory.mktemp("log")) as address:
        yield address


@pytest.fixture
def reader(ui: str) -> Iterator[Reader]:
    with chromium() as browser:
        reader = Reader(browser.new_page(viewport={"width": 1400, "height": 900}))
        yield reader
        assert reader.clicks <= MOST_CLICKS


def go(reader: Reader, studied: Studied, ui: str, name: str) -> None:
    reader.page.goto(studied.addresses[name].replace(LOCAL, ui))


def first_run(reader: Reader) -> Locator:
    """The name of the run in the first line of a list, a link."""
    return reader.page.locator("[role=row][row-index='0'] a").first


def test_a_command_ends_with_few_short_lines(studied: Studied) -> None:
    lines = studied.output[studied.output.index("Study small") :].splitlines()
    assert len(lines) <= 16
    told = [line for line in lines if not re.search("http:|sqlite:|^Report:", line)]  # of any length
    assert max(len(line) for line in told) <= 100
    assert list(studied.addresses) == ["models", "attacks", "compared", "report"]


def test_runs_have_short_names_and_descriptions_with_links(studied: Studied) -> None:
    for record in studied.store.find():
        assert len(record.name) <= LONGEST
        note = record.tags["mlflow.note.content"]
        assert note.startswith("**")
        assert "](#/experiments/" in note.splitlines()[0], "where the UI lets one click at once"
    trained, attacked = studied.of(Stage.TRAIN, "A2E"), studied.of(Stage.ATTACK, "A2E")
    assert f"runs/{trained.run_id}?" in attacked.tags["mlflow.note.content"]
    assert f"runs/{trained.tags[Tag.DATASET_RUN_ID]}?" in trained.tags["mlflow.note.content"]


def test_metrics_and_parameters_are_few(studied: Studied) -> None:
    most = {Stage.TRAIN: 70, Stage.ATTACK: 75, Stage.ANALYZE: 130, Stage.STUDY: 60}
    for stage, limit in most.items():
        for record in studied.store.find(stage):
            assert len(record.metrics) <= limit
            run = studied.store.client.get_run(record.run_id)
            assert not [name for name, text in run.data.params.items() if re.fullmatch("[0-9a-f]{12,}", text)]
    groups = {name.partition("/")[0] for record in studied.store.find() for name in record.metrics}
    assert max(groups) == "versus", "the sections of the UI are sorted by name"


def test_the_best_clean_correlation(reader: Reader, studied: Studied, ui: str) -> None:
    scores = {
        run.name: run.metrics["test/emotion/corr"] for run in studied.store.find(Stage.TRAIN, study="small")
    }
    best = max(scores.values())
    go(reader, studied, ui, "models")
    first_run(reader).wait_for()
    assert scores[first_run(reader).inner_text()] == best
    cell = reader.page.locator("[row-index='0'] [col-id='metrics.`test/emotion/corr`']")
    assert float(cell.inner_text().rstrip(".…")) == pytest.approx(best, abs=1e-3)
    assert reader.page.get_by_text("Model training").first.is_visible()


def test_the_interpretable_system_against_the_black_box(reader: Reader, studied: Studied, ui: str) -> None:
    go(reader, studied, ui, "report")
    (analysis,) = studied.store.find(Stage.ANALYZE)
    answer = analysis.tags["mlflow.note.content"].splitlines()[1]
    assert "A2M2E" in answer
    reader.page.frame_locator("iframe").get_by_text(answer).first.wait_for()
    assert "versus/A2E - A2M2E delta_mae_clipped_difference" in analysis.metrics


def test_the_clip_that_suffered_most(reader: Reader, studied: Studied, ui: str) -> None:
    go(reader, studied, ui, "attacks")
    reader.click(first_run(reader))
    said = reader.sees("Suffers most: clip").inner_text()
    worst = max(studied.store.find(Stage.ATTACK), key=lambda run: run.metrics["delta/mae_clipped"])
    table = studied.store.read_table(worst.run_id, Artifact.ADVERSARY_CLIPS).set_index("clip")
    rated, clean, attacked = (
        table[[f"{kind}_{emotion}" for emotion in EMOTIONS]].to_numpy() for kind in ("label", "clean", "adv")
    )
    growth = abs(attacked - rated) - abs(clean - rated)
    assert f"Suffers most: clip {table.index[growth.mean(axis=1).argmax()]}, " in said


def test_code_data_and_parameters_of_a_model(reader: Reader, studied: Studied, ui: str) -> None:
    go(reader, studied, ui, "models")
    reader.click(reader.page.get_by_role("link", name="A2M2E s6", exact=True))
    trained = studied.of(Stage.TRAIN, "A2M2E")
    reader.sees("cfg.task_loss_weight")
    reader.sees(f"demo ({trained.tags[Tag.DATASET]}")
    commit = trained.tags.get("mlflow.source.git.commit")
    reader.sees(commit[:7] if commit else "Source")
    reader.click_to_new_page(reader.page.get_by_role("link", name="data", exact=True))
    reader.sees("Labels: valence")


def test_what_happened_to_the_concepts(reader: Reader, studied: Studied, ui: str) -> None:
    attacked = studied.of(Stage.ATTACK, "A2M2E")
    go(reader, studied, ui, "attacks")
    reader.click(reader.page.get_by_role("link", name=attacked.name, exact=True))
    reader.sees("A2M2E: the attack moves")
    reader.click_to_new_page(reader.page.get_by_role("link", name="concepts", exact=True))
    figure = reader.page.locator(
        "img[src*='blob:'], img[src*='get-artifact'], canvas, .image-outer-container img"
    )
    figure.first.wait_for()


def test_five_attacks_are_compared_by_what_differs(reader: Reader, studied: Studied, ui: str) -> None:
    go(reader, studied, ui, "compared")
    reader.sees("Comparing 5 Runs")
    titles = reader.page.locator("svg .axis-title")
    titles.first.wait_for(state="attached")
    axes = titles.all_text_contents()
    assert "cfg.system" in axes
    assert len(axes) <= 4
    assert axes[-1] == "delta/mae_clipped", "the metric that was logged first"
    ticks = " ".join(reader.page.locator("svg text").all_text_contents())
    assert all(system in ticks for system in SYSTEMS)
    assert not re.search(r"\b[0-9a-f]{10,}\b", ticks)
