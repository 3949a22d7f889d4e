"""Every unusable input of the specification, each with the words its message must hold. Used in Python and at the command line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from regsuite.geometry import Grid, Image

from Testing.unit.pipeline.pairs import Pair, box_mask


@dataclass(frozen=True)
class Case:
    """name; make(pair) writes the bad file and returns the options it replaces; words the message must hold, in any case."""

    name: str
    make: Callable[[Pair], dict[str, str]]
    words: tuple[str, ...]
    settings: tuple[str, ...] = field(default=())


def _changed(pair: Pair, change: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """A moving image with other voxels, written without the checks of regsuite."""
    image = sitk.ReadImage(pair.path("moving.nrrd"))
    data = change(torch.from_numpy(sitk.GetArrayFromImage(image)))
    out = sitk.GetImageFromArray(data.numpy())
    out.CopyInformation(image)
    sitk.WriteImage(out, pair.path("bad.nrrd"))
    return pair.path("bad.nrrd")


def _with_voxel(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(data: torch.Tensor) -> torch.Tensor:
        data = data.clone()
        data[3, 4, 5] = value
        return data

    return change


def _truncated(pair: Pair) -> dict[str, str]:
    content = Path(pair.path("moving.nrrd")).read_bytes()
    Path(pair.path("bad.nrrd")).write_bytes(content[: len(content) // 2])
    return {"moving": pair.path("bad.nrrd")}


def _text(pair: Pair) -> dict[str, str]:
    Path(pair.path("bad.nii.gz")).write_bytes(gzip.compress(b"a shopping list"))
    return {"moving": pair.path("bad.nii.gz")}


def _flat(pair: Pair) -> dict[str, str]:
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(20.0).reshape(4, 5)), pair.path("bad.mha"))
    return {"moving": pair.path("bad.mha")}


def _four(pair: Pair) -> dict[str, str]:
    data = np.random.default_rng(0).random((3, 6, 7, 8))
    sitk.WriteImage(sitk.GetImageFromArray(data, isVector=False), pair.path("bad.nrrd"))
    return {"moving": pair.path("bad.nrrd")}


def _one_slice(pair: Pair) -> dict[str, str]:
    data = torch.arange(30.0).view(1, 5, 6)
    path = pair.write("bad.nrrd", Image(data, Grid((1, 5, 6), np.eye(4))))
    return {"fixed": path, "moving": path}


def _singular(pair: Pair) -> dict[str, str]:
    header = (
        "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
        "space directions: (1,0,0) (1,0,0) (0,0,1)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
        "space origin: (0,0,0)\n\n"
    )
    Path(pair.path("bad.nrrd")).write_bytes(header.encode() + np.arange(8, dtype="<f4").tobytes())
    return {"moving": pair.path("bad.nrrd")}


def _empty_mask(pair: Pair) -> dict[str, str]:
    mask = Image(torch.zeros(pair.fixed.grid.shape, dtype=torch.uint8), pair.fixed.grid)
    return {"fixed_mask": pair.write("bad.nrrd", mask)}


def _far_mask(pair: Pair) -> dict[str, str]:
    affine = pair.fixed.grid.affine.copy()
    affine[:3, 3] += 500.0
    return {"fixed_mask": pair.write("bad.nrrd", box_mask(Grid(pair.fixed.grid.shape, affine)))}


def _colour(pair: Pair) -> dict[str, str]:
    data = np.random.default_rng(0).random((5, 6, 7, 3)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(data, isVector=True), pair.path("bad.nrrd"))
    return {"moving": pair.path("bad.nrrd")}


def _no_transform(pair: Pair) -> dict[str, str]:
    Path(pair.path("bad.h5")).write_text("no transform")
    return {"lesion_mask": pair.path("bad.h5")}


CASES = (
    Case("missing file", lambda p: {"moving": p.path("bad.nrrd")}, ("bad.nrrd", "no such file|does not exist|found nothing")),
    Case("truncated file", _truncated, ("bad.nrrd", "cut short")),
    Case("no image", _text, ("bad.nii.gz", "expected")),
    Case("2D with 3D", _flat, ("bad.mha", "2D", "3D")),
    Case("4D", _four, ("bad.nrrd", "4D")),
    Case("one slice", _one_slice, ("bad.nrrd", "one slice")),
    Case("NaN voxel", lambda p: {"moving": _changed(p, _with_voxel(float("nan")))}, ("bad.nrrd", "NaN")),
    Case("infinite voxel", lambda p: {"moving": _changed(p, _with_voxel(float("inf")))}, ("bad.nrrd", "infinite")),
    Case("constant image", lambda p: {"moving": _changed(p, lambda d: torch.full_like(d, 7.0))}, ("bad.nrrd", "constant", "7")),
    Case("colour image", _colour, ("bad.nrrd", "found 3")),
    Case("singular direction", _singular, ("bad.nrrd", "direction|axes")),
    Case("empty mask", _empty_mask, ("bad.nrrd", "empty")),
    Case("mask outside", _far_mask, ("bad.nrrd", "outside", "fixed.nrrd")),
    Case("mask not taken", _no_transform, ("test-shift", "lesion mask")),
    Case("unknown method", lambda p: {"method": "lung-convx"}, ("lung-convx", "lung-convex")),
    Case("unknown preset", lambda p: {"preset": "Fast"}, ("Fast", "Preview", "Default", "Best")),
    Case("unknown setting", lambda p: {}, ("puases", "pauses"), ("puases=3",)),
    Case("setting out of range", lambda p: {}, ("pauses", "0"), ("pauses=0",)),
    Case("setting of another type", lambda p: {}, ("pauses", "many"), ("pauses=many",)),
    Case("setting without value", lambda p: {}, ("key=value", "pauses"), ("pauses",)),
    Case("unknown device", lambda p: {"device": "cuda:77"}, ("cuda:77", "cpu")),
)
