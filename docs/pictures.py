"""Makes the pictures of the published study: ``python docs/pictures.py ../robustness_mer_bottleneck``.

The clone is that of the published logs (README.md). The picture of the report needs Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from rmer.figures import save_figure
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.import_published import ImportParams, import_published
from rmer.tracking import Store, connect

FOLDER = Path(__file__).with_name("images")
FIGURES = ("diff_performance", "true_vs_pred")
SCREEN = (1280, 900)
COLOURS = 128


def make(store: Store, source: str) -> None:
    """Import the published logs, analyse them, and write the figures and the first screen of the report."""
    import_published(store, ImportParams(source=source, study="published"))
    analysis = analyze(store, AnalyzeParams(study="published"))
    for name in FIGURES:
        figure = analysis.report.figures[name].figure
        save_figure(figure, FOLDER / f"{name}.png", "png", dpi=200)
        _fewer_colours(FOLDER / f"{name}.png")
    if chromium := shutil.which("chromium") or shutil.which("google-chrome"):
        page = store.download(analysis.outcome.run_id, "report.html")
        picture, size = FOLDER / "report.png", ",".join(map(str, SCREEN))
        options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}"]
        command = [chromium, *options, f"--screenshot={picture}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        _fewer_colours(picture)


def _fewer_colours(picture: Path) -> None:
    """Make a picture small: a page has few colours."""
    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(COLOURS)
    small.save(picture, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RMER_HOME"] = f"{folder}/home"
        make(connect(f"sqlite:///{folder}/mlflow.db"), sys.argv[1])
