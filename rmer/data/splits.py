"""Which clips train, validate and test: the published random split, and a split that no album straddles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rmer.errors import UserError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating[Any]]

PARTS = ("train", "validation", "test")
ALL = "all"  # the scheme of a data set that is tested as a whole, by models that were trained on another
SHARES = (0.8, 0.1, 0.1)
SPLIT_SEED = 42
CANDIDATES, BLOCK = 100_000, 2_000
_CONCENTRATION_WEIGHT = 0.1


def published_split(clips: int) -> dict[str, IntArray]:
    """Return the row indices that the published code draws for a data set of ``clips`` clips.

    Same as ``torch.utils.data.random_split`` with sizes int(.8 n), the larger and the smaller half of the
    rest (train, validation, test), and a generator seeded with 42. Raises UserError where a part would be
    empty.
    """
    train = int(clips * 0.8)
    test = int((clips - train) * 0.5)
    validation = clips - train - test
    if min(train, validation, test) < 1:
        what = f"{clips} clips cannot be divided into train, validation and test"
        raise UserError(what, where="split", mend="Give at least 6 clips")
    return dict(zip(PARTS, np.split(published_order(clips), [train, train + validation]), strict=True))


def published_order(clips: int) -> IntArray:
    """Return the permutation of ``clips`` rows that the published split cuts into parts."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    return np.asarray(torch.randperm(clips, generator=generator).numpy(), np.int64)


def album_split(albums: Sequence[str], targets: FloatArray, seed: int = SPLIT_SEED) -> dict[str, IntArray]:
    """Divide clips 80/10/10 so that every album lies in exactly one part and the parts have like targets.

    Of 100 000 random orders of the albums (each cut where the sizes come closest to the shares), the one with
    the lowest cost wins: the sum over the parts of (size / wanted size - 1)^2, of the mean over targets of
    (standardised mean difference)^2, and of the mean over targets of (log ratio of standard deviations)^2,
    differences being to the whole data set; plus .1 sum (album's share of its part)^2 over validation and
    test, because a part of few, large albums supports little inference. It depends on the albums' names, not
    on the order of clips.

    ``albums`` are those of each clip, [clips], ``targets`` the labels to balance, [clips, K], ``seed`` that
    of the random orders. Returns the ascending row indices of train, validation and test. Raises UserError
    with fewer than three albums, or a clip without one.
    """
    if any(not album for album in albums):
        raise UserError("some clips have no album", where="album split", mend="Complete the track list")
    names, members = np.unique(np.asarray(albums, dtype=str), return_inverse=True)
    if len(names) < len(PARTS):
        what = f"{len(names)} albums cannot be divided into train, validation and test"
        raise UserError(what, where="album split", mend="Give at least 3 albums, or use the published split")
    standardised = _standardised(targets)
    sums = np.zeros((len(names), 1 + 2 * standardised.shape[1]))
    np.add.at(sums, members, np.hstack([np.ones((len(members), 1)), standardised, standardised**2]))
    rng, best, lowest = np.random.default_rng(seed), np.zeros(len(names), np.int8), np.inf
    for _ in range(0, CANDIDATES, BLOCK):
        parts = _candidates(sums[:, 0], rng)
        costs = np.round(_costs(sums, parts), 9)  # so that the winner does not hang on the last bit of a sum
        winner = int(np.argmin(costs))
        if costs[winner] < lowest:
            best, lowest = parts[winner], costs[winner]
    return {part: np.flatnonzero(best[members] == number) for number, part in enumerate(PARTS)}


def grouped(albums: Sequence[str], duplicates: Sequence[tuple[int, int]]) -> list[str]:
    """Return the group of each clip, which no split but the published one may tear apart.

    Clips of one album belong together, and so do the ``duplicates``, pairs of rows of the same recording,
    with all that belongs to either. A group is called by the first of its albums in the alphabet.
    """
    _, members = np.unique(np.asarray(albums, dtype=str), return_inverse=True)
    joined = members[np.asarray(duplicates, np.int64).reshape(-1, 2)]
    graph = coo_array((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), (len(albums),) * 2)
    _, component = connected_components(graph, directed=False)
    names: dict[int, str] = {}
    for album, member in sorted(zip(albums, members.tolist(), strict=True)):
        names.setdefault(int(component[member]), album)
    return [names[int(component[member])] for member in members]


def part_column(rows: Mapping[str, IntArray], clips: int) -> list[str]:
    """Return the part of each clip, in their order, from the rows of each part."""
    part_of = {row: part for part in PARTS for row in rows[part].tolist()}
    return [part_of.get(row, "") for row in range(clips)]


def largest_difference(parts: Mapping[str, IntArray], targets: FloatArray) -> dict[str, float]:
    """Return each part's largest absolute standardised mean difference, over targets, to all clips."""
    standardised = _standardised(targets)
    return {part: float(np.abs(standardised[rows].mean(0)).max()) for part, rows in parts.items()}


def _standardised(targets: FloatArray) -> FloatArray:
    values = np.asarray(targets, np.float64)
    spread = values.std(0)
    return np.asarray((values - values.mean(0)) / np.where(spread > 0, spread, 1))


def _candidates(sizes: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """Return the part of each album in each of BLOCK candidates, [candidates, albums].

    An order of albums starts with the test part and goes on with the validation part.
    """
    orders = rng.random((BLOCK, len(sizes))).argsort(axis=1, kind="stable")
    filled = sizes[orders].cumsum(axis=1)
    _, wanted_validation, wanted_test = np.array(SHARES) * sizes.sum()
    place = np.arange(len(sizes))
    last_test = np.abs(filled[:, :-2] - wanted_test).argmin(axis=1)[:, None]
    start = np.take_along_axis(filled, last_test, axis=1)
    excess = np.abs(filled - start - wanted_validation)
    excess[(place <= last_test) | (place == len(sizes) - 1)] = np.inf
    last_validation = excess.argmin(axis=1)[:, None]
    in_order = np.where(place <= last_test, 2, np.where(place <= last_validation, 1, 0))
    parts = np.empty_like(in_order, dtype=np.int8)
    np.put_along_axis(parts, orders, in_order.astype(np.int8), axis=1)
    return parts


def _costs(sums: FloatArray, parts: npt.NDArray[np.int8]) -> FloatArray:
    """Return the cost of each candidate; ``sums`` are the albums' counts, sums and sums of squares."""
    targets = (sums.shape[1] - 1) // 2
    costs = np.zeros(len(parts))
    for number, share in enumerate(SHARES):
        chosen = (parts == number).astype(np.float64)
        totals = chosen @ sums
        sizes = totals[:, :1]
        means = totals[:, 1 : 1 + targets] / sizes
        variances = np.maximum(totals[:, 1 + targets :] / sizes - means**2, 1e-4)
        costs += (sizes[:, 0] / (share * sums[:, 0].sum()) - 1) ** 2
        costs += np.mean(means**2, axis=1) + np.mean((0.5 * np.log(variances)) ** 2, axis=1)
        if number > 0:
            costs += _CONCENTRATION_WEIGHT * (chosen @ sums[:, 0] ** 2) / sizes[:, 0] ** 2
    return costs
