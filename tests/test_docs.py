"""The documentation says what is so: examples run, links resolve, names exist, pages are up to date."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from noise_data import log_dataset, noise_dataset, published_parts
from published_clone import write_clone
from safetensors.torch import save_file

from rmer.attacks.known_attacks import ATTACKS
from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.readers.known_readers import READERS
from rmer.evaluation.metrics import METRICS
from rmer.report.whole_report import SECTIONS
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.import_published import ImportParams, import_published
from rmer.systems.catalogue import CATALOGUE
from rmer.systems.network import ARCHITECTURES, build_network
from rmer.tracking import Origin, Run, RunSpec, Stage, Store, Tag, connect

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = {page.name: BLOCK.findall(page.read_text()) for page in PAGES}
END = "--- end of example ---"


@pytest.fixture(scope="module")
def imported(lasting_store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of a store with 50 imported models and attacks, and one small data set."""
    clone = write_clone(tmp_path_factory.mktemp("docs") / "clone")
    import_published(lasting_store, ImportParams(source=str(clone)))
    data = noise_dataset(published_parts(10), frames=313, concepts=(), fps=31.3)
    spec = RunSpec(Stage.PREPROCESS, "data", {"clips": 10})
    lasting_store.perform(spec, lambda run: log_dataset(run, data))
    log_bottleneck(lasting_store, tmp_path_factory.mktemp("checkpoint"))
    return lasting_store.uri


def log_bottleneck(store: Store, folder: Path) -> None:
    """Log a training of A2M2E that left a network as it began, with all that predicts songs."""
    save_file(build_network("bottleneck").state_dict(), folder / "best.safetensors")
    described = {
        "targets": EMOTIONS,
        "concepts": CONCEPTS,
        "normalisation": {"mean": 0.4, "std": 0.4},
        "frontend": {"frames": 313},
    }

    def log(run: Run) -> None:
        run.file(folder / "best.safetensors", "checkpoints")
        run.json(described, "checkpoints/config.json")
        run.table(pd.DataFrame({"clip": ["1"], "split": ["train"]}), "tables/predictions.csv")

    store.perform(RunSpec(Stage.TRAIN, "A2M2E s6", {"seed": 6}, {Tag.SYSTEM: "A2M2E", Tag.SEED: "6"}), log)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("song") / "song.mp3"
    soundfile.write(file, 0.3 * np.sin(np.arange(4 * 22050) / 9), 22050)
    return file


@pytest.fixture
def store(imported: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", imported)
    return connect()


def run_examples(examples: list[str]) -> list[str]:
    """Run examples as a user would, in a process of its own, and return what each prints."""
    code = "".join(f"{example}\nprint({END!r})\n" for example in examples)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(END)[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, examples in EXAMPLES.items() if examples])
def test_examples_run_and_find_something(page: str, store: Store, song: Path) -> None:
    examples = [example.replace("song.mp3", str(song)) for example in EXAMPLES[page]]
    for example, output in zip(examples, run_examples(examples), strict=True):
        assert "Empty DataFrame" not in output
        assert output.strip() or "print(" not in example


@pytest.mark.slow
def test_a_model_logged_as_documented_is_attacked(store: Store) -> None:
    run_examples([example.replace("mynet", "another") for example in EXAMPLES["own-model.md"]])
    (outcome,) = attack(store, AttackParams(attack="pgd", system="another", steps=1))
    record = store.get(outcome.run_id)
    assert record.tags[Tag.SYSTEM] == "another"
    assert record.tags[Tag.TRAIN_PROTOCOL] == "corrected"
    assert record.metrics["adv/mae"] >= record.metrics["clean/mae"]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them, and "" for the page itself."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE) if page.suffix == ".md" else []
    return {"", *(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for target in (target for target in targets if not target.startswith("http")):
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        assert anchor in anchors(found), target


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert not [page.name for page in PAGES[1:] if f"]({page.relative_to(ROOT)})" not in readme]


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert not [picture for picture in pictures if picture.stat().st_size > 300_000]


def test_sounds_and_their_figures_are_those_that_the_script_makes() -> None:
    script = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "audible.py")))
    assert script.table() in script.PAGE.read_text(), "run: python docs/audible.py"
    made = {name: samples for name, (_, samples) in script.sounds().items()}
    alone, gain = script.raised()
    assert f"raised by {gain:.0f} dB" in script.PAGE.read_text()
    for name, samples in {**made, "masking-6-alone": alone}.items():
        found, rate = soundfile.read(script.FOLDER / f"{name}.flac", dtype="int16")
        assert rate == 22050
        # Processors round differently: by one step of 16 bit, which the gain raises.
        steps = 2 * 10 ** (gain / 20) if name == "masking-6-alone" else 1
        assert np.abs(found.astype(int) - samples).max() <= steps, "run: python docs/audible.py"
    assert {path.stem for path in script.FOLDER.iterdir()} == {*made, "masking-6-alone"}
    assert sum(path.stat().st_size for path in script.FOLDER.iterdir()) < 300_000


@pytest.fixture
def generator() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "parameters.py")))


def test_the_page_of_parameters_is_current(generator: SimpleNamespace) -> None:
    assert generator.PAGE.read_text() == generator.render(), "run: python docs/parameters.py"


def test_the_readme_names_entry_points_and_parameters_that_exist(generator: SimpleNamespace) -> None:
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    section = (ROOT / "README.md").read_text().split("## Entry points")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| `")]
    named = {row[0].strip(" `"): re.findall(r"`(\w+)`", row[-1]) for row in rows}
    assert set(named) == set(entry_points)
    known = {name: kind.names() for name, kind in generator.STAGES.items()}
    assert not [(name, p) for name, parameters in named.items() for p in parameters if p not in known[name]]


def options(text: str) -> list[tuple[str, str]]:
    """Return (command, option) for every ``rmer <command> --option`` in a text."""
    calls = re.findall(r"^rmer ([\w-]+)((?:.*\\\n)*.*)", text, re.MULTILINE)
    return [(command, option) for command, rest in calls for option in re.findall(r"--([\w-]+)", rest)]


def test_options_are_found() -> None:
    text = "rmer import-published --source a\nrmer main --size full \\\n  --dry_run true\n"
    expected = [("import-published", "source"), ("main", "size"), ("main", "dry_run")]
    assert options(text) == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_pages_give_them(page: Path, generator: SimpleNamespace) -> None:
    known = {name: set(kind.__dataclass_fields__) for name, kind in generator.STAGES.items()}
    known["server"] = {option.name for option in generator.server.params}
    unknown = [
        (command, option)
        for command, option in options(page.read_text())
        if option.replace("-", "_") not in known[command.replace("-", "_")]
    ]
    assert not unknown


def test_every_promise_names_tests_that_exist() -> None:
    rows = re.findall(
        r"^\| (?!what fails|-)(.*) \|$", (ROOT / "docs" / "failures.md").read_text(), re.MULTILINE
    )
    assert len(rows) >= 25
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row.rsplit("|", 1)[1])
        assert named, row
        for file, test in named:
            assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


def test_every_tag_is_documented() -> None:
    page = (ROOT / "docs" / "tracking.md").read_text()
    tags = [value for name, value in vars(Tag).items() if not name.startswith("_")]
    forms = ("`{}`", "`{}.<run id>`", "`{}.<number>`")
    assert not [tag for tag in tags if not any(form.format(tag) in page for form in forms)]
    stages = [value for name, value in vars(Stage).items() if not name.startswith("_")]
    assert not [stage for stage in stages if f"| `{stage}` |" not in page]
    origins = [value for name, value in vars(Origin).items() if not name.startswith("_")]
    assert not [origin for origin in origins if f"`{origin}`" not in page]


def test_every_documented_tag_exists() -> None:
    groups = {registry.group for registry in (CATALOGUE, ARCHITECTURES, READERS, METRICS, SECTIONS, ATTACKS)}
    tags = {*vars(Tag).values(), *groups}
    for page in PAGES:
        named = re.findall(r"`(rmer\.[a-z_.]+[a-z_])(?:`|\.<run id>`)", page.read_text())
        assert not [tag for tag in named if tag not in tags and importlib.util.find_spec(tag) is None], page


def test_every_attack_and_system_is_documented() -> None:
    page = (ROOT / "docs" / "protocols.md").read_text()
    assert not [name for name in ATTACKS if f"**`{name}`**" not in page]
    texts = "".join(page.read_text() for page in PAGES)
    assert not [name for name in CATALOGUE if name not in texts]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_machine(page: Path) -> None:
    assert not re.findall(r"(?:\.\./shared|/work/|/tmp/|/home/|/root/)", page.read_text())
