"""Reading and checking a volume and slices of it. Every fault becomes one sentence that names the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.io import read_image, read_labels
from regsuite.pipeline.inputs import check_device, check_image, match_mask
from regsuite.pipeline.request import check_fields, from_mapping

_MOST_SLICES = 64
_METHOD = "slices-qmri"


@dataclass(frozen=True)
class SlicesRequest:
    """volume and slices (paths) -> the folder `out`. slice_masks and values: one file per file of slices, in their order.

    values: what is brought into the volume (default: the slices themselves); labels: a segmentation of the volume for the table.
    """

    volume: str
    slices: list[str]
    out: str
    volume_mask: str | None = None
    slice_masks: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    labels: str | None = None
    method: str = _METHOD
    preset: str = "Default"
    settings: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SlicesRequest:
        """The request held by a JSON object; raises InputError for an unknown, missing or mistyped entry."""
        return from_mapping(cls, values)


@dataclass(frozen=True)
class SlicesInputs:
    """Checked inputs: single slices, whatever files they came in; masks on their grids. names: one per slice, for messages."""

    volume: Image
    slices: tuple[Image, ...]
    names: tuple[str, ...]
    volume_mask: Image | None = None
    slice_masks: tuple[Image, ...] | None = None
    values: tuple[Image, ...] | None = None
    labels: Image | None = None
    notes: tuple[str, ...] = ()


def load_slices(request: SlicesRequest) -> SlicesInputs:
    """Read and check everything the request names; raises InputError naming the file and what is wrong with it."""
    check_device(request.device)
    if not request.slices:
        raise InputError("Expected at least one slice, found none.")
    for name, files in (("slice masks", request.slice_masks), ("values", request.values)):
        if files and len(files) != len(request.slices):
            raise InputError(f"Expected one file of {name} for each of the {len(request.slices)} slices, found {len(files)}.")
    volume = read_image(request.volume)
    check_image(_name(request.volume), volume)
    if min(volume.grid.shape) < 8:
        raise InputError(f"The volume {_name(request.volume)} must have 8 voxels along each axis or more, not {volume.grid.size}.")
    notes: list[str] = []
    slices, names = _read_slices(request.slices)
    mask = read_labels(request.volume_mask) if request.volume_mask else None
    if mask is not None:
        match_mask(_name(request.volume_mask), mask, _name(request.volume), volume.grid, notes)
    return SlicesInputs(
        volume=volume,
        slices=slices,
        names=names,
        volume_mask=mask,
        slice_masks=_alike(request.slice_masks, request.slices, slices, "mask", labels=True) if request.slice_masks else None,
        values=_alike(request.values, request.slices, slices, "value image", labels=False) if request.values else None,
        labels=read_labels(request.labels) if request.labels else None,
        notes=tuple(notes),
    )


def _name(path: str | None) -> str:
    return f"'{Path(path or '').name}'"


def _read_slices(paths: list[str]) -> tuple[tuple[Image, ...], tuple[str, ...]]:
    """Single slices in the order given; a file of several parallel slices is taken apart."""
    slices: list[Image] = []
    names: list[str] = []
    for path in paths:
        _require_place(path)
        image = read_image(path)
        if image.data.is_complex() or image.channels != 1:
            raise InputError(f"{_name(path)} must hold one real grey value per pixel.")
        if min(image.grid.shape[1:]) < 8:
            raise InputError(f"{_name(path)} must have at least 8 x 8 pixels per slice, found {image.grid.size} (i, j, k).")
        depth = image.grid.shape[0]
        if len(slices) + depth > _MOST_SLICES:
            raise InputError(f"{_name(path)} has {depth} slices; expected at most {_MOST_SLICES} in all. Is it a volume?")
        for k in range(depth):
            flat = Image(image.data[:, k : k + 1], image.grid.cropped((k, 0, 0), (1, *image.grid.shape[1:])))
            name = _name(path) if depth == 1 else f"{_name(path)} slice {k + 1}"
            if bool(flat.data.min() == flat.data.max()):
                raise InputError(f"{name} is constant: every pixel is {flat.data.flatten()[0].item():g}; expected structure.")
            slices.append(flat)
            names.append(name)
    return tuple(slices), tuple(names)


def _require_place(path: str) -> None:
    """A 2D file holds no orientation in space; refuse it rather than guess."""
    if not Path(path).is_file():
        return
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return  # read_image says what is wrong with the file
    if reader.GetDimension() == 2:
        raise InputError(
            f"{_name(path)} is a 2D file without orientation: where it lies in space is not known; expected a 3D image of "
            "one slice (NRRD, NIfTI, MetaImage with three axes) or DICOM."
        )


def _alike(paths: list[str], slice_paths: list[str], slices: tuple[Image, ...], what: str, labels: bool) -> tuple[Image, ...]:
    """Images that belong to the slices, on the slices' grids."""
    out: list[Image] = []
    for path, own in zip(paths, slice_paths, strict=True):
        image = read_labels(path) if labels else read_image(path)
        first = len(out)
        for k in range(image.grid.shape[0]):
            if first + k >= len(slices):
                raise InputError(f"The {what} {_name(path)} has more slices than {_name(own)}.")
            flat = Image(image.data[:, k : k + 1], image.grid.cropped((k, 0, 0), (1, *image.grid.shape[1:])))
            target = slices[first + k].grid
            if flat.grid.shape != target.shape or not torch.allclose(
                torch.from_numpy(flat.grid.corners()), torch.from_numpy(target.corners()), atol=0.05
            ):
                raise InputError(
                    f"The {what} {_name(path)} lies on another grid than {_name(own)}; expected {target.size} pixels at the same "
                    f"place, found {flat.grid.size}."
                )
            out.append(Image(flat.data, target))
    if len(out) != len(slices):
        raise InputError(f"The {what}s hold {len(out)} slices; expected {len(slices)}.")
    return tuple(out)
