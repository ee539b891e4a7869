"""What decoders complain of while they read a file, which they print rather than hand back."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# libmpg123 and FFmpeg, in the forms that they print: "Note: Illegal Audio-MPEG-Header 0x0 at offset 9."
_OF_A_DECODER = re.compile(r"\[src/libmpg123|\[\w+ @ 0x|Note: |Warning: |main: ")
_WHERE_IN_SOURCE = re.compile(r"^\[[^\]]*\]\s*(?:error: |warning: )?|^(?:Note|Warning): ")
_TOLD_ANYWAY = ("Trying to resync", "Estimating duration from bitrate")


@contextmanager
def complaints_on_stderr() -> Iterator[list[str]]:
    """Collect what C libraries print to file descriptor 2 inside the block; filled at its end.

    Other text, of another thread say, is passed on to where it would have gone.
    """
    complaints: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        before = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield complaints
        finally:
            os.dup2(before, 2)
            os.close(before)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines():
                if _OF_A_DECODER.match(line):
                    _note(complaints, line)
                else:
                    os.write(2, f"{line}\n".encode())


@contextmanager
def complaints_of_libav() -> Iterator[list[str]]:
    """Collect what the libraries of FFmpeg log inside the block at level warning; filled at its end."""
    import av.logging

    complaints: list[str] = []
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as logged:
            yield complaints
    finally:
        av.logging.set_level(level)
        for _, _, text in logged:
            for line in text.splitlines():
                _note(complaints, line)


def _note(complaints: list[str], line: str) -> None:
    text = _WHERE_IN_SOURCE.sub("", line).strip().rstrip(".!")
    if text and text not in complaints and not text.startswith(_TOLD_ANYWAY):
        complaints.append(text)
