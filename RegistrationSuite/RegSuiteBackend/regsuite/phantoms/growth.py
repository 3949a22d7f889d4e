"""Phantom `growth`: one child's head in T1 MR at several ages, with the exact growth between any two of them.

The anatomy is given once by surfaces; each scan draws it at its own voxels through the map of its age, so that no scan is an
interpolated copy of another. White matter brightens with age (myelination): darker than grey matter at birth, brighter from
about one year on. Each scan has its own pose, bias field and noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.phantoms.base import Phantom, TimePoint
from regsuite.phantoms.growing import GrowthTransform, amount_at, random_growth
from regsuite.phantoms.shapes import cover, ellipsoid, merge, paint

OPTIONS = ("size", "ages", "oblique", "noise", "bias", "pose_mm")
FIELD_OF_VIEW_MM = (176.0, 204.0, 176.0)
LABELS = {
    1: "right cortex",
    2: "left cortex",
    3: "right white matter",
    4: "left white matter",
    5: "ventricles",
    6: "deep grey matter",
    7: "cerebellum",
    8: "outer fluid",
}
BRAIN_LABELS = tuple(LABELS)
LANDMARKS = 120
_CHUNK = 60_000
_BLUR_MM = 0.7
_SULCUS_MM, _SULCUS_DEPTH_MM, _CORTEX_MM = 0.9, 14.0, 3.2
_SCALP, _SKULL, _FLUID, _GREY, _DEEP = 0.75, 0.08, 0.15, 0.55, 0.62


@dataclass(frozen=True)
class Head:
    """One seed's anatomy: radii of the cerebrum (mm) and the waves whose zeros are its sulci."""

    radii: tuple[float, float, float]
    waves: torch.Tensor  # (M, 3) rad/mm
    phases: torch.Tensor  # (M,)
    texture: torch.Tensor  # (M, 3) rad/mm, finer waves of the tissue's brightness


def make(
    seed: int,
    size: Sequence[int] = (112, 128, 112),
    ages: Sequence[float] = (2.0, 3.0, 5.0),
    oblique: bool = False,
    noise: float = 0.02,
    bias: float = 0.1,
    pose_mm: float = 4.0,
) -> Phantom:
    """Make the phantom. fixed and moving are the first and the last time point; `series` holds all.

    size: voxels (i, j, k), each 24 to 512; the field of view is 176 x 204 x 176 mm. ages: two or more years, increasing, 0 to 20.
    oblique: every scan on an oblique grid of its own. noise: standard deviation, share of white matter (0 to 0.3). bias: largest
    change of brightness over the head (0 to 0.5). pose_mm: how far the head lies off, with as many degrees (0 to 10).
    Raises InputError on anything else.
    """
    size, years = _checked(size, ages, oblique)
    noise, bias = check.finite_number("noise", noise, 0.0, 0.3), check.finite_number("bias", bias, 0.0, 0.5)
    pose_mm = check.finite_number("pose_mm", pose_mm, 0.0, 10.0)
    rng = np.random.default_rng([seed, 0])
    head = _random_head(rng)
    growth = random_growth(rng, _places(head))
    poses = [np.eye(4)] + [_pose(rng, pose_mm) for _ in years[1:]]
    series = []
    for number, age in enumerate(years):
        own = np.random.default_rng([seed, 1, number])
        to_anatomy = growth.between(-amount_at(age), np.linalg.inv(poses[number]), np.eye(4))
        grid = _grid(size, own if oblique else None)
        image, labels = _draw(head, grid, to_anatomy, age)
        series.append(TimePoint(age, _scanned(image, grid, own, noise, bias), labels, _mask(labels), to_anatomy))
    return _phantom(seed, growth, poses, years, series)


def transform_between(
    growth: GrowthTransform, poses: Sequence[np.ndarray], ages: Sequence[float], a: int, b: int
) -> GrowthTransform:
    """The exact map of the points of scan `a` to those of scan `b`."""
    return growth.between(amount_at(ages[b]) - amount_at(ages[a]), np.linalg.inv(poses[a]), poses[b])


def _phantom(
    seed: int, growth: GrowthTransform, poses: list[np.ndarray], ages: tuple[float, ...], series: list[TimePoint]
) -> Phantom:
    first, last = series[0], series[-1]
    transform = transform_between(growth, poses, ages, 0, len(ages) - 1)
    inside = first.mask.data[0].nonzero().flip(1).double()
    chosen = np.random.default_rng([seed, 2]).choice(len(inside), min(LANDMARKS, len(inside)), replace=False)
    points = first.image.grid.index_to_world(inside[torch.from_numpy(np.sort(chosen))])
    return Phantom(
        name="growth",
        seed=seed,
        fixed=first.image,
        moving=last.image,
        transform=transform,
        fixed_mask=first.mask,
        moving_mask=last.mask,
        fixed_labels=first.labels,
        moving_labels=last.labels,
        label_names=dict(LABELS),
        fixed_landmarks=points,
        moving_landmarks=transform.map_points(points),
        notes=f"One child at {', '.join(f'{age:g}' for age in ages)} years; fixed is the first scan, moving the last.",
        series=tuple(series),
    )


def _checked(size: object, ages: object, oblique: object) -> tuple[tuple[int, int, int], tuple[float, ...]]:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 3:
        raise InputError(f"'size' must be three whole numbers (i, j, k), found {size!r}.")
    for n in size:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 24 <= n <= 512:
            raise InputError(f"'size' must hold whole numbers from 24 to 512, found {size!r}.")
    if not isinstance(oblique, bool):
        raise InputError(f"'oblique' must be true or false, found {oblique!r}.")
    if not isinstance(ages, Sequence) or isinstance(ages, str) or len(ages) < 2:
        raise InputError(f"'ages' must be two or more years, found {ages!r}.")
    years = tuple(check.finite_number("age", age, 0.0, 20.0) for age in ages)
    if any(b <= a for a, b in itertools.pairwise(years)):
        raise InputError(f"'ages' must increase, found {', '.join(f'{a:g}' for a in years)}.")
    return (int(size[0]), int(size[1]), int(size[2])), years


def _random_head(rng: np.random.Generator) -> Head:
    radii = np.array([52.0, 66.0, 46.0]) * rng.uniform(0.95, 1.05, 3)
    directions = rng.standard_normal((9, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    waves = directions * (2.0 * math.pi / rng.uniform(30.0, 44.0, (9, 1)))
    texture = rng.standard_normal((9, 3)) * (2.0 * math.pi / 22.0)
    phases = rng.uniform(0.0, 2.0 * math.pi, 9)
    return Head((float(radii[0]), float(radii[1]), float(radii[2])), *(torch.from_numpy(a) for a in (waves, phases, texture)))


def _places(head: Head) -> dict[str, np.ndarray]:
    """Where something may grow by itself (RAS mm in the anatomy)."""
    x, y, z = head.radii
    signs = {"right": 1.0, "left": -1.0}
    spots = {f"{side} frontal": np.array([s * 0.45 * x, 0.6 * y, 0.2 * z]) for side, s in signs.items()}
    spots |= {f"{side} parietal": np.array([s * 0.45 * x, -0.45 * y, 0.45 * z]) for side, s in signs.items()}
    spots |= {f"{side} temporal": np.array([s * 0.65 * x, 0.05 * y, -0.4 * z]) for side, s in signs.items()}
    return spots | {"ventricles": np.array([0.0, -0.05 * y, 0.1 * z]), "cerebellum": np.array([0.0, -0.6 * y, -0.75 * z])}


def _pose(rng: np.random.Generator, size: float) -> np.ndarray:
    """A rigid map head -> scan: about `size` mm and `size` degrees."""
    angles = np.deg2rad(rng.uniform(-size, size, 3))
    matrix = np.eye(4)
    for axis, angle in enumerate(angles):
        turn = np.eye(4)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    matrix[:3, 3] = rng.uniform(-size, size, 3)
    return matrix


def _grid(size: tuple[int, int, int], rng: np.random.Generator | None) -> Grid:
    affine = np.eye(4)
    if rng is not None:
        affine = _pose(rng, 8.0)
    affine[:3, :3] *= np.array(FIELD_OF_VIEW_MM) / np.array(size)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2.0) + np.array([0.0, 0.0, -10.0])
    return Grid((size[2], size[1], size[0]), affine)


def _draw(head: Head, grid: Grid, to_anatomy: GrowthTransform, age: float) -> tuple[torch.Tensor, Image]:
    points = grid.world_points(torch.float64).view(-1, 3)
    bright = torch.empty(len(points))
    labels = torch.empty(len(points), dtype=torch.int16)
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        bright[part], labels[part] = _tissue(head, to_anatomy.map_points(points[part]).float(), age)
    return bright.view(1, *grid.shape), Image(labels.view(1, *grid.shape), grid)


def _tissue(head: Head, p: torch.Tensor, age: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Brightness (share of adult white matter) and label at points (N, 3) of the anatomy."""
    waves = torch.sin(p @ head.waves.float().T + head.phases.float()).sum(dim=1)
    sheet = waves.abs() * (1.0 / (head.waves.norm(dim=1).square().sum() * 0.5).sqrt().float())  # about the distance to waves = 0
    ripple = torch.sin(p @ head.texture.float().T + head.phases.float()).mean(dim=1)
    x, y, z = head.radii
    side = (p[:, 0].abs() - 1.5).neg()  # the gap between the hemispheres
    cerebrum = ellipsoid(p, (0.0, 0.0, 4.0), head.radii)
    upper = (p[:, 2] + 8.0).neg() * 0.8
    outer = torch.maximum(cerebrum + 2.0, torch.where(upper < 0, side, side - 6.0))
    sulci = torch.maximum(sheet - _SULCUS_MM, -(cerebrum + _SULCUS_DEPTH_MM))
    pial = torch.maximum(outer, -sulci)
    white = pial + _CORTEX_MM
    cerebellum = ellipsoid(p, (0.0, -0.55 * y, -0.85 * z), (0.7 * x, 0.38 * y, 0.42 * z)) + 0.8 * torch.sin(p[:, 2] * 1.1)
    vault = merge(cerebrum - 2.5, ellipsoid(p, (0.0, -0.5 * y, -0.8 * z), (0.85 * x, 0.5 * y, 0.55 * z)), 10.0)
    q = torch.stack([p[:, 0].abs(), p[:, 1], p[:, 2]], dim=1)
    ventricles = merge(ellipsoid(q, (9.0, -6.0, 10.0), (5.0, 24.0, 6.0)), ellipsoid(q, (16.0, -26.0, 2.0), (5.0, 10.0, 8.0)), 4.0)
    deep = merge(ellipsoid(q, (13.0, -10.0, -1.0), (8.0, 12.0, 7.0)), ellipsoid(q, (22.0, 8.0, 0.0), (6.0, 14.0, 8.0)), 2.0)
    depth = (-cerebrum / min(head.radii)).clamp(0.0, 1.0)
    value = torch.zeros_like(ripple) + 0.02
    shapes = (
        (vault - 13.0, _SCALP * (1.0 + 0.2 * ripple)),
        (vault - 7.0, _SKULL),
        (vault, _FLUID),
        (pial, _GREY * (1.0 + 0.08 * ripple)),
        (white, white_brightness(age, depth) * (1.0 + 0.06 * ripple)),
        (cerebellum, 0.66 * (1.0 + 0.15 * ripple)),
        (deep, _DEEP * (1.0 + 0.05 * ripple)),
        (ventricles, _FLUID),
    )
    for distance, brightness in shapes:
        value = paint(value, brightness, cover(distance, _BLUR_MM))
    left = (p[:, 0] < 0).to(torch.int16)
    label = torch.where(vault < 0, 8, torch.zeros_like(left))
    for distance, number in ((pial, 1 + left), (white, 3 + left), (cerebellum, 7), (deep, 6), (ventricles, 5)):
        label = torch.where(distance < 0, torch.as_tensor(number, dtype=torch.int16), label)
    return value, label.to(torch.int16)


def white_brightness(age: float, depth: torch.Tensor) -> torch.Tensor:
    """Brightness of white matter, depth 0 (surface) to 1 (centre): 0.45 unmyelinated, 0.9 in adults; deep parts come first."""
    return 0.45 + 0.45 * (1.0 - torch.exp(-(age / 0.9) * (0.6 + 0.9 * depth)))


def _scanned(bright: torch.Tensor, grid: Grid, rng: np.random.Generator, noise: float, bias: float) -> Image:
    points = grid.resized((8, 8, 8)).world_points(torch.float32)
    waves = torch.from_numpy(rng.standard_normal((3, 3)) * (2.0 * math.pi / 220.0)).float()
    field = torch.sin(points @ waves.T + torch.from_numpy(rng.uniform(0, 6.28, 3)).float()).mean(dim=-1)
    smooth = torch.nn.functional.interpolate(field[None, None], size=grid.shape, mode="trilinear", align_corners=True)[0]
    noisy = bright * (1.0 + bias * smooth)
    pair = [torch.from_numpy(rng.standard_normal(noisy.shape, dtype=np.float32)) * noise for _ in range(2)]
    magnitude = ((noisy + pair[0]).square() + pair[1].square()).sqrt()  # Rician, as in a magnitude image
    return Image(magnitude * 1000.0, grid)


def _mask(labels: Image) -> Image:
    return labels.with_data((labels.data > 0).to(torch.uint8))
