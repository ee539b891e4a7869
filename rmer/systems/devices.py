"""Where to compute."""

from __future__ import annotations

import torch

from rmer.errors import UserError


def resolve_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is the first GPU where there is one, else the CPU.

    Raises UserError for a name that torch does not know and for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        mend = "Use auto, cpu, cuda or cuda:<number>"
        raise UserError(f"cannot compute on {name!r} ({reason})", where="device", mend=mend) from error
    return device
