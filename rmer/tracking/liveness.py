"""Whether the process that opened a run is still at work: host, process id and start, heartbeat."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import psutil

from rmer.tracking.schema import Tag

HEARTBEAT_SECONDS = 30.0
# On another host a process cannot be looked up: after this much silence it counts as dead.
SILENCE_SECONDS = 300.0
CLOCK_TOLERANCE_SECONDS = 5.0


def process_tags() -> dict[str, str]:
    """Return the tags that identify this process, with a heartbeat of now."""
    return {
        Tag.HOST: socket.gethostname(),
        Tag.PID: str(os.getpid()),
        Tag.PROCESS_STARTED: f"{psutil.Process().create_time():.2f}",
        **heartbeat(),
    }


def heartbeat() -> dict[str, str]:
    """Return the tag that says when the process was last seen (seconds since 1970)."""
    return {Tag.HEARTBEAT: f"{time.time():.0f}"}


def is_alive(tags: Mapping[str, str]) -> bool:
    """Tell whether the process that a run's tags name may still be working on it."""
    try:
        if tags.get(Tag.HOST) == socket.gethostname():
            return _is_process(int(tags.get(Tag.PID, "")), float(tags.get(Tag.PROCESS_STARTED, "")))
        return time.time() - float(tags.get(Tag.HEARTBEAT, "")) < SILENCE_SECONDS
    except ValueError:
        return False


def whereabouts(tags: Mapping[str, str]) -> str:
    """Return ``process 123 on host``, for messages."""
    return f"process {tags.get(Tag.PID, '?')} on {tags.get(Tag.HOST, '?')}"


def _is_process(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        # The start is computed from the boot time, which moves when the clock is set.
        return abs(process.create_time() - started) < CLOCK_TOLERANCE_SECONDS
    except psutil.Error:
        return False
