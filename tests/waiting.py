"""Finds where code would wait for a GPU, without one: the ``meta`` device stands for it.

A tensor of device ``meta`` has no values, so reading one (``bool``, ``item``, ``nonzero``, ``cpu``) raises.
What is sent to the device the other way is recorded: such a copy waits for the device too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("meta")


@contextmanager
def crossings() -> Iterator[list[str]]:
    """Record every operation that takes something from the host to the device; reading back raises."""
    found: list[str] = []
    with _FromPython(found), _FromTensors(found):
        yield found


class _FromTensors(TorchDispatchMode):
    """Records operations on tensors of both sides, copies among them."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.found.append(str(func))
        return result


class _FromPython(TorchFunctionMode):
    """Records tensors that are made on the device from numbers of Python, and lists that are indices."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("tensor", "as_tensor", "new_tensor") and _on_device(result):
            given = args[1 if name == "new_tensor" else 0]
            if not _on_device(given):
                self.found.append(name)
        if name in ("__getitem__", "__setitem__") and _on_device(args[0]):
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(place, (list, range)) for place in places):
                self.found.append(f"{name} of a list")
        return result


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == DEVICE.type
