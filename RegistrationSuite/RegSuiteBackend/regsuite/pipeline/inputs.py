"""Reading and checking what a registration is given. Every fault becomes one sentence that names the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_labels, read_landmarks, read_transform
from regsuite.methods import registry
from regsuite.ops.sampling import resample
from regsuite.pipeline.request import EXTRA_INPUTS, RegistrationRequest
from regsuite.transforms import Transform

_PROBES = 24
"""Overlap is probed on a lattice of at most this many points per axis."""


@dataclass(frozen=True)
class Truth:
    """What a registration can be measured against; each pair may be absent. Landmarks (N, 3) float64 RAS mm, row by row."""

    fixed_landmarks: torch.Tensor | None = None
    moving_landmarks: torch.Tensor | None = None
    fixed_labels: Image | None = None
    moving_labels: Image | None = None


@dataclass(frozen=True)
class Inputs:
    """Checked inputs of one registration. Masks are uint8 (1, D, H, W), 0 or 1, on the grid of their image."""

    fixed: Image
    moving: Image
    fixed_mask: Image | None = None
    moving_mask: Image | None = None
    lesion_mask: Image | None = None
    initial: Transform | None = None
    notes: tuple[str, ...] = ()


def load_inputs(request: RegistrationRequest) -> Inputs:
    """Read and check everything the request names; raises InputError naming the file and what is wrong with it."""
    row = registry.get(request.method)
    if row.command != "register":
        raise InputError(f"Method '{row.key}' does not register a pair of images; it is run by 'regsuite {row.command}'.")
    for name in EXTRA_INPUTS:
        if getattr(request, name) is not None and name not in row.takes:
            taken = _words(", ".join(row.takes)) or "nothing else"
            raise InputError(f"Method '{row.key}' takes no {_words(name)}; beside the images it takes {taken}.")
    check_device(request.device)
    images = {name: read_image(getattr(request, name)) for name in ("fixed", "moving")}
    masks = {
        name: read_labels(path) if (path := getattr(request, name)) else None
        for name in ("fixed_mask", "moving_mask", "lesion_mask")
    }
    initial = read_transform(request.initial) if request.initial else None
    names = {name: f"'{Path(path).name}'" for name in (*images, *masks) if (path := getattr(request, name))}
    return check_inputs(images["fixed"], images["moving"], **masks, initial=initial, names=names, flat=row.flat)


def check_inputs(
    fixed: Image,
    moving: Image,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    lesion_mask: Image | None = None,
    initial: Transform | None = None,
    names: dict[str, str] | None = None,
    flat: bool = False,
) -> Inputs:
    """Check a pair of images with its masks and put the masks on the images' grids.

    names: how messages call each input (default "the fixed image", ...); flat: two single slices are welcome. Raises InputError;
    harmless oddities (a mask on another grid, images that do not overlap) are returned as notes.
    """
    called = {name: f"the {_words(name)}" for name in ("fixed_mask", "moving_mask", "lesion_mask")}
    called |= {"fixed": "the fixed image", "moving": "the moving image"} | (names or {})
    _check_dimensions(fixed, moving, called, flat)
    for name, image in (("fixed", fixed), ("moving", moving)):
        check_image(called[name], image)
    notes: list[str] = []
    masks = {
        "fixed_mask": match_mask(called["fixed_mask"], fixed_mask, called["fixed"], fixed.grid, notes),
        "moving_mask": match_mask(called["moving_mask"], moving_mask, called["moving"], moving.grid, notes),
        "lesion_mask": match_mask(called["lesion_mask"], lesion_mask, called["fixed"], fixed.grid, notes),
    }
    if overlap_fraction(fixed.grid, moving.grid, initial) == 0.0:
        distance = np.linalg.norm(fixed.grid.centre - moving.grid.centre)
        under = "" if initial is None else " under the initial transform"
        notes.append(f"The images do not overlap in world space{under}: their centres lie {distance:.0f} mm apart.")
    return Inputs(fixed, moving, **masks, initial=initial, notes=tuple(notes))


def _check_dimensions(fixed: Image, moving: Image, called: dict[str, str], welcome: bool) -> None:
    flat = [name for name, image in (("fixed", fixed), ("moving", moving)) if min(image.grid.shape) == 1]
    if len(flat) == 1:
        solid = "moving" if flat[0] == "fixed" else "fixed"
        wanted = "two volumes or two slices" if welcome else "two volumes"
        raise InputError(f"{_capital(called[flat[0]])} is 2D (one slice) and {called[solid]} is 3D; expected {wanted}.")
    if flat and not welcome:
        raise InputError(f"{_capital(called['fixed'])} and {called['moving']} have one slice each; expected volumes with several.")


def check_image(name: str, image: Image) -> None:
    """Raise InputError unless the image has one finite, non-constant channel."""
    if image.channels != 1:
        raise InputError(f"{_capital(name)} has {image.channels} components per voxel; expected one (a grey-value volume).")
    if image.data.is_complex():
        raise InputError(f"{_capital(name)} holds complex numbers; expected real grey values.")
    check.finite_tensor(_capital(name), image.data)
    if bool(image.data.min() == image.data.max()):
        value = image.data.flatten()[0].item()
        raise InputError(f"{_capital(name)} is constant: every voxel is {value:g}; expected structure to register.")


def match_mask(name: str, mask: Image | None, image_name: str, grid: Grid, notes: list[str]) -> Image | None:
    """The mask (non-zero = inside) as uint8, 0 or 1, on `grid`; adds a note when it had to be resampled (nearest neighbour).

    Raises InputError when it is empty, or when none of it lies inside the image.
    """
    if mask is None:
        return None
    check.finite_tensor(_capital(name), mask.data)
    inside = Image((mask.data != 0).any(dim=0, keepdim=True).to(torch.uint8), mask.grid)
    if not bool(inside.data.any()):
        raise InputError(f"{_capital(name)} is empty: no voxel differs from 0.")
    if inside.grid == grid:
        return inside
    matched = resample(inside, grid, None, "nearest", fill=0.0)
    if not bool(matched.data.any()):
        raise InputError(f"{_capital(name)} lies outside {image_name}: none of it covers a voxel of the image.")
    notes.append(f"{_capital(name)} lies on another grid than {image_name} and was resampled to it (nearest neighbour).")
    return matched


def overlap_fraction(fixed: Grid, moving: Grid, transform: Transform | None = None) -> float:
    """Share of the fixed box (probed on a lattice) that `transform` (default: identity) maps into the moving box."""
    d, h, w = (min(n, _PROBES) for n in fixed.shape)
    points = fixed.resized((d, h, w)).world_points(torch.float64).view(-1, 3)
    points = points if transform is None else transform.map_points(points)
    return float(moving.contains(points).double().mean())


def check_device(device: str) -> None:
    """Raise InputError unless `device` is auto, cpu, or a CUDA device of this machine (cuda, cuda:0, ...)."""
    if device in ("auto", "cpu"):
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = ["cuda", *(f"cuda:{index}" for index in range(count))] if count else []
    if device not in found:
        raise InputError(f"Unknown device '{device}'; this machine offers {', '.join(['auto', 'cpu', *found])}.")


def load_truth(
    fixed_landmarks: str | None, moving_landmarks: str | None, fixed_labels: str | None, moving_labels: str | None
) -> Truth:
    """Read landmark and label pairs; raises InputError when one of a pair is missing or their counts differ."""
    pairs = (("landmarks", fixed_landmarks, moving_landmarks), ("labels", fixed_labels, moving_labels))
    for what, first, second in pairs:
        if (first is None) != (second is None):
            given, lacking = ("fixed", "moving") if second is None else ("moving", "fixed")
            raise InputError(f"The {given} {what} are given without the {lacking} {what}; expected both.")
    points: list[torch.Tensor | None] = [None, None]
    if fixed_landmarks and moving_landmarks:
        a, b = (read_landmarks(path) for path in (fixed_landmarks, moving_landmarks))
        points = [a, b]
        names = f"'{Path(fixed_landmarks).name}' and '{Path(moving_landmarks).name}'"
        if len(a) != len(b):
            raise InputError(f"{names} must hold the same number of landmarks, found {len(a)} and {len(b)}.")
        if not len(a):
            raise InputError(f"{names} hold no landmarks; expected at least one.")
    labels: list[Image | None] = [read_labels(path) if path else None for path in (fixed_labels, moving_labels)]
    return Truth(points[0], points[1], labels[0], labels[1])


def _words(name: str) -> str:
    return name.replace("_", " ").replace("initial", "initial transform")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
