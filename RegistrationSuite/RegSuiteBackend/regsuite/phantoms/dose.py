"""Phantom `dose`: a chest with a tumour, a plan-like dose, repeat scans over fractions, and where every point really was.

Planning scan (fixed) and repeat scans show one person in different depths of breathing, sliding included. Each fraction is
delivered as planned in the room, while the anatomy has moved: the dose a planning point x gets is the sum over fractions of
d_f(T_f(x)).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.phantoms import person
from regsuite.phantoms.base import Phantom
from regsuite.transforms import CompositeTransform, Transform

OPTIONS = ("size", "noise_hu", "motion_mm", "fractions")
PRESCRIBED_GY = 60.0
PTV_MARGIN_MM = 7.0
FIELD_MARGIN_MM = 7.0
_PLANNING_MM = 9.0  # mean motion from planning scan to inhale, the state in which the anatomy is given
_GANTRY_DEGREES = (0.0, 40.0, 100.0, 160.0, 200.0, 260.0, 320.0)
_PENUMBRA_MM, _ATTENUATION_PER_MM, _DOSE_SPACING_MM = 4.0, 0.0042, 3.0


def make(
    seed: int, size: Sequence[int] = (112, 88, 80), noise_hu: float = 20.0, motion_mm: float = 3.0, fractions: int = 3
) -> Phantom:
    """Make the phantom.

    size, noise_hu: as of the thorax. motion_mm (0.5 to 6): how much the mean breathing motion of the fractions differs from the
    planning scan, up and down in turn. fractions: repeat scans, 1 to 10. fixed is the planning scan, moving the first repeat scan,
    transform T_1; images: plan_dose, fraction_NN, fraction_NN_dose (its share of 60 Gy) and true_dose (the accumulated dose on the
    fixed grid, exact); maps: fraction_NN_transform. fixed_labels hold the organs and the tumour, planned_target the tumour with a
    7 mm margin, which the beams pass by 7 mm. Raises InputError on anything else.
    """
    size, noise_hu, _ = person.checked_options(size, False, noise_hu, _PLANNING_MM)
    motion_mm = check.finite_number("motion_mm", motion_mm, 0.5, 6.0)
    if isinstance(fractions, bool) or not isinstance(fractions, int) or not 1 <= fractions <= 10:
        raise InputError(f"'fractions' must be a whole number from 1 to 10, found {fractions!r}.")
    with person.one_thread():
        return _make(seed, size, noise_hu, motion_mm, fractions)


def _make(seed: int, size: tuple[int, int, int], noise_hu: float, motion_mm: float, fractions: int) -> Phantom:
    patient = person.random_person(*(np.random.default_rng([seed, stream]) for stream in (0, 1)))
    grid, _ = person.scan_grids(size, False, np.random.default_rng([seed, 2]))
    planning = person.random_breath(patient.chest, np.random.default_rng([seed, 3]), _PLANNING_MM)
    noise = np.random.default_rng([seed, 4])
    hu, labels = person.draw(patient, grid, planning)
    fixed = person.noisy(hu, grid, noise_hu, noise)
    isocentre = planning.inverse_region(torch.from_numpy(patient.tumour)[None], True)[0]
    radius = patient.tumour_radius_mm + PTV_MARGIN_MM
    dose = _plan(isocentre, radius + FIELD_MARGIN_MM)
    images: dict[str, Image] = {"plan_dose": dose}
    maps: dict[str, Transform] = {}
    scans: list[tuple[Image, Image]] = []
    for number in range(1, fractions + 1):
        name, depth = f"fraction_{number:02d}", _PLANNING_MM + (motion_mm if number % 2 else -motion_mm)
        breath = person.random_breath(patient.chest, np.random.default_rng([seed, 10 + number]), depth)
        there, numbers = person.draw(patient, grid, breath)
        scans.append((person.noisy(there, grid, noise_hu, noise), numbers))
        maps[f"{name}_transform"] = CompositeTransform((breath.inverse(), planning))
        images[name], images[f"{name}_dose"] = scans[-1][0], dose.with_data(dose.data / fractions)
    images["true_dose"] = _accumulated(grid, isocentre, radius + FIELD_MARGIN_MM, list(maps.values()))
    images["planned_target"] = _target(grid, isocentre, radius)
    first = next(iter(maps.values()))
    points = planning.inverse_region(torch.from_numpy(person.spread_out(patient.plumbing.branchings, person.LANDMARKS)), True)
    return Phantom(
        name="dose",
        seed=seed,
        fixed=fixed,
        moving=scans[0][0],
        transform=first,
        fixed_mask=person.lung_mask(labels),
        moving_mask=person.lung_mask(scans[0][1]),
        fixed_labels=labels,
        moving_labels=scans[0][1],
        label_names=dict(person.LABELS),
        fixed_landmarks=points,
        moving_landmarks=first.map_points(points),
        notes=f"Fixed: planning scan. Moving: repeat scan 1 of {fractions}. Doses in Gy, {PRESCRIBED_GY:g} in the isocentre.",
        images=images,
        maps=maps,
    )


def _plan(isocentre: torch.Tensor, radius_mm: float) -> Image:
    """Gy on 3 mm voxels over the field of view: _beams at the voxel centres."""
    shape = tuple(int(np.ceil(f / _DOSE_SPACING_MM)) for f in person.FIELD_OF_VIEW_MM[::-1])
    affine = np.diag([-_DOSE_SPACING_MM, -_DOSE_SPACING_MM, _DOSE_SPACING_MM, 1.0])
    affine[:3, 3] = np.array(person.CENTRE_MM) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2.0)
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    return Image(_beams(grid.world_points(torch.float64).view(-1, 3), isocentre, radius_mm).view(grid.shape).float(), grid)


def _beams(points: torch.Tensor, isocentre: torch.Tensor, radius_mm: float) -> torch.Tensor:
    """(N,) Gy: round coplanar fields with blurred edges that weaken with depth, 60 Gy in the isocentre."""
    away = points - isocentre
    total = torch.zeros(len(points), dtype=points.dtype)
    for angle in np.deg2rad(_GANTRY_DEGREES):
        along = away[:, 0] * float(np.sin(angle)) - away[:, 1] * float(np.cos(angle))
        beside = torch.hypot(away[:, 0] * float(np.cos(angle)) + away[:, 1] * float(np.sin(angle)), away[:, 2])
        field = 0.5 * torch.erfc((beside - radius_mm) / (_PENUMBRA_MM * float(np.sqrt(2.0))))
        total += field * torch.exp(-_ATTENUATION_PER_MM * along)
    return total * (PRESCRIBED_GY / len(_GANTRY_DEGREES))


def _accumulated(grid: Grid, isocentre: torch.Tensor, radius_mm: float, maps: Sequence[Transform]) -> Image:
    """Exact: the beams' formula at the true places of every voxel, not a resampled volume."""
    out = torch.empty(grid.shape)
    for k in range(grid.shape[0]):
        points = grid.cropped((k, 0, 0), (1, *grid.shape[1:])).world_points(torch.float64).view(-1, 3)
        total = torch.stack([_beams(mapping.map_points(points), isocentre, radius_mm) for mapping in maps]).sum(0)
        out[k] = (total / len(maps)).view(grid.shape[1:]).float()
    return Image(out, grid)


def _target(grid: Grid, isocentre: torch.Tensor, radius_mm: float) -> Image:
    """The ball around the isocentre as a mask."""
    distance = (grid.world_points(torch.float64) - isocentre).norm(dim=-1)
    return Image((distance <= radius_mm).to(torch.uint8), grid)
