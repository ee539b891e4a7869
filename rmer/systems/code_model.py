"""Models that their user's own Python file defines: ``my_model.py:name``."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from rmer.digests import text_digest
from rmer.errors import UserError, shown
from rmer.systems.audio_model import AUDIO, PEAK, RATE, TAKES, hearing
from rmer.systems.black_box import BlackBox, Predict

CODE = re.compile(r"(?P<file>.+\.py)(:(?P<name>\w*))?")
MODULE = "rmer_model_"  # what modules of such files are called
KINDS = "a torch module, a function without parameters that returns one, or a function of a batch"


def is_code(uri: str) -> bool:
    """Tell whether a model is given by a Python file."""
    return CODE.fullmatch(uri) is not None


def code_file(uri: str) -> Path:
    """Return the file of a model that is given by one."""
    found = CODE.fullmatch(uri)
    assert found is not None
    return Path(found["file"].removeprefix("file://")).expanduser()


def model_of_code(uri: str) -> nn.Module:
    """Run the Python file of ``<file>.py:<name>`` and return the model that it calls so.

    A torch module, or what a function without parameters returns as one, is taken as it is. Any other
    callable maps a batch, a NumPy array float32 [batch, ...], to targets [batch, targets], and is known by
    its predictions alone. Either takes audio if it has an attribute ``sample_rate``, in Hz, with the
    attribute ``peak_normalised`` (:class:`rmer.systems.audio_model.AudioModel`). Raises UserError where the
    file cannot be run, or holds nothing of this name that could be a model.
    """
    file, name = code_file(uri), uri.rpartition(".py")[2].removeprefix(":")
    found = _named(_run(file), name, file)
    if inspect.isclass(found) or (not isinstance(found, nn.Module) and _needs_nothing(found)):
        with _told(file), _beside(file):
            found = found()
    if isinstance(found, nn.Module):
        model: nn.Module = found.eval()
    elif callable(found):
        model = BlackBox(_guarded(found, file), f"{file.name}:{name}")
    else:
        what = f"{name} is no model ({type(found).__name__})"
        raise UserError(what, where=str(file), mend=f"Name {KINDS}")
    if not hasattr(found, RATE):
        return model
    described = {TAKES: AUDIO, RATE: getattr(found, RATE), PEAK: getattr(found, PEAK, False)}
    return hearing(model, described, where=f"{file}:{name}")


def _run(file: Path) -> dict[str, Any]:
    """Return the names that a file defines; what lies beside it can be imported, as by ``python <file>``."""
    try:
        source = file.read_bytes()
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise UserError(what, where=str(file), mend="Give <file>.py:<name> of a model") from error
    module = ModuleType(f"{MODULE}{file.stem}_{text_digest(str(file.resolve()))}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look themselves up there
    with _told(file), _beside(file):
        exec(compile(source, str(file), "exec"), vars(module))
    return vars(module)


def _named(defined: dict[str, Any], name: str, file: Path) -> Any:
    if name in defined:
        return defined[name]
    own = [
        known
        for known, value in defined.items()
        if not known.startswith("_") and callable(value) and _module_of(value).startswith(MODULE)
    ]
    what = f"defines no {shown(name)}" if name else "is given without the name of the model in it"
    mend = f"Give {file}:<name>" + (f", such as {file}:{own[-1]}" if own else "")
    raise UserError(what, where=str(file), mend=mend)


def _module_of(value: Any) -> str:
    return str(getattr(value, "__module__", ""))


def _needs_nothing(function: Any) -> bool:
    """Tell whether a callable has no parameter, so that it makes a model rather than being one."""
    try:
        return callable(function) and not inspect.signature(function).parameters
    except (TypeError, ValueError):  # of compiled code
        return False


def _guarded(predict: Any, file: Path) -> Predict:
    def guarded(batch: npt.NDArray[np.float32]) -> npt.ArrayLike:
        with _told(file), _beside(file):
            found: npt.ArrayLike = predict(batch)
        return found

    return guarded


@contextmanager
def _beside(file: Path) -> Iterator[None]:
    """Let code import what lies beside its file, and other code of that name from elsewhere afterwards."""
    folder = str(file.resolve().parent)
    before = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).is_relative_to(folder):
                del sys.modules[name]


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Turn whatever the user's code raises into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        what = f"its code fails ({type(error).__name__}: {shown(str(error))})"
        raise UserError(what, where=str(file), mend="Mend it, or install what it needs") from error
