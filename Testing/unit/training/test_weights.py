"""Weights that are not exactly the right ones are refused with one sentence."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from regsuite.errors import InputError
from regsuite.io.weights import Card, fill, load_weights, save_weights
from regsuite.nets.unet import FieldUNet
from safetensors.torch import save_file

CARD = Card("pediatric-unet", 1, "phantom growth", 3, "regsuite train pediatric-unet -o RUN", {"tre_mm": 1.5})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_weights(tmp_path / "w.safetensors", FieldUNet(4).state_dict(), CARD)
    return tmp_path / "w.safetensors"


def refusal(path: Path, method: str = "pediatric-unet", version: int = 1) -> str:
    with pytest.raises(InputError) as caught:
        load_weights(path, method, version)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert path.name in text
    return text


def test_right_weights_come_back(path: Path) -> None:
    tensors, card = load_weights(path, "pediatric-unet", 1)
    model = FieldUNet(4)
    fill(model, tensors, path.name)
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())
    assert (card.seed, card.figures["tre_mm"], len(card.sha256)) == (3, 1.5, 64)


def test_other_method_version_or_size(path: Path) -> None:
    assert "expected weights of 'lung-mlvirnet', found those of 'pediatric-unet'" in refusal(path, "lung-mlvirnet")
    assert "expected version 2" in refusal(path, version=2)
    with pytest.raises(InputError, match="do not fit"):
        fill(FieldUNet(8), load_weights(path, "pediatric-unet", 1)[0], path.name)


@pytest.mark.parametrize("keep", [0, 3, 7, 100, 0.5, -1])
def test_truncated(path: Path, keep: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep == 0.5 else int(keep)])
    assert ("damaged or truncated" if keep else "empty file") in refusal(path)


def test_one_changed_bit(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    assert "hash" in refusal(path)


def test_a_forged_card_and_none(path: Path) -> None:
    tensors, _ = load_weights(path, "pediatric-unet", 1)
    save_file(tensors, str(path), metadata={"regsuite": json.dumps({"method": "pediatric-unet"})})
    assert "card" in refusal(path)
    save_file(tensors, str(path))
    assert "card" in refusal(path)


def test_pickles_are_never_opened(path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    path.write_bytes(pickle.dumps(Bomb()))
    assert "pickle" in refusal(path)
    torch.save({"a": torch.ones(2)}, path)
    assert "pickle" in refusal(path)


def test_absent_and_folder(tmp_path: Path) -> None:
    for name in ("absent.safetensors", ""):
        with pytest.raises(InputError):
            load_weights(tmp_path / name, "pediatric-unet", 1)
