"""Phantom `brain-tumour`: a patient's T1 with a tumour and oedema (fixed), a healthy template (moving), and the exact map between.

The anatomy (cortex with sulci, white matter, deep grey, ventricles) is given once, in the template, by surfaces. The patient is
drawn from the same surfaces through the true map: a tumour grew from a seed and pushed the tissue away, beside the usual
difference between two people. Tumour and oedema are painted in the patient alone. Noise is drawn for each image on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image, frames
from regsuite.phantoms.base import Phantom
from regsuite.phantoms.mass_effect import MassEffect
from regsuite.phantoms.shapes import capsule, cover, ellipsoid, merge, paint

OPTIONS = ("size", "oblique", "noise", "tumour_mm", "pose")
FIELD_OF_VIEW_MM = (168.0, 204.0, 156.0)
LABELS = {1: "grey matter", 2: "white matter", 3: "ventricles", 4: "deep grey"}
AXES_MM = (64.0, 80.0, 60.0)
LANDMARKS = 200
GREY, WHITE, FLUID, DEEP, CORE, OEDEMA = 560.0, 820.0, 180.0, 640.0, 330.0, 610.0
_CHUNK = 200_000


@dataclass(frozen=True, eq=False)
class Tumour:
    """centre (3,) and mean radius mm of the core in the patient; oedema_mm: width of the oedema; lobes: (M, 4) wave vectors,
    phases."""

    centre: np.ndarray
    radius_mm: float
    oedema_mm: float
    lobes: np.ndarray

    def distance(self, p: torch.Tensor, flat: bool) -> torch.Tensor:
        """(N, 3) -> (N,) signed distance to the core's surface, negative inside: a sphere with lobes."""
        offset = p - torch.from_numpy(self.centre).to(p)
        if flat:
            offset = offset * offset.new_tensor([1.0, 1.0, 0.0])
        waves = torch.from_numpy(self.lobes).to(p)
        bumps = torch.sin(offset @ waves[:, :3].T + waves[:, 3]).sum(dim=1) / len(waves)
        return offset.norm(dim=1) - self.radius_mm * (1.0 + 0.12 * bumps)


def make(
    seed: int,
    size: Sequence[int] = (112, 136, 104),
    oblique: bool = False,
    noise: float = 12.0,
    tumour_mm: float = 16.0,
    pose: bool = True,
) -> Phantom:
    """Make the phantom.

    size: voxels (i, j, k) of the fixed image, each 24 to 512, or k = 1 for one axial slice through the tumour; the field of view is
    168 x 204 x 156 mm. oblique: fixed and moving on different oblique grids. noise: standard deviation (0 to 200; white matter is
    820). tumour_mm: radius of the core (6 to 24). pose: the template lies a few degrees and millimetres off, and is a little
    larger. The lesion mask is core and oedema; the labels leave the core out. Raises InputError on anything else.
    """
    shape, noise, tumour_mm = _checked(size, oblique, noise, tumour_mm, pose)
    flat = shape[2] == 1
    streams = [np.random.default_rng([seed, stream]) for stream in range(5)]
    folds = _folds(streams[0])
    tumour, growth = _tumour(streams[1], streams[2], tumour_mm, flat, pose)
    fixed_grid, moving_grid = _grids(shape, oblique, streams[2], float(tumour.centre[2]) if flat else 0.0, growth)
    fixed, fixed_labels, lesion = _draw(fixed_grid, folds, growth, tumour, flat)
    moving, moving_labels, _ = _draw(moving_grid, folds, None, None, flat)
    points = _landmarks(Image(fixed_labels, fixed_grid), streams[3], growth)
    return Phantom(
        name="brain-tumour",
        seed=seed,
        fixed=_noisy(fixed, fixed_grid, noise, streams[3]),
        moving=_noisy(moving, moving_grid, noise, streams[4]),
        transform=growth,
        fixed_mask=Image((fixed > 60.0).to(torch.uint8), fixed_grid),
        moving_mask=Image((moving > 60.0).to(torch.uint8), moving_grid),
        fixed_labels=Image(fixed_labels, fixed_grid),
        moving_labels=Image(moving_labels, moving_grid),
        label_names=dict(LABELS),
        fixed_landmarks=points,
        moving_landmarks=growth.map_points(points),
        lesion_mask=Image(lesion, fixed_grid),
        notes=(
            f"Fixed: the patient. Moving: the healthy template. The core has a mean radius of {tumour_mm:g} mm and grew from a "
            f"seed of {growth.seed_mm:.1f} mm; tissue up to {growth.reach_mm:.0f} mm from its centre was pushed away."
        ),
    )


def _checked(
    size: object, oblique: object, noise: object, tumour_mm: object, pose: object
) -> tuple[tuple[int, int, int], float, float]:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 3:
        raise InputError(f"'size' must be three whole numbers (i, j, k), found {size!r}.")
    for axis, n in enumerate(size):
        flat = axis == 2 and n == 1
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not (flat or 24 <= n <= 512):
            raise InputError(f"'size' must hold whole numbers from 24 to 512 (or 1 slice), found {size!r}.")
    for name, value in (("oblique", oblique), ("pose", pose)):
        if not isinstance(value, bool):
            raise InputError(f"'{name}' must be true or false, found {value!r}.")
    if oblique and size[2] == 1:
        raise InputError("'oblique' needs a volume; found one slice.")
    i, j, k = (int(n) for n in size)
    return (i, j, k), check.finite_number("noise", noise, 0, 200), check.finite_number("tumour_mm", tumour_mm, 6, 24)


def _folds(rng: np.random.Generator) -> np.ndarray:
    """(M, 4) wave vectors (rad / mm) and phases whose sum of sines draws the sulci."""
    direction = rng.normal(size=(7, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.concatenate([direction * (2.0 * np.pi / rng.uniform(17.0, 30.0, (7, 1))), rng.uniform(0, 2 * np.pi, (7, 1))], axis=1)


def _tumour(
    rng: np.random.Generator, poses: np.random.Generator, radius: float, flat: bool, pose: bool
) -> tuple[Tumour, MassEffect]:
    side = rng.choice([-1.0, 1.0])
    centre = np.array([side * rng.uniform(30.0, 36.0), rng.uniform(-26.0, 30.0), rng.uniform(10.0, 22.0)])
    lobes = np.concatenate([rng.normal(size=(5, 3)) * 0.16, rng.uniform(0, 2 * np.pi, (5, 1))], axis=1)
    tumour = Tumour(centre, radius, rng.uniform(4.0, 7.0), lobes)
    count = 8
    direction = rng.normal(size=(count, 3)) * ([1.0, 1.0, 0.0] if flat else [1.0, 1.0, 1.0])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    number = 2.0 * np.pi / rng.uniform(70.0, 120.0, (count, 1))
    amplitude = rng.normal(size=(count, 3)) * 0.7 * ([1.0, 1.0, 0.0] if flat else [1.0, 1.0, 1.0])
    waves = np.concatenate([direction * number, rng.uniform(0, 2 * np.pi, (count, 1)), amplitude], axis=1)
    affine = np.eye(4)
    angles, shift, scale = poses.uniform(-5, 5, 3), poses.uniform(-6, 6, 3), poses.uniform(1.0, 1.05)
    if pose:
        if flat:
            angles, shift = angles * [0, 0, 1], shift * [1, 1, 0]
        affine[:3, :3] = _rotation(angles) * ([scale, scale, 1.0] if flat else scale)
        affine[:3, 3] = shift
    seed_mm = 0.35 * radius
    return tumour, MassEffect(centre, seed_mm, radius * 1.12, radius * 3.2, waves, affine, flat)


def _rotation(degrees: np.ndarray) -> np.ndarray:
    """(3, 3) rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        u, v = (axis + 1) % 3, (axis + 2) % 3
        turn[u, u], turn[u, v], turn[v, u], turn[v, v] = c, -s, s, c
        out = turn @ out
    return out


def _grids(
    size: tuple[int, int, int], oblique: bool, rng: np.random.Generator, level: float, growth: MassEffect
) -> tuple[Grid, Grid]:
    """Grids of patient and template, i to the left and j to the back as scanners write them; one slice lies at z = level."""
    straight = np.diag([-1.0, -1.0, 1.0])
    there = np.array(growth.affine)[:3, 3]
    if size[2] == 1:
        return _grid(size, straight, np.array([0.0, 0.0, level])), _grid(size, straight, np.array([there[0], there[1], level]))
    if not oblique:
        return _grid(size, straight, np.zeros(3)), _grid(size, straight, there)
    first, second = (_rotation(rng.uniform(4, 9, 3) * rng.choice([-1, 1], 3)) @ straight for _ in range(2))
    other = (round(size[0] * 0.94), round(size[1] * 1.05), round(size[2] * 0.9))
    return _grid(size, first, np.array([2.0, -1.0, 1.0])), _grid(other, second, there + np.array([-2.0, 1.0, -1.0]))


def _grid(size: tuple[int, int, int], direction: np.ndarray, centre: np.ndarray) -> Grid:
    affine = np.eye(4)
    thickness = FIELD_OF_VIEW_MM[2] / size[2] if size[2] > 1 else FIELD_OF_VIEW_MM[0] / size[0]
    affine[:3, :3] = direction * np.array([FIELD_OF_VIEW_MM[0] / size[0], FIELD_OF_VIEW_MM[1] / size[1], thickness])
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(size) - 1) / 2.0)
    return Grid(frames.shape_from_size(size), affine)


def _draw(
    grid: Grid, folds: np.ndarray, growth: MassEffect | None, tumour: Tumour | None, flat: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Intensity (D, H, W), labels int16 and lesion uint8 of the patient, or of the template without `growth` and `tumour`."""
    spacing = grid.spacing[:2] if flat else grid.spacing
    blur = 0.45 * float(np.prod(spacing)) ** (1 / len(spacing))
    parts = []
    for points in grid.world_points(torch.float64).view(-1, 3).split(_CHUNK):
        there = points if growth is None else growth.map_points(points)
        values, labels, brain = _anatomy(there.float(), folds, blur)
        lesion = torch.zeros(len(points), dtype=torch.uint8)
        if tumour is not None:
            distance = tumour.distance(points, flat).float()
            spread = distance - tumour.oedema_mm * (1.0 + 0.5 * torch.sin(0.12 * (points[:, 0] + points[:, 1])).float())
            within = cover(brain + 1.0, blur)
            share = cover(spread, 1.5 * blur) * torch.sigmoid((values - 420.0) / 40.0)  # oedema stays in the tissue
            values = paint(values, OEDEMA, 0.75 * share * within)
            rim = cover(distance, blur) * cover(-distance - 2.5, blur)
            values = paint(paint(values, CORE, cover(distance, blur) * within), OEDEMA, 0.6 * rim * within)
            labels[distance < 0] = 0
            lesion[(spread < 0) & (brain < 0)] = 1
        parts.append((values, labels, lesion))
    return tuple(torch.cat([part[n] for part in parts]).view(grid.shape) for n in range(3))  # type: ignore[return-value]


def _anatomy(p: torch.Tensor, folds: np.ndarray, blur: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """T1 intensity, labels and signed distance to the brain's surface at template points (N, 3)."""
    waves = torch.from_numpy(folds).to(p)
    pattern = torch.sin(p @ waves[:, :3].T + waves[:, 3]).sum(dim=1) / 2.0
    sulcus = pattern.clamp(min=0.0) ** 2
    skull = ellipsoid(p, (0.0, 0.0, 0.0), AXES_MM)
    gap = _fissure(p)
    brain = torch.maximum(skull + (7.0 * sulcus).clamp(max=12.0), gap)
    white = torch.maximum(skull + 8.0 + 7.0 * pattern.clamp(min=-0.6, max=1.6), gap + 3.5)
    ventricles = _ventricles(p)
    deep = _deep(p)
    values = FLUID * cover(skull, blur)
    values = paint(values, GREY, cover(brain, blur))
    values = paint(values, WHITE, cover(white, blur))
    values = paint(values, DEEP, cover(deep, blur))
    values = paint(values, FLUID, cover(ventricles, blur))
    labels = torch.zeros(len(p), dtype=torch.int16)
    for number, where in ((1, brain < 0), (2, white < 0), (4, deep < 0), (3, ventricles < 0)):
        labels[where] = number
    return values, labels, skull


def _fissure(p: torch.Tensor) -> torch.Tensor:
    """Signed distance to the tissue beside the fissure between the hemispheres, above the callosum; positive in the fissure."""
    above = p[:, 2] - 27.0 + 0.004 * p[:, 1] ** 2
    return torch.minimum(1.4 - p[:, 0].abs(), above)


def _ventricles(p: torch.Tensor) -> torch.Tensor:
    q = torch.stack([p[:, 0].abs(), p[:, 1], p[:, 2]], dim=1)
    body = capsule(q, (8.5, 26.0, 10.0), (11.0, -14.0, 18.0), 5.5)
    back = capsule(q, (11.0, -14.0, 18.0), (22.0, -44.0, 8.0), 4.5)
    low = capsule(q, (19.0, -34.0, 8.0), (30.0, -12.0, -14.0), 3.0)
    third = ellipsoid(p, (0.0, -2.0, 0.0), (2.4, 13.0, 8.0))
    return torch.minimum(merge(merge(body, back), low), third)


def _deep(p: torch.Tensor) -> torch.Tensor:
    q = torch.stack([p[:, 0].abs(), p[:, 1], p[:, 2]], dim=1)
    thalamus = ellipsoid(q, (11.0, -10.0, 4.0), (8.0, 13.0, 8.0))
    putamen = ellipsoid(q, (25.0, 6.0, 2.0), (5.0, 15.0, 9.0))
    caudate = ellipsoid(q, (14.5, 18.0, 8.0), (4.5, 10.0, 8.0))
    return torch.minimum(torch.minimum(thalamus, putamen), caudate)


def _landmarks(labels: Image, rng: np.random.Generator, growth: MassEffect) -> torch.Tensor:
    """(N, 3) voxel centres in the patient's tissue outside the core, half of them within the reach of the mass effect."""
    points = labels.grid.index_to_world(labels.data[0].nonzero().flip(1).double())
    near = (points - torch.from_numpy(growth.centre)).norm(dim=1) < 0.8 * growth.reach_mm
    chosen = [part[torch.from_numpy(rng.permutation(len(part))[: LANDMARKS // 2])] for part in (points[near], points[~near])]
    return torch.cat(chosen)


def _noisy(values: torch.Tensor, grid: Grid, noise: float, rng: np.random.Generator) -> Image:
    """Rician noise, as in a magnitude image; what lies outside the head was set to 0, as after skull stripping."""
    real, imaginary = (torch.from_numpy(rng.standard_normal(grid.shape, dtype=np.float32)) * noise for _ in range(2))
    return Image(torch.where(values > 0.05 * WHITE, torch.hypot(values + real, imaginary), 0.0), grid)
