"""A small stand-in for a clone of the published repository: 50 runs, 3 clips each, in its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rmer.data.published_logs import ARCHITECTURES, published_systems

CLIPS = ("146", "310", "057")
HEADER = "file,epoch,db,norm,converged,true-label,orig-pred,new-pred,adv-target"


def write_clone(root: Path) -> Path:
    """Write ``root/runs/adversaries/*``; return ``root``."""
    labels = np.random.default_rng(1).uniform(0.1, 0.7, (len(CLIPS), 8)).round(5)
    for index, (run, (system, _)) in enumerate(published_systems().items()):
        folder = root / "runs" / "adversaries" / f"{run}_0.001_corr_0.002_test"
        folder.mkdir(parents=True)
        (folder / "hparams.yaml").write_text(hparams(run, ARCHITECTURES[system]))
        (folder / "log.csv").write_text(log(labels, np.random.default_rng(index)))
    return root


def hparams(run: str, architecture: str) -> str:
    return (
        f"alpha: null\narchitecture: {architecture}\nclip_eps: 0.001\nconv_method: corr\nlr: 0.002\n"
        f"max_iters: 1000\nmode: untargeted\nmodel: {run.split('_', 1)[1]}\noptimiser: Adam\nsign: true\n"
        "target: random\n"
    )


def log(labels: np.ndarray, rng: np.random.Generator) -> str:
    lines = [HEADER]
    for clip, label in zip(CLIPS, labels, strict=True):
        clean, adversarial = label + rng.normal(0, 0.1, 8), label + rng.normal(0, 2, 8)
        arrays = ",".join(f'"{np.array2string(values[None])}"' for values in (label, clean, adversarial))
        lines.append(
            f"['{clip}.mp3.spec'],1000,{rng.normal(30, 9):.6f},{rng.uniform(1, 90)},False,{arrays},-0.8"
        )
    return "\n".join(lines) + "\n"
