"""Epochs of training, clean and adversarial, against the published code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.data import SMALL, noise
from benchmarks.measuring import Result, Row, Settings, Target, Times, Way, compare, interleave
from benchmarks.reference import HAS_SNR, Batch, Published, published_batches
from rmer.data.audio.frontend import FRAMES
from rmer.data.standardised import Standardised
from rmer.systems.arithmetic import Precision
from rmer.systems.catalogue import CATALOGUE
from rmer.systems.fastest_precision import resolve_precision
from rmer.training.fit import fit
from rmer.training.protocol import FitConfig, resolve_fit

BATCH, TRAIN, VALIDATION = 8, 16, 2  # the study validates one clip for every eight that it trains on
ATTACKED, ITERATIONS = 4, 50
ON_GPU = 10.0  # times as fast as the published code on the same GPU
PUBLISHED = "published"
WITHOUT_SNR = "published, without its SNR"


def training_epoch(settings: Settings) -> Result:
    """Time an epoch of A2M2E: two steps on 8 clips, and the validation of 2 clips."""
    rows: list[Row] = []
    for frames in (FRAMES,) if settings.quick else (FRAMES, SMALL):
        data = noise(TRAIN, VALIDATION, frames)
        ways: dict[str, Way] = {}
        if settings.reference is not None:
            ways[PUBLISHED] = _published_epoch(Published(settings.reference, settings.device), data)
        for precision in _precisions(settings.device):
            ways[precision] = _epoch(data, _config("A2M2E", precision), settings.device)
        rows += compare(
            f"training epoch, {frames} frames",
            interleave(ways, repeats=settings.repeats, seconds=settings.seconds),
            amounts=float(TRAIN),
            unit="clips/s",
            targets={"bf16": [_target(settings.device, 2.0)]} if frames == FRAMES else {},
        )
    note = "Both codes train on clips in memory: what the published data loader costs is left out."
    return Result(rows, notes=[note] if settings.reference else [])


def adversarial_epoch(settings: Settings) -> Result:
    """Time an epoch of aA2B2E in which every batch is attacked: one batch of 4 clips, 50 iterations."""
    iterations = ITERATIONS // 5 if settings.quick else ITERATIONS
    data = noise(ATTACKED, 2, FRAMES)
    ways: dict[str, Way] = {}
    code = None if settings.reference is None else Published(settings.reference, settings.device)
    snr: list[float] = []
    if code is not None:
        ways[PUBLISHED] = _published_adversarial(code, data, iterations, snr)
    for precision in _precisions(settings.device):
        ways[precision] = _epoch(data, _attacked_config(precision, iterations), settings.device)
    repeats, seconds = (settings.repeats + 1) // 2, 2 * settings.seconds  # a round takes half a minute
    times: Times = interleave(ways, repeats=repeats, seconds=seconds, warm_up=False)
    if code is not None and HAS_SNR:
        without = [whole - part for whole, part in zip(times[PUBLISHED], snr, strict=True)]
        times = {PUBLISHED: times[PUBLISHED], WITHOUT_SNR: without, **times}
    name = f"adversarial epoch, {iterations} iterations, {FRAMES} frames"
    targets = {"fp32": [_target(settings.device, 2.0)], "bf16": [_target(settings.device, 4.0)]}
    rows = compare(name, times, amounts=float(ATTACKED), unit="clips/s", targets=targets)
    if WITHOUT_SNR in times:
        bare = {way: values for way, values in times.items() if way != PUBLISHED}
        compared = compare(
            f"{name}, without SNR", bare, amounts=float(ATTACKED), unit="clips/s", published=WITHOUT_SNR
        )
        rows += [row for row in compared if row.way != WITHOUT_SNR]
    return Result(rows, notes=[*_snr_notes(code, iterations), _corrected_note()])


def corrected_adversarial_epoch(settings: Settings) -> Result:
    """Time an epoch of corrected adversarial training (aA2M2E): PGD-10 on half of each batch."""
    data = noise(TRAIN, VALIDATION, FRAMES)
    ways: dict[str, Way] = {
        name: _epoch(data, _config("aA2M2E", name), settings.device) for name in _precisions(settings.device)
    }
    times = interleave(ways, repeats=max(1, settings.repeats // 2), seconds=settings.seconds)
    name = f"corrected adversarial epoch, {FRAMES} frames"
    return Result(compare(name, times, amounts=float(TRAIN), unit="clips/s"))


def _precisions(device: torch.device) -> list[Precision]:
    best = resolve_precision("auto", device)
    return ["fp32", "bf16"] if best == "bf16" else ["fp32"]


def _target(device: torch.device, on_cpu: float) -> Target:
    return Target("published", ON_GPU if device.type == "cuda" else on_cpu)


def _config(system: str, precision: Precision) -> FitConfig:
    return resolve_fit(
        CATALOGUE[system], "corrected", seed=6, epochs=1, batch_size=BATCH, precision=precision
    )


def _attacked_config(precision: Precision, iterations: int) -> FitConfig:
    config = resolve_fit(
        CATALOGUE["aA2B2E"],
        "published",
        seed=6,
        epochs=1,
        batch_size=ATTACKED,
        adversarial_iterations=iterations,
        precision=precision,
    )
    assert config.adversarial is not None
    return replace(config, drop_last=False, adversarial=replace(config.adversarial, every=1))


def _epoch(data: Standardised, config: FitConfig, device: torch.device) -> Way:
    """Return a way that fits one epoch and says how long it took, without building the network."""

    def call() -> float:
        return fit(data, config, device=device).history[0]["cost/epoch_seconds"]

    return call


def _published_epoch(code: Published, data: Standardised) -> Way:
    train, validation = _batches(data, BATCH), _validation(data)
    network = code.network()
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-4)
    return lambda: code.train_epoch(network, optimiser, train, validation)


def _published_adversarial(
    code: Published, data: Standardised, iterations: int, snr: list[float]
) -> Callable[[], None]:
    train = _batches(data, ATTACKED)
    network = code.network()
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-4)

    def call() -> None:
        before = code.snr_seconds
        code.adversarial_epoch(network, optimiser, train, iterations)
        snr.append(code.snr_seconds - before)

    return call


def _batches(data: Standardised, size: int) -> list[Batch]:
    assert data.train.concepts is not None
    return published_batches(data.train.inputs, data.train.labels, data.train.concepts, size)


def _validation(data: Standardised) -> list[Batch]:
    part = data.validation
    assert part.concepts is not None
    return published_batches(part.inputs, part.labels, part.concepts, len(part))


def _snr_notes(code: Published | None, iterations: int) -> list[str]:
    if code is None:
        return []
    if not HAS_SNR:
        return [
            "librosa is not installed: the published code runs without the SNR that it computes for every "
            "clip and drops, so it is faster here than it is."
        ]
    short = (
        "" if iterations == ITERATIONS else f" With {iterations} iterations its share is larger than with 50."
    )
    return [
        "Published adversarial training computes an SNR for every attacked clip and drops it; the ratio to "
        f"the code without it is given too.{short}"
    ]


def _corrected_note() -> str:
    return (
        "An adversarial epoch attacks the whole batch with the published attack, as every fifth epoch of "
        "published training does; in bf16 its comparisons, of which nothing is reported, are bf16 too."
    )
