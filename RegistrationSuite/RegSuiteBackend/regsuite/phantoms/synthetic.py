"""Pairs with known truth from any image: random breathing that slides along the lungs, random growth, other intensities.

Pair number n of a stream is a function of (seed, n) alone, so a stream can be taken up anywhere. The moving image is the given one,
fixed(x) = image(x + u(x)): truth is exact at every voxel. Both get their own intensities and noise.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from regsuite import check
from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.nets.fields import composed, sample
from regsuite.nets.pair import Pair, voxels
from regsuite.ops.random_fields import SmoothNoise

KINDS = ("breathing", "growth")
_SQUARINGS = 6
_BORDER_MM = 6.0  # width at the lung's border over which motion across it fades


def streamed_pair(
    image: Image,
    seed: int,
    number: int,
    kind: str = "breathing",
    mask: Image | None = None,
    labels: Image | None = None,
    strength: float = 1.0,
    contrast: float = 0.0,
    pose_mm: float = 0.0,
) -> Pair:
    """Pair `number` of the stream `seed` made from `image` (values 0..1). mask: what slides (breathing); labels go along;
    strength: factor of the motion; contrast: see `changed`; pose_mm: see `growth`.

    Raises InputError on an unknown kind.
    """
    check.choice("kind", kind, KINDS)
    rng = np.random.default_rng([seed, number, 17])
    inside = None if mask is None else (mask.data[None] > 0.5).float()
    u = breathing(image.grid, rng, inside, strength) if kind == "breathing" else growth(image.grid, rng, strength, pose_mm)
    moving = image.data[None].float()
    carried = None
    if labels is not None:
        names = labels.data.unique()
        shares = torch.cat([sample((labels.data[None] == name).float(), u) for name in names])
        carried = names[shares.argmax(dim=0)[0]][None]
    return Pair(
        fixed=changed(sample(moving, u), rng, image.grid, contrast),
        moving=changed(moving, rng, image.grid, contrast),
        grid=image.grid,
        fixed_mask=None if inside is None else (sample(inside, u) > 0.5).float(),
        moving_mask=inside,
        truth=u,
        fixed_labels=carried,
        moving_labels=None if labels is None else labels.data,
    )


def growth(grid: Grid, rng: np.random.Generator, strength: float = 1.0, pose_mm: float = 0.0) -> torch.Tensor:
    """(1, 3, D, H, W) voxels: the flow of a smooth random velocity, 2 to 8 mm, over 25 to 45 mm, and a swelling of up to 6 %;
    `strength` times as much. pose_mm: up to so many mm and degrees along and about every axis more."""
    swelling = rng.uniform(-0.06, 0.06)
    points = grid.world_points() - torch.as_tensor(grid.centre.copy(), dtype=torch.float32)
    velocity = rng.uniform(2.0, 8.0) * smooth_noise(grid, rng, rng.uniform(25.0, 45.0)) + swelling * points.movedim(-1, 0)
    velocity = strength * velocity
    if pose_mm > 0.0:
        turn, shift = np.deg2rad(rng.uniform(-pose_mm, pose_mm, 3)), rng.uniform(-pose_mm, pose_mm, 3)
        turned = torch.linalg.cross(torch.from_numpy(turn).float().expand_as(points), points)
        velocity = velocity + (turned + torch.from_numpy(shift).float()).movedim(-1, 0)
    return flow(voxels(velocity, grid))


def breathing(grid: Grid, rng: np.random.Generator, lungs: torch.Tensor | None, strength: float = 1.0) -> torch.Tensor:
    """(1, 3, D, H, W) voxels: everything moves with the diaphragm; inside `lungs` (1, 1, D, H, W) tissue slides along the border.

    A smooth flow (up to 18 mm up or down about the base of the lungs) after a slide inside the lungs, whose part across the border
    fades to zero there, so that nothing tears or overlaps. `strength`: factor of both.
    """
    points = grid.world_points()
    z = points[..., 2]
    found = z if lungs is None or not bool(lungs.any()) else z[lungs[0, 0] > 0.5]
    low, high = float(found.min()), float(found.max())
    size = rng.uniform(5.0, 18.0) * rng.choice([-1.0, 1.0])
    bump = torch.exp(-0.5 * ((z - (low + 0.15 * (high - low))) / (0.35 * (high - low) + 1e-3)) ** 2)
    velocity = rng.uniform(1.0, 3.0) * smooth_noise(grid, rng, 40.0)
    velocity[2] += size * bump
    whole = flow(voxels(strength * velocity, grid))
    if lungs is None or not bool(lungs.any()):
        return whole
    slide = rng.uniform(1.0, 4.0) * smooth_noise(grid, rng, 30.0)
    slide[2] += rng.uniform(2.0, 8.0) * np.sign(size) * ((high - z) / (high - low)).clamp(0.0, 1.0)
    slide = _along_border(slide, lungs[0, 0], grid) * lungs[0]
    return composed(voxels(strength * slide, grid), whole)


def flow(velocity: torch.Tensor) -> torch.Tensor:
    """exp(v) by scaling and squaring: (1, 3, D, H, W) voxels -> the displacement after unit time."""
    u = velocity / 2**_SQUARINGS
    for _ in range(_SQUARINGS):
        u = composed(u, u)
    return u


def changed(image: torch.Tensor, rng: np.random.Generator, grid: Grid, amount: float = 0.0) -> torch.Tensor:
    """Other intensities: gamma 0.7 to 1.4, a smooth factor of 10 %, noise of up to 3 %; clamped to 0..1. amount: 1 for twice the
    gamma and the noise."""
    gamma = float(np.exp((1.0 + amount) * rng.uniform(-0.35, 0.35)))
    noise = (1.0 + amount) * float(rng.uniform(0.0, 0.03))
    bias = 1.0 + 0.1 * float(rng.uniform(0.0, 1.0)) * smooth_noise(grid, rng, 60.0)[:1][None]
    grain = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
    return (image.clamp(0.0, 1.0).pow(gamma) * bias + noise * grain).clamp(0.0, 1.0)


def random_contrast(labels: Image, seed: int, number: int) -> Image:
    """A made image (1, D, H, W) in 0..1: every label its own random grey with texture, blurred a little (SynthMorph's idea)."""
    rng = np.random.default_rng([seed, number, 29])
    out = torch.zeros(labels.data.shape, dtype=torch.float32)
    texture = smooth_noise(labels.grid, rng, 4.0 * float(labels.grid.spacing.max()))[:1]
    for name in labels.data.unique().tolist():
        out[labels.data == name] = float(rng.uniform(0.05, 0.95)) * (name != 0)
    out = torch.from_numpy(ndimage.gaussian_filter(out.numpy(), (0.0, 0.6, 0.6, 0.6)))
    return Image((out + 0.05 * texture * (labels.data != 0)).clamp(0.0, 1.0), labels.grid)


def smooth_noise(grid: Grid, rng: np.random.Generator, kernel_mm: float) -> torch.Tensor:
    """(3, D, H, W) smooth noise of unit variance."""
    return SmoothNoise(grid, max(kernel_mm, 0.6 * float(grid.spacing.min()))).draw(int(rng.integers(2**31)), 0)


def _along_border(u_mm: torch.Tensor, inside: torch.Tensor, grid: Grid) -> torch.Tensor:
    """u (3, D, H, W) mm without its part across the border of the region, faded in over `_BORDER_MM`."""
    spacing = grid.spacing[::-1]
    region = inside.numpy() > 0.5
    depth = ndimage.distance_transform_edt(region, sampling=spacing) - ndimage.distance_transform_edt(~region, sampling=spacing)
    smooth = ndimage.gaussian_filter(depth, 3.0 / spacing)
    slope = _gradient(smooth, spacing)
    across = np.tensordot(grid.direction, np.stack(slope[::-1]), axes=1)
    normal = torch.from_numpy((across / np.maximum(np.linalg.norm(across, axis=0), 1e-6)).astype(np.float32))
    fade = torch.exp(-torch.from_numpy((depth / _BORDER_MM).astype(np.float32)) ** 2)
    return u_mm - fade * normal * (normal * u_mm).sum(dim=0)


def _gradient(values: np.ndarray, spacing: np.ndarray) -> list[np.ndarray]:
    return [np.gradient(values, h, axis=a) if values.shape[a] > 1 else np.zeros_like(values) for a, h in enumerate(spacing)]
