"""Commands of rmer in processes of their own that are ready at once, to be killed at any moment.

They are forked from a process that has imported what takes seconds, so that kills hit their work rather than
their imports. What is killed is a process group, as a terminal or a batch system would.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import torch

from entrypoints.cli import main

PRELOADED = ["entrypoints.cli", "entrypoints.main", "entrypoints.sync", "mlflow.pytorch", "rmer.tracking"]
# A command that stands still for so long will not end.
LIMIT_SECONDS = 240.0


class Command:
    """A running ``rmer`` command; what it prints is added to ``log``."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic()
        self._process: BaseProcess = context.Process(
            target=_obey, args=([*arguments], folder, {**environment}, log)
        )
        self._process.start()

    def wait(self, seconds: float = LIMIT_SECONDS) -> int | None:
        """Wait for its end; return its exit code, None if it still runs."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        """Kill its process group; -9, no farewell."""
        assert self._process.pid is not None
        _kill_group(self._process.pid)
        self._process.join()

    def kill_a_worker(self, choice: random.Random) -> bool:
        """Kill one of its worker processes, which are forked by a child of its; False if it has none."""
        workers = _grandchildren(self._process.pid)
        for worker in choice.sample(workers, min(1, len(workers))):
            _kill(worker)
        return bool(workers)


def run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> tuple[int | None, float]:
    """Run a command to its end; return its exit code and the seconds that it took."""
    command = Command(arguments, folder, environment, log)
    code = command.wait()
    if code is None:
        command.kill()
    return code, time.monotonic() - command.began


def _obey(arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    torch.set_num_threads(1)  # sums in one order
    main(arguments, prog_name="rmer")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it is so young that it leads no group yet, or it has just ended
        _kill(pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _grandchildren(pid: int | None) -> list[int]:
    try:
        children = psutil.Process(pid).children()
        return sorted(worker.pid for child in children for worker in child.children())
    except psutil.NoSuchProcess:
        return []
