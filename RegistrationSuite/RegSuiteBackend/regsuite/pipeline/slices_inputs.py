"""Reading and checking a volume and slices of it. Every fault becomes one sentence that names the file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_labels
from regsuite.pipeline import localiser
from regsuite.pipeline.inputs import check_device, check_image, match_mask
from regsuite.pipeline.request import check_fields, from_mapping

_MOST_SLICES = 64
_METHOD = "slices-qmri"


@dataclass(frozen=True)
class SlicesRequest:
    """volume and slices (paths) -> the folder `out`. slice_masks and values: one file per file of slices, in their order.

    values: what is brought into the volume (default: the slices themselves); labels: a segmentation of the volume for the table.
    localiser: an image or DICOM file whose centre and normal are the axis of radial slices; the slices' own places are then not
    used, and files without any (2D) are taken. upright: the axis of the pictures along that normal (see localiser.fan);
    thickness_mm: of these slices, 0 for what the files say.
    """

    volume: str
    slices: list[str]
    out: str
    volume_mask: str | None = None
    slice_masks: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    labels: str | None = None
    localiser: str | None = None
    upright: str = "j"
    thickness_mm: float = 0.0
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
    """Checked inputs: single slices, whatever files they came in; masks on their grids. names: one per slice, for messages;
    arranged: for each slice the move from the place its file gives to the one it has here, or None where it is the same."""

    volume: Image
    slices: tuple[Image, ...]
    names: tuple[str, ...]
    volume_mask: Image | None = None
    slice_masks: tuple[Image, ...] | None = None
    values: tuple[Image, ...] | None = None
    labels: Image | None = None
    notes: tuple[str, ...] = ()
    arranged: tuple[np.ndarray, ...] | None = None


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
    slices, names = _read_slices(request.slices, request.localiser is None)
    mask = read_labels(request.volume_mask) if request.volume_mask else None
    if mask is not None:
        match_mask(_name(request.volume_mask), mask, _name(request.volume), volume.grid, notes)
    inputs = SlicesInputs(
        volume=volume,
        slices=slices,
        names=names,
        volume_mask=mask,
        slice_masks=_alike(request.slice_masks, request.slices, slices, "mask", labels=True) if request.slice_masks else None,
        values=_alike(request.values, request.slices, slices, "value image", labels=False) if request.values else None,
        labels=read_labels(request.labels) if request.labels else None,
        notes=tuple(notes),
    )
    return _arranged(inputs, request)


def _arranged(inputs: SlicesInputs, request: SlicesRequest) -> SlicesInputs:
    """The slices as a fan about the localiser's normal, when there is one."""
    check.choice("upright", request.upright, localiser.UPRIGHT)
    grids = [image.grid for image in inputs.slices]
    if request.localiser is None:
        if request.thickness_mm != 0.0:
            raise InputError("thickness_mm belongs to slices arranged by a localiser; expected a localiser as well, found none.")
        if localiser.one_plane(grids):
            text = f"All {len(grids)} slices claim the same plane; if that is a radial set's localiser, give it as such."
            return dataclasses.replace(inputs, notes=(*inputs.notes, text))
        return inputs
    if request.thickness_mm != 0.0:
        check.finite_number("thickness_mm", request.thickness_mm, 0.1, 50.0)
    _require_place(request.localiser)
    fan = localiser.fan(grids, read_image(request.localiser).grid, request.upright, request.thickness_mm)

    def put(images: tuple[Image, ...] | None) -> tuple[Image, ...] | None:
        return None if images is None else tuple(Image(image.data, grid) for image, grid in zip(images, fan, strict=True))

    text = f"The slices are taken as a fan about the normal of {_name(request.localiser)}, wherever their files put them."
    return dataclasses.replace(
        inputs,
        slices=put(inputs.slices) or (),
        slice_masks=put(inputs.slice_masks),
        values=put(inputs.values),
        notes=(*inputs.notes, text),
        arranged=tuple(localiser.move(given, grid) for given, grid in zip(grids, fan, strict=True)),
    )


def _name(path: str | None) -> str:
    return f"'{Path(path or '').name}'"


def _read_slices(paths: list[str], placed: bool) -> tuple[tuple[Image, ...], tuple[str, ...]]:
    """Single slices in the order given; a file of several parallel slices is taken apart. placed: each must say where it lies."""
    slices: list[Image] = []
    names: list[str] = []
    for path in paths:
        if placed:
            _require_place(path)
        image = _with_thickness(path, read_image(path))
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


_ORIENTATION, _POSITION, _THICKNESS = "0020|0037", "0020|0032", "0018|0050"


def _header(path: str) -> sitk.ImageFileReader | None:
    """The header of a file; None for a folder and for what read_image will complain about."""
    if not Path(path).is_file():
        return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def _require_place(path: str) -> None:
    """A 2D file, or DICOM without position, does not say where it lies in space; refuse it rather than guess."""
    reader = _header(path)
    if reader is None:
        return
    if reader.GetDimension() == 2:
        raise InputError(
            f"{_name(path)} is a 2D file without orientation: where it lies in space is not known; expected a 3D image of "
            "one slice (NRRD, NIfTI, MetaImage with three axes), DICOM, or a localiser for radial slices."
        )
    if reader.HasMetaDataKey("0008|0016"):  # SOP Class UID: a DICOM file
        several = reader.HasMetaDataKey("5200|9229") or reader.HasMetaDataKey("5200|9230")  # multi-frame: kept elsewhere
        names = {_POSITION: "ImagePositionPatient", _ORIENTATION: "ImageOrientationPatient"}
        lacking = [name for key, name in names.items() if not reader.HasMetaDataKey(key)]
        if lacking and not several:
            raise InputError(
                f"{_name(path)} is a DICOM file without {' and '.join(lacking)}: where it lies in space is not known; expected "
                "these, or a localiser for radial slices."
            )


def _with_thickness(path: str, image: Image) -> Image:
    """A single DICOM slice has no neighbour to tell its thickness from; its SliceThickness does."""
    reader = _header(path) if image.grid.shape[0] == 1 else None
    if reader is None or not reader.HasMetaDataKey(_THICKNESS):
        return image
    try:
        thickness = float(reader.GetMetaData(_THICKNESS))
    except ValueError:
        return image
    if not 0.0 < thickness < 100.0:
        return image
    affine = image.grid.affine.copy()
    affine[:3, 2] *= thickness / image.grid.spacing[2]
    return Image(image.data, Grid(image.grid.shape, affine))


def _alike(paths: list[str], slice_paths: list[str], slices: tuple[Image, ...], what: str, labels: bool) -> tuple[Image, ...]:
    """Images that belong to the slices, on the slices' grids."""
    out: list[Image] = []
    for path, own in zip(paths, slice_paths, strict=True):
        image = read_labels(path) if labels else _with_thickness(path, read_image(path))
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
