"""Attack gradients a second, against the published code and against plain matrix products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.data import CONCEPTS, SMALL, TARGETS
from benchmarks.measuring import Result, Row, Settings, Target, Way, added, compare, interleave
from benchmarks.reference import Published
from rmer.attacks.ascent import POLISHING, climb
from rmer.attacks.problem import Problem
from rmer.attacks.search import L1, Best
from rmer.attacks.threat import Threat
from rmer.data.audio.filterbank import BANDS
from rmer.data.audio.frontend import FRAMES
from rmer.systems.arithmetic import has_matrix_units, has_native_bf16
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import Prediction, build_network

CLIPS = {"cpu": 8, "cuda": 64}  # attacked at once
# Iterations of the published attack that are timed together, one clip a time.
ITERATIONS = {FRAMES: 4, SMALL: 12}
SQUARE = 2048
# Rows of a product at a time. A convolution reads each cell once, not once for every tap: products of all
# rows at once would wait for memory that it never touches, and be no limit. A GPU hides that wait.
BLOCK = {"cpu": 2048, "cuda": 2**30}
PUBLISHED = "published"
REDUCED = "bf16 gradient"
STEP = "step of a search"
# Steps of the search that is timed, and its budget: the longest start of the thorough evaluation.
STEPS, EPSILON = 64, 0.01
LIMITS = {"fp32": "fp32 products", REDUCED: "bf16 products"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# (rows, inner, columns) of a matrix product
Shape = tuple[int, int, int]


def attack_gradients(settings: Settings) -> Result:
    """Time gradients at full and at small size; the limit is the time of the products inside them."""
    rows: list[Row] = []
    kind = settings.device.type
    for frames in (FRAMES, SMALL):
        ways, amounts = _ways(frames, settings)
        times = interleave(ways, repeats=settings.repeats, seconds=settings.seconds)
        times |= {
            f"{name} products": added(times, f"{name} forward products", f"{name} backward products")
            for name in _dtypes(settings.device)
        }
        order = (PUBLISHED, "fp32", REDUCED, STEP, *LIMITS.values())
        shown = {name: times[name] for name in order if name in times}
        rows += compare(
            f"attack gradient, {frames} frames",
            shown,
            amounts={name: amounts.get(name, float(CLIPS[kind])) for name in shown},  # gradients
            unit="clips/s",
            limits={name: limit for name, limit in LIMITS.items() if limit in times},
            targets=_targets(frames, settings.device),
        )
        if frames == FRAMES:
            rows += _square_rows(times)
    blocks = f", in blocks of about {BLOCK[kind]} rows" if kind == "cpu" else ""
    return Result(
        rows,
        notes=[
            "The limit of a gradient is the time of its matrix products alone: one for each convolution "
            f"forward and one backward, of the shapes that a batch of {CLIPS[kind]} clips has{blocks}. The "
            f"square product of side {SQUARE} shows the arithmetic at its best. The limit is measured, "
            "not proven: convolutions have kernels of their own, which can be faster than plain products, so "
            "that a gradient may come out a few per cent above it.",
            f"A step is a {STEPS}th of a search of {STEPS} steps with all that belongs to it: in bf16 also "
            f"its last {POLISHING} finer steps and the fp32 predictions of iterates that may be the best.",
        ],
    )


def products(network: nn.Module, inputs: Tensor) -> tuple[list[Shape], list[Shape]]:
    """Return the shapes of the matrix products in one pass forward, and in one back to the inputs."""
    forward: list[Shape] = []
    backward: list[Shape] = []

    def note(module: nn.Conv2d, given: tuple[Tensor], output: Tensor) -> None:
        taps = module.kernel_size[0] * module.kernel_size[1]
        places, before = output[:, 0].numel(), given[0][:, 0].numel()
        forward.append((places, module.in_channels * taps, module.out_channels))
        if before == places:
            backward.append((places, module.out_channels * taps, module.in_channels))
        else:  # a stride: each output scatters into its taps
            backward.append((places, module.out_channels, module.in_channels * taps))

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return forward, backward


def _gradients(frames: int, device: torch.device) -> dict[str, Way]:
    network = build_network("bottleneck", TARGETS, CONCEPTS).to(device)
    inputs = torch.randn(CLIPS[device.type], 1, frames, BANDS, device=device)
    ways: dict[str, Way] = {"fp32": _call(FrozenNetwork(network).gradient, inputs)}
    searching = FrozenNetwork(network)
    if has_native_bf16(device):
        searching = FrozenNetwork(network, precision="bf16")
        ways[REDUCED] = _call(searching.gradient, inputs)
    ways[STEP] = partial(search, searching, inputs, STEPS)
    return ways


def _call(function: Callable[..., object], inputs: Tensor) -> Way:
    def call() -> None:
        function(inputs, _loss)

    return call


def search(network: FrozenNetwork, inputs: Tensor, steps: int) -> Best:
    """Search once from the clean clips, as a start of the thorough evaluation does."""
    labels = torch.full((len(inputs), TARGETS), 0.5, device=inputs.device)
    problem = Problem(inputs, labels, Threat("linf", EPSILON), []).on(network)
    best = Best(network, problem, problem.inputs, {})
    climb(network, problem, L1[0], problem.inputs, best, steps=steps)
    return best


def _loss(prediction: Prediction) -> Tensor:
    return prediction["output"].square().mean(1)


def _ways(frames: int, settings: Settings) -> tuple[dict[str, Way], dict[str, float]]:
    ways, amounts = _gradients(frames, settings.device), {STEP: float(CLIPS[settings.device.type] * STEPS)}
    if settings.reference is not None:
        ways = {PUBLISHED: _published(Published(settings.reference, settings.device), frames), **ways}
        amounts[PUBLISHED] = float(ITERATIONS[frames])
    shapes = products(build_network("bottleneck"), torch.zeros(CLIPS[settings.device.type], 1, frames, BANDS))
    for name, dtype in _dtypes(settings.device).items():
        for direction, wanted in zip(("forward", "backward"), shapes, strict=True):
            ways[f"{name} {direction} products"] = _multiply(wanted, dtype, settings.device)
        ways[f"{name} square"] = _multiply([(SQUARE, SQUARE, SQUARE)], dtype, settings.device)
    return ways, amounts


def _published(code: Published, frames: int) -> Way:
    network = code.network()
    clip = torch.randn(1, 1, frames, BANDS, device=code.device)
    labels = torch.rand(1, TARGETS, device=code.device)

    def call() -> None:
        made = code.attack_clip(network, clip, labels, ITERATIONS[frames])
        assert made == ITERATIONS[frames], "the published attack stopped early"

    return call


def _multiply(shapes: list[Shape], dtype: torch.dtype, device: torch.device) -> Way:
    blocks = []
    for rows, inner, columns in shapes:
        count = max(1, round(rows / BLOCK[device.type]))
        left = torch.randn(rows // count, inner, dtype=dtype, device=device)
        blocks.append((count, left, torch.randn(inner, columns, dtype=dtype, device=device)))

    def call() -> None:
        for count, left, right in blocks:
            for _ in range(count):
                torch.mm(left, right)

    return call


def _square_rows(times: dict[str, list[float]]) -> list[Row]:
    flops = 2 * SQUARE**3 / 1e9
    shown = {name: times[f"{name} square"] for name in DTYPES if f"{name} square" in times}
    return compare("square matrix product", shown, amounts=flops, unit="GFLOP/s")


def _dtypes(device: torch.device) -> dict[str, torch.dtype]:
    """Return the kinds of numbers that a device multiplies natively."""
    return {name: dtype for name, dtype in DTYPES.items() if name == "fp32" or has_native_bf16(device)}


def _targets(frames: int, device: torch.device) -> dict[str, list[Target]]:
    if frames != FRAMES:
        return {}
    if device.type == "cuda":
        return {REDUCED: [Target("published", 50.0)]}
    found = {"fp32": [Target("published", 1.6), Target("limit", 0.8)]}
    if has_native_bf16(device):
        found[REDUCED] = [Target("published", 3.4), Target("limit", 0.8)]
        found[STEP] = [Target("published", 8.0 if has_matrix_units() else 3.4)]
    return found
