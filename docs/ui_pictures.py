"""Makes the pictures of docs/mlflow-ui.md, and that of a report in README.md, of a study that is in a store.

``python docs/ui_pictures.py sqlite:///mlflow.db <study>`` needs Chromium and playwright (extra ``test``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

from rmer.stages.prepared_views import attacks_view, comparison, models_view
from rmer.tracking import Artifact, Stage, Store, Tag, connect
from rmer.tracking.ui import LOCAL

FOLDER = Path(__file__).with_name("images")
SIZE = {"width": 1280, "height": 640}
WAIT_MS = 4000
SYSTEM = "A2M2E"
# The UI opens a panel beside the runs when it is first seen.
NO_PANEL = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
# Where the store lies is nobody's business.
WITHOUT = """
folder => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode())
    texts.currentNode.textContent = texts.currentNode.textContent.replaceAll(folder, "");
}
"""


@contextmanager
def served(store: Store) -> Iterator[None]:
    """Run ``mlflow ui``, unless the store has a server."""
    if store.web:
        yield
        return
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(command, env=environment)
    try:
        while not _answers(LOCAL):
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait()


def make(store: Store, study: str) -> None:
    """Write every picture."""
    attacks = store.find(Stage.ATTACK, {Tag.ATTACK: "suite"}, study)
    analysis = store.find(Stage.ANALYZE, {Tag.ATTACK: "suite"}, study)[0]
    report = store.download(analysis.run_id, Artifact.REPORT)
    folder = f"{report.as_posix().partition('/mlruns/')[0]}/"
    attacked = next(run for run in attacks if run.tags[Tag.SYSTEM] == SYSTEM and Tag.DOMAIN in run.tags)
    pages = {
        "ui-models": store.prepare(models_view(study), attacked.experiment_id),
        "ui-attacks": store.prepare(attacks_view(study), attacked.experiment_id),
        "ui-attack": store.page_of(attacked),
        "ui-concepts": store.page_of(attacked, "figures/concept_shift.png"),
        "ui-compared": comparison(store, attacks),
        "study-report": report.as_uri(),
    }
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with served(store), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, address in pages.items():
            page = browser.new_page(viewport=SIZE)
            page.add_init_script(NO_PANEL)
            page.goto(address)
            page.wait_for_timeout(WAIT_MS)
            page.evaluate(WITHOUT, folder)
            page.screenshot(path=FOLDER / f"{name}.png")
            page.close()
        browser.close()


def _answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    make(connect(sys.argv[1]), sys.argv[2])
