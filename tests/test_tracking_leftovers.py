"""What killed processes leave behind is cleared away by those that go on after them."""

from __future__ import annotations

from pathlib import Path

from networks import log_half
from servers import interrupt

from rmer.tracking import Run, RunSpec, Store

SPEC = RunSpec("train", "A2E s6", {"lr": 5e-4})
OF_STUDY = RunSpec("train", "A2E s6", {"lr": 5e-4}, study="other")
PARTIAL = ".artifact.uploading.x1"  # MLflow's name for a file that is being copied into a local store


def log_files(run: Run) -> None:
    run.text("report", "tables/report.txt")
    log_half(run)


def test_unfinished_uploads_are_cleared_away(store: Store, tmp_path: Path) -> None:
    interrupt(store, SPEC, log_files)
    whole = [
        path.parent for path in (tmp_path / "mlruns").rglob("*") if path.name in ("report.txt", "MLmodel")
    ]
    assert len(whole) == 2
    for folder in whole:
        (folder / PARTIAL).write_text("half")
    assert store.perform(SPEC, log_files).resumed
    assert list((tmp_path / "mlruns").rglob(PARTIAL)) == []


def test_checkpoints_of_a_process_killed_at_the_very_end_go_with_the_next_call(store: Store) -> None:
    folders: list[Path] = []

    def work(run: Run) -> None:
        folders.append(run.work_dir)

    store.perform(SPEC, work)
    (folder,) = folders
    assert not folder.exists()
    folder.mkdir()
    (folder / "training.pt").write_text("checkpoint")
    assert store.perform(SPEC, work).skipped
    assert not folder.exists()


def test_checkpoints_that_a_run_of_another_study_needs_stay(store: Store) -> None:
    store.perform(SPEC, lambda run: None)
    interrupt(store, OF_STUDY, lambda run: (run.work_dir / "training.pt").write_text("checkpoint"))
    assert store.perform(SPEC, lambda run: None).skipped
    found: list[str] = []
    store.perform(OF_STUDY, lambda run: found.append((run.work_dir / "training.pt").read_text()))
    assert found == ["checkpoint"]


def test_a_run_without_checkpoints_makes_no_folder(store: Store, isolated_home: Path) -> None:
    store.perform(SPEC, lambda run: run.metrics({"test/mae": 0.5}))
    assert not (isolated_home / "work").exists()
