"""Tables altered after their run: none gets into an analysis, whether the run kept digests or not."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from attack_runs import EMOTIONS, attack_run, suite_run

from rmer.errors import UserError
from rmer.evaluation.checks.measurements import AttackedScores, PrecisionPair
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.reading import read_runs
from rmer.stages.analysis.selection import select_attack_runs
from rmer.stages.attack.agreement import read_curve
from rmer.tracking import Run, RunSpec, Store, Tag
from rmer.tracking.integrity import as_tags, logged

CLIPS, CURVE, CURVE_CLIPS = "adversaries/clips.csv", "tables/curve.csv", "tables/curve_clips.csv"
SANITY, PRECISION = "tables/sanity.csv", "tables/precision.csv"
STUDY = "main"

Edit = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def stored(lasting_store: Store) -> tuple[Store, list[str]]:
    """Two evaluations in a store, the second of which is tampered with."""
    damage = [AttackedScores(0.2, 0.2), AttackedScores(0.5, 0.4), AttackedScores(0.49, 0.39)]
    searches = {0.01: PrecisionPair(3, *damage)}
    return lasting_store, [suite_run(lasting_store, STUDY, "A2E", seed, searches=searches) for seed in (1, 2)]


@pytest.fixture
def run_id(stored: tuple[Store, list[str]], tmp_path: Path) -> Iterator[str]:
    """The run to tamper with; its files and digests are put back afterwards."""
    store, (_, run_id) = stored
    root = store.download(run_id, CLIPS).parents[1]
    shutil.copytree(root, tmp_path / "kept")
    digests = {tag: text for tag, text in store.get(run_id).tags.items() if tag.startswith(Tag.DIGESTS)}
    yield run_id
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "kept", root)
    store.set_tags(run_id, digests)


@pytest.fixture
def store(stored: tuple[Store, list[str]]) -> Store:
    return stored[0]


def read(store: Store, path: str, run_id: str) -> None:
    """Read what an analysis of the study reads of this file."""
    selected = select_attack_runs(store, {}, study=STUDY, systems=[], where={}, allow_mixed=False)
    if path == CURVE:
        read_curve(store, store.get(run_id))
    else:
        read_runs(store, selected)


def place(store: Store, run_id: str, path: str) -> Path:
    return store.download(run_id, CLIPS).parents[1] / path


def forget_digests(store: Store, run_id: str) -> None:
    """Make a run one of an older version."""
    for tag in store.get(run_id).tags:
        if tag.startswith(Tag.DIGESTS):
            store.client.delete_tag(run_id, tag)


def said(run_id: str, what: str) -> str:
    """Return the whole message about a run as a pattern."""
    mend = f"Restore the file, or delete the run (`mlflow runs delete --run-id {run_id}`) and repeat it"
    return f"^{re.escape(f'run {run_id} (A2E s2): {what}. {mend}')}$"


def of(kind: str, change: Callable[[pd.DataFrame], object]) -> Edit:
    """Return an edit of the columns of one kind."""

    def edit(table: pd.DataFrame) -> pd.DataFrame:
        columns = [name for name in table if re.fullmatch(kind, str(name))]
        return table.assign(**dict(zip(columns, np.asarray(change(table[columns])).T, strict=True)))

    return edit


def scaled(kind: str, factor: float) -> Edit:
    return of(kind, lambda values: values * factor)


def swapped(table: pd.DataFrame) -> pd.DataFrame:
    first, second = table["clip"][0], table["clip"][1]
    return table.assign(clip=table["clip"].replace({first: second, second: first}))


def clean_as_adversarial(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{f"adv_{name}": table[f"clean_{name}"] for name in EMOTIONS})


NUMBERS = ".*(mae|corr|value|tension|tender|valence|loss)"
# What was done to the files in drills: kind of damage -> the new bytes of the file, from its bytes.
TAMPERINGS: dict[str, Callable[[Path, Path], object]] = {
    "predictions times 1000": lambda file, other: rewrite(file, of(NUMBERS, lambda values: values * 1000)),
    "another run's file": lambda file, other: shutil.copyfile(other, file),
    "not a number": lambda file, other: rewrite(file, of(NUMBERS, lambda values: values * np.nan)),
    "infinite": lambda file, other: rewrite(file, of(NUMBERS, lambda values: values + np.inf)),
    "a row less": lambda file, other: rewrite(file, lambda table: table.iloc[1:]),
    "one digit": lambda file, other: file.write_text(one_digit(file.read_text())),
    "cut": lambda file, other: file.write_bytes(file.read_bytes()[:-60]),
    "one byte more": lambda file, other: file.write_bytes(file.read_bytes() + b"\n"),
    "text": lambda file, other: file.write_text("hello"),
    "empty": lambda file, other: file.write_text(""),
    "binary": lambda file, other: file.write_bytes(bytes(range(256))),
    "a folder": lambda file, other: (file.unlink(), file.mkdir()),
}


def rewrite(file: Path, edit: Edit) -> None:
    table = pd.read_csv(file, dtype={"clip": str})
    edit(table).to_csv(file, index=False)


def one_digit(text: str) -> str:
    place = text.rindex(".") + 1
    return f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}"


@pytest.mark.parametrize("path", [CLIPS, CURVE, CURVE_CLIPS, SANITY, PRECISION])
@pytest.mark.parametrize("kind", TAMPERINGS)
def test_no_altered_file_of_a_run_is_analysed(
    store: Store, stored: tuple[Store, list[str]], run_id: str, path: str, kind: str
) -> None:
    other = place(store, stored[1][0], path)
    if kind == "another run's file" and other.read_bytes() == place(store, run_id, path).read_bytes():
        other = place(store, run_id, CURVE_CLIPS)  # both runs passed the same checks
    TAMPERINGS[kind](place(store, run_id, path), other)
    with pytest.raises(UserError, match=said(run_id, f"{path} is not the file that the run logged")):
        read(store, path, run_id)


def test_an_analysis_of_untouched_files_raises_nothing(store: Store, run_id: str) -> None:
    for path in (CLIPS, CURVE):
        read(store, path, run_id)
    forget_digests(store, run_id)
    for path in (CLIPS, CURVE):
        read(store, path, run_id)


def test_a_missing_file_names_run_and_file(store: Store, run_id: str) -> None:
    file = place(store, run_id, SANITY)
    file.unlink()
    mend = f"run {run_id}: there is no artifact {file}. Check the run and the path"
    with pytest.raises(UserError, match=f"^{re.escape(mend)}$"):
        analyze(store, AnalyzeParams(study=STUDY))


UNUSABLE = "is empty, holds a clip twice or has labels that are not numbers"
ROWS = [
    (CLIPS, scaled("clean_.*", 1000), "gives clean/mae 452.786, and the run logged 0.0779294"),
    (CLIPS, scaled("adv_(tension|tender|valence)", 1000), "gives adv/mae 511.18, and the run logged 0.37759"),
    (CLIPS, scaled("adv_clipped_.*", 1000), "gives adv/mae_clipped 0.55, and the run logged 0.177816"),
    (CLIPS, of("adv_joint_.*", lambda x: x[::-1]), "gives adv/corr 0.145904, and the run logged 0.11852"),
    (CLIPS, scaled("adv_joint_.*", np.nan), "gives adv/corr nan, and the run logged 0.11852"),
    (CLIPS, scaled("adv_(tension|tender|valence)", np.inf), "gives adv/mae inf, and the run logged 0.37759"),
    (CLIPS, clean_as_adversarial, "gives adv/mae 0.0779294, and the run logged 0.37759"),
    (CLIPS, of("label_.*", lambda x: x + 0.01), "gives clean/mae 0.0776383, and the run logged 0.0779294"),
    (CURVE_CLIPS, scaled("tension", 1000), "gives auc/mae 137.149, and the run logged 0.428779"),
    (CURVE, of("corr", lambda x: x + 2e-6), "gives auc/corr 0.0138525, and the run logged 0.0138505"),
    (CURVE, lambda table: table.iloc[:-1], "gives auc/mae 0.294766, and the run logged 0.428779"),
    (CURVE, lambda table: table.drop(columns="corr"), "lacks corr"),
    (CURVE, lambda table: table.iloc[:0], "has no numbers under epsilon, mae, mae_clipped, corr"),
    (CURVE, of("corr", lambda values: values.astype(str) + "x"), "has no numbers under corr"),
    (SANITY, lambda table: table.assign(passed="False"), "gives sanity/failed 3, and the run logged 0"),
    (SANITY, lambda table: table.iloc[:-1], "gives sanity/not_judged 0, and the run logged 1"),
    (PRECISION, scaled("mae_loss", 1000), "gives precision/mae_loss 20, and the run logged 0.02"),
]


@pytest.mark.parametrize(("path", "edit", "what"), ROWS)
def test_without_digests_scores_must_be_those_that_the_run_logged(
    store: Store, run_id: str, path: str, edit: Edit, what: str
) -> None:
    forget_digests(store, run_id)
    rewrite(place(store, run_id, path), edit)
    with pytest.raises(UserError, match=said(run_id, f"{path} {what}")):
        read(store, path, run_id)


@pytest.mark.parametrize(
    ("path", "edit", "what"),
    [
        (CLIPS, scaled("clean_tension", np.nan), "has clean predictions that are not numbers"),
        (CLIPS, scaled("label_tension", np.nan), UNUSABLE),
        (CLIPS, lambda table: table.assign(clip="001"), UNUSABLE),
        (CLIPS, lambda table: table.drop(columns="clean_tender"), "lacks clean_tender"),
        (CLIPS, lambda table: table.drop(columns="adv_joint_tender"), "lacks adv_joint_tender"),
        (CLIPS, of("adv_tender", lambda values: values.astype(str) + "x"), "holds text under adv_tender"),
        (
            CURVE_CLIPS,
            lambda table: table.iloc[1:],
            "does not hold the clips of adversaries/clips.csv for every epsilon (mae)",
        ),
        (CURVE_CLIPS, lambda table: table.assign(epsilon="low"), "holds text under epsilon"),
        (CURVE_CLIPS, lambda table: table.drop(columns="metric"), "lacks metric"),
    ],
)
def test_without_digests_tables_must_fit_together(
    store: Store, run_id: str, path: str, edit: Edit, what: str
) -> None:
    forget_digests(store, run_id)
    rewrite(place(store, run_id, path), edit)
    with pytest.raises(UserError) as caught:
        read(store, path, run_id)
    assert str(caught.value) == f"{path} of run {run_id}: {what}. Restore the file, or repeat the attack"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("text", "lacks label_*. Restore the file, or repeat the attack"),
        ("empty", "cannot be read as a table (EmptyDataError). Restore the file, or repeat the run"),
        ("binary", "cannot be read as a table (ParserError). Restore the file, or repeat the run"),
        ("a folder", "cannot be read as a table (it is no file). Restore the file, or repeat the run"),
    ],
)
def test_without_digests_what_is_no_table_is_said_in_one_line(
    store: Store, run_id: str, kind: str, what: str
) -> None:
    forget_digests(store, run_id)
    file = place(store, run_id, CLIPS)
    TAMPERINGS[kind](file, file)
    with pytest.raises(UserError) as caught:
        read(store, CLIPS, run_id)
    assert str(caught.value) == f"adversaries/clips.csv of run {run_id}: {what}"


@pytest.mark.parametrize(
    ("edit", "what"), [(swapped, "labels"), (lambda table: table.assign(clip="x" + table["clip"]), "clips")]
)
def test_runs_on_the_same_data_must_have_the_same_clips_and_labels(
    store: Store, study: str, edit: Edit, what: str
) -> None:
    second, first = attack_run(store, study, "A2E", 1), attack_run(store, study, "A2E", 2)  # newest first
    forget_digests(store, second)
    rewrite(place(store, second, CLIPS), edit)
    with pytest.raises(UserError) as caught:
        analyze(store, AnalyzeParams(study=study))
    assert str(caught.value) == (
        f"run {second} (A2E s1): {CLIPS} has other {what} than that of run {first}, on the same data. "
        f"Restore the file, or delete the run (`mlflow runs delete --run-id {second}`) and repeat it"
    )


def test_runs_on_other_data_may_have_other_clips(store: Store, study: str) -> None:
    runs = [attack_run(store, study, "A2E", seed, dataset=f"d{seed}") for seed in (1, 2)]
    forget_digests(store, runs[1])
    rewrite(place(store, runs[1], CLIPS), lambda table: table.assign(clip="x" + table["clip"]))
    selected = select_attack_runs(store, {}, study=study, systems=[], where={}, allow_mixed=True)
    assert len({model.clips for model in read_runs(store, selected).models}) == 2


def test_digests_are_of_every_file_that_a_run_logged(store: Store, tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.npy").write_bytes(b"array")

    def body(run: Run) -> None:
        run.table(pd.DataFrame({"a": np.float32([0.1])}), "tables/a.csv")
        run.text("first", "notes/a.txt")
        run.text("last", "notes/a.txt")
        run.file(tmp_path / "data")
        run.file(tmp_path / "data", "more")

    tags = store.get(store.perform(RunSpec("test", "digests", {"of": "digests"}), body).run_id).tags
    assert logged(tags, "data") == {"deep/a.npy": logged(tags, "more/data/deep/a.npy")[""]}
    assert set(logged(tags, "more")) == {"data/deep/a.npy"}
    assert logged(tags, "notes/a.txt")[""] == hashlib.sha256(b"last").hexdigest()[:16]
    assert logged(tags, "note") == {}


def test_a_table_is_read_back_to_the_last_digit(store: Store) -> None:
    numbers = np.float32([0.1, 1 / 3, 2e-7])
    spec = RunSpec("test", "digits", {"of": "digits"})
    run_id = store.perform(spec, lambda run: run.table(pd.DataFrame({"a": numbers}), "a.csv")).run_id
    assert store.read_table(run_id, "a.csv")["a"].tolist() == numbers.astype(float).tolist()


def test_digests_of_many_files_fit_into_tags() -> None:
    digests = {f"{'folder' * 20}/{number:03d}.csv": "0123456789abcdef" for number in range(130)}
    tags = as_tags(digests)
    assert max(map(len, tags.values())) <= 8000
    assert logged(tags, "folder" * 20) == {f"{number:03d}.csv": "0123456789abcdef" for number in range(130)}


@pytest.mark.parametrize("text", ["", "[]", "{", "1"])
def test_a_tag_that_holds_no_digests_is_said(store: Store, run_id: str, text: str) -> None:
    store.set_tags(run_id, {f"{Tag.DIGESTS}.0": text})
    message = "tag rmer.digests.0: does not hold digests. Delete the run and repeat it"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        store.download(run_id, CLIPS)
