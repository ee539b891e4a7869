"""The published code, imported from a clone of its repository and run as it is."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
import types
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rmer.errors import UserError

# Its module of attacks imports librosa, for the SNR alone.
SNR_PACKAGE = "librosa"
HAS_SNR = importlib.util.find_spec(SNR_PACKAGE) is not None
HPARAMS = {
    "mode": "untargeted",
    "target": "random",
    "lr": 0.002,
    "sign": True,
    "clip_eps": 0.001,
    "alpha": None,
    "conv_method": "corr",
}
# Batch of its data loader: names, inputs [8, frames, bands], labels, concepts.
Batch = tuple[list[str], Tensor, Tensor, Tensor]


class Published:
    """Functions of the published code.

    ``device`` is where networks are, and what they are given. Where librosa is not installed an empty module
    stands in for it, and no SNR is computed: the published code is then faster than it really is.
    """

    def __init__(self, root: Path, device: torch.device | str = "cpu") -> None:
        if not (root / "adversary" / "attacker.py").is_file():
            raise UserError(
                "no clone of the published repository",
                where=str(root),
                mend="Clone https://github.com/CPJKU/robustness_mer_bottleneck and name its folder",
            )
        self.root, self.device = root, torch.device(device)
        self.snr_seconds = 0.0
        if not HAS_SNR:
            sys.modules.setdefault(SNR_PACKAGE, types.ModuleType(SNR_PACKAGE))
        self._compute_snr = self._module("adversary.attacker").mel_spec_snr

    def network(self, arch: str = "bottleneck") -> nn.Module:
        """Return a network of 8 targets."""
        vggstyle = self._module("train_models.vggstyle")
        make = vggstyle.Audio2Ml2Emo if arch == "bottleneck" else vggstyle.Audio2Target
        network: nn.Module = make(num_targets=8)
        return network.to(self.device)

    def attack_clip(self, network: nn.Module, clip: Tensor, labels: Tensor, iterations: int) -> int:
        """Attack one clip [1, 1, frames, bands] without an SNR; return the iterations that were made."""
        attacker = self._module("adversary.attacker").Attacker(
            network, self.device, torch.optim.Adam, HPARAMS | {"max_iters": iterations}
        )
        return int(attacker.compute_untargeted_adversary(clip, labels, compute_snr=False)[3])

    def train_epoch(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        train: list[Batch],
        validation: list[Batch],
    ) -> None:
        """Train and validate for one epoch on batches in memory, without the published loader's pickles."""
        functions = self._module("train_models.train_funcs")
        functions.device = self.device
        weights = {"output": 0.5, "c_prob": 0.5}
        functions.train(network, train, optimiser, nn.MSELoss(), 1, weights, "")
        functions.test(network, validation, nn.MSELoss(), mets=["r2", "corr_avg", "rmse"])

    def adversarial_epoch(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, train: list[Batch], iterations: int
    ) -> None:
        """Train for one of the epochs with attacked inputs; ``snr_seconds`` grows by what its SNRs took."""
        functions = self._module("train_models.adv_train_funcs")
        functions.device = self.device
        self._module("adversary.attacker").mel_spec_snr = self._timed_snr
        functions.config["max_iters"] = iterations
        epoch = functions.config["every_n_epoch"]
        functions.adv_train(
            network, train, optimiser, nn.MSELoss(), epoch, {"output": 0.5, "c_prob": 0.5}, ""
        )

    def preprocess(self, folder: Path) -> None:
        """Preprocess ``folder/Set1/*.mp3`` into ``folder/specs``."""
        functions = self._module("data.data_preprocessing")
        functions.DATA_PATH_SOUNDTRACKS = str(folder)
        deterministic = torch.are_deterministic_algorithms_enabled()
        functions.run_preprocessing(Namespace(cache_dir=str(folder / "specs")))
        torch.use_deterministic_algorithms(deterministic)

    def performance(self) -> None:
        """Compute its table of clean scores and its t-tests, from its logs."""
        functions = self._module("analysis.compute_performance")
        functions.RUN_DIR = str(self.root / "runs")
        functions.get_original_performance()
        functions.compute_statistical_test()

    def _timed_snr(self, clip: Any, delta: Any) -> float:
        if not HAS_SNR:
            return float("nan")
        started = time.perf_counter()
        snr = float(self._compute_snr(clip, delta))
        self.snr_seconds += time.perf_counter() - started
        return snr

    def _module(self, name: str) -> Any:
        sys.path.insert(0, str(self.root))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(self.root))


def published_batches(inputs: Tensor, labels: Tensor, concepts: Tensor, size: int) -> list[Batch]:
    """Return what the published data loader yields for clips [clips, 1, frames, bands]."""
    parts: Sequence[Any] = list(
        zip(*(torch.split(t, size) for t in (inputs[:, 0], labels, concepts)), strict=True)
    )
    return [([""] * len(x), x, y[:, :, None], c[:, :, None]) for x, y, c in parts]
