"""Which device a job runs on."""

from __future__ import annotations

import torch

from regsuite.errors import InputError


def choose_device(name: str) -> torch.device:
    """auto: the first CUDA device, else the CPU. A device that is not there raises InputError."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"Unknown device '{name}'; expected auto, cpu or cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"Unknown device '{name}'; expected auto, cpu or cuda:N.")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"Device '{name}' is not available here; found {torch.cuda.device_count()} CUDA devices.")
    return device
