"""Weights in files: safetensors with a card inside; whatever is not exactly what a method needs is refused.

The card (JSON in the file's metadata) names method, version, data, seed, command and figures, and holds a SHA-256 over all tensors,
so a changed value is noticed. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from regsuite.errors import InputError
from regsuite.io.atomic import staged_file
from regsuite.io.itk import readable_file

SHIPPED = Path(__file__).resolve().parents[1] / "Resources" / "Weights"
_KEY = "regsuite"
_EXPECTED = "weights of regsuite (.safetensors)"
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class Card:
    """Where weights come from. figures: what they reached in validation; config: all settings of the training."""

    method: str
    version: int
    data: str
    seed: int
    command: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], card: Card) -> Card:
    """Write tensors and card, all or nothing; returns the card with its hash."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    signed = Card(**{**asdict(card), "sha256": fingerprint(plain)})
    with staged_file(path) as stage:
        save_file(plain, str(stage), metadata={_KEY: json.dumps(asdict(signed))})
    return signed


def load_weights(path: str | os.PathLike[str], method: str, version: int) -> tuple[dict[str, torch.Tensor], Card]:
    """Tensors and card of a file for exactly this method and version.

    Raises InputError with one sentence for a missing, pickled, truncated, foreign, changed or mismatched file.
    """
    name = Path(path)
    readable_file(name, _EXPECTED)
    with name.open("rb") as stream:
        begin = stream.read(4)
    if any(begin.startswith(mark) for mark in _PICKLES):
        raise InputError(f"Cannot use '{name}': expected {_EXPECTED}, found a pickle, which could run code.")
    try:
        with safe_open(str(name), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"Cannot use '{name}': expected {_EXPECTED}, found a damaged or truncated file.") from error
    card = _card(metadata.get(_KEY), name)
    if card.method != method:
        raise InputError(f"Cannot use '{name}': expected weights of '{method}', found those of '{card.method}'.")
    if card.version != version:
        raise InputError(f"Cannot use '{name}': expected version {version} of '{method}', found version {card.version}.")
    if fingerprint(tensors) != card.sha256:
        raise InputError(f"Cannot use '{name}': its values do not match the hash in its card; the file was changed.")
    return tensors, card


def shipped(method: str) -> Path:
    """Where the weights of a method lie in this package; the file need not be there."""
    return SHIPPED / f"{method}.safetensors"


def fill(model: nn.Module, tensors: Mapping[str, torch.Tensor], name: str) -> None:
    """Put the tensors into the network. Raises InputError when names or shapes differ."""
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise InputError(f"Cannot use '{name}': its tensors do not fit the network.") from error


def _card(text: str | None, name: Path) -> Card:
    try:
        values = json.loads(text or "")
        return Card(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"Cannot use '{name}': expected {_EXPECTED}, found a file without their card.") from error
