"""Phantom `hip-radial`: a 3D scan of a hip and six quantitative slices turned about the femoral neck, with their true places.

The anatomy is given by surfaces (see `hip`), painted once into the volume and once into each slice, through the slice's
thickness, so that neither is an interpolated copy of the other. The slices hold T2 in ms; T1 comes beside. Their headers lie:
the whole stack is turned and shifted, the slices come in any order and from either side, and each is a little off its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.phantoms.base import SlicePhantom
from regsuite.phantoms.hip import BONES, LABELS, Hip, paint_hip, random_hip
from regsuite.transforms import AffineTransform

OPTIONS = ("size", "slices", "rotation_deg", "shift_mm", "motion_mm", "motion_deg", "shuffle", "noise", "contour_mm", "pixels")
FIELD_OF_VIEW_MM = 160.0
SLICE_MM, THICKNESS_MM, SUB_PLANES = 144.0, 3.0, 5
MIDDLE_MM = 22.0  # the middle of the scans lies this far along the neck
CHUNK = 65_536
_FROM_BEHIND = np.diag([-1.0, 1.0, -1.0, 1.0])


def make(
    seed: int,
    size: Sequence[int] = (160, 160, 160),
    slices: int = 6,
    rotation_deg: float = 25.0,
    shift_mm: float = 20.0,
    motion_mm: float = 1.0,
    motion_deg: float = 0.0,
    shuffle: bool = True,
    noise: float = 0.02,
    contour_mm: float = 1.0,
    pixels: int = 144,
) -> SlicePhantom:
    """Make the phantom.

    size: voxels (i, j, k) of the volume, each 32 to 512, over 160 mm. slices: 2 to 12, evenly turned over 180 degrees.
    rotation_deg, shift_mm: how far the headers of the whole stack are off (about a random axis, in a random direction).
    motion_mm, motion_deg: patient motion between the slices, standard deviation along and about each axis. shuffle: any order,
    either side. noise: standard deviation as a share of the muscle's value. contour_mm: error of the slices' bone labels.
    Raises InputError on anything else.
    """
    size = _checked_size(size)
    _check_limits(slices, pixels, rotation_deg, shift_mm, motion_mm, motion_deg, noise, contour_mm)
    options = _Options(size, int(slices), rotation_deg, shift_mm, motion_mm, motion_deg, shuffle, noise, contour_mm, int(pixels))
    return _make(seed, options)


@dataclass(frozen=True)
class _Options:
    """The checked arguments of `make`."""

    size: tuple[int, int, int]
    slices: int
    rotation_deg: float
    shift_mm: float
    motion_mm: float
    motion_deg: float
    shuffle: bool
    noise: float
    contour_mm: float
    pixels: int


def _make(seed: int, o: _Options) -> SlicePhantom:
    streams = [np.random.default_rng([seed, stream]) for stream in range(6)]
    hip = random_hip(streams[0])
    grid = _volume_grid(hip, o.size, streams[1])
    values, labels = _paint_volume(hip, grid)
    volume = Image(_noisy(values[:1] * _shading(grid, streams[1]), 0.5 * o.noise, streams[2]), grid)
    true = _true_poses(hip, o.slices, streams[3], o.motion_mm, o.motion_deg)
    order, sides = _order(o.slices, o.shuffle, streams[4])
    given = _given_poses(hip, o.slices, streams[4], o.rotation_deg, o.shift_mm)
    images, masks, t1, transforms = [], [], [], []
    for place in range(o.slices):
        pose = true[order[place]] @ (_FROM_BEHIND if sides[place] else np.eye(4))
        header = _slice_grid(given[place], o.pixels)
        drawn, bone = _paint_slice(hip, _slice_grid(pose, o.pixels))
        images.append(Image(_noisy(drawn[2:3], 34.0 * o.noise, streams[5]), header))
        t1.append(Image(_noisy(drawn[1:2], 1400.0 * o.noise, streams[5]), header))
        masks.append(Image(_wobbly(bone, SLICE_MM / o.pixels, o.contour_mm, streams[5]), header))
        transforms.append(AffineTransform(pose @ np.linalg.inv(given[place])))
    bones = torch.isin(labels, torch.tensor(BONES, dtype=labels.dtype)) * labels
    return SlicePhantom(
        name="hip-radial",
        seed=seed,
        volume=volume,
        volume_mask=Image(bones.to(torch.uint8), grid),
        volume_labels=Image(labels, grid),
        label_names=dict(LABELS),
        slices=tuple(images),
        slice_masks=tuple(masks),
        slice_values={"t1_ms": tuple(t1)},
        transforms=tuple(transforms),
        order=tuple(order),
        reversed=tuple(sides),
        maps={"t1_ms": Image(values[1:2], grid), "t2_ms": Image(values[2:3], grid)},
        notes="Slices hold T2 (ms). A slice's transform maps its given position to its true one in the volume.",
    )


def _check_limits(*values: object) -> None:
    limits = {
        "slices": (2, 12),
        "pixels": (24, 512),
        "rotation_deg": (0, 180),
        "shift_mm": (0, 200),
        "motion_mm": (0, 10),
        "motion_deg": (0, 10),
        "noise": (0, 1),
        "contour_mm": (0, 5),
    }
    for value, (name, (low, high)) in zip(values, limits.items(), strict=True):
        check.finite_number(name, value, low, high)


def _checked_size(size: object) -> tuple[int, int, int]:
    good = isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 3
    if not good or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 32 <= n <= 512 for n in size):  # type: ignore[attr-defined]
        raise InputError(f"'size' must be three whole numbers (i, j, k) from 32 to 512, found {size!r}.")
    return int(size[0]), int(size[1]), int(size[2])  # type: ignore[index]


def _volume_grid(hip: Hip, size: tuple[int, int, int], random: np.random.Generator) -> Grid:
    """A slightly oblique lattice around the neck."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(np.deg2rad(random.normal(0.0, 4.0, 3))).as_matrix() * (FIELD_OF_VIEW_MM / np.array(size))
    affine[:3, 3] = MIDDLE_MM * hip.neck_direction - affine[:3, :3] @ ((np.array(size) - 1) / 2)
    return Grid(size[::-1], affine)


def _paint_volume(hip: Hip, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    values, labels = _paint(hip, grid.world_points().view(-1, 3), 0.42 * float(grid.spacing.mean()))
    return values.view(3, *grid.shape), labels.view(1, *grid.shape)


def _paint(hip: Hip, points: torch.Tensor, blur_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [paint_hip(hip, part, blur_mm) for part in points.split(CHUNK)]
    return torch.cat([values for values, _ in parts], dim=1), torch.cat([labels for _, labels in parts])


def _paint_slice(hip: Hip, grid: Grid) -> tuple[torch.Tensor, np.ndarray]:
    """Values (3, 1, H, W) averaged through the thickness, and the bone labels (H, W) in the middle plane."""
    points = grid.world_points().view(-1, 3)
    normal = torch.from_numpy(np.array(grid.direction[:, 2])).to(points)
    total = torch.zeros(3, len(points))
    middle = torch.zeros(len(points), dtype=torch.int16)
    for part in range(SUB_PLANES):
        offset = THICKNESS_MM * ((part + 0.5) / SUB_PLANES - 0.5)
        values, labels = _paint(hip, points + offset * normal, 0.42 * float(grid.spacing[0]))
        total += values / SUB_PLANES
        middle = labels if part == SUB_PLANES // 2 else middle
    bone = middle.numpy() * np.isin(middle.numpy(), BONES)
    return total.view(3, *grid.shape), bone.reshape(grid.shape[1:])


def _neck_frame(hip: Hip) -> np.ndarray:
    """4x4: columns two directions across the neck, the third along it is the second axis (j runs along the neck)."""
    along = hip.neck_direction
    across = np.cross(along, [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    frame = np.eye(4)
    frame[:3, :3] = np.stack([across, along, np.cross(across, along)], axis=1)
    frame[:3, 3] = MIDDLE_MM * along
    return frame


def _fan(count: int) -> list[np.ndarray]:
    """Poses in the neck's frame: slice n is turned by n 180 / count degrees about the second axis."""
    poses = []
    for number in range(count):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec([0.0, number * np.pi / count, 0.0]).as_matrix()
        poses.append(pose)
    return poses


def _true_poses(hip: Hip, count: int, random: np.random.Generator, motion_mm: float, motion_deg: float) -> list[np.ndarray]:
    frame = _neck_frame(hip) @ _rigid(random.normal(0.0, np.deg2rad(4.0), 3), random.normal(0.0, 2.0, 3))
    start = _rigid(np.array([0.0, random.uniform(0.0, np.pi), 0.0]), np.zeros(3))
    moves = [_rigid(np.deg2rad(random.normal(0, 1, 3) * motion_deg), random.normal(0, 1, 3) * motion_mm) for _ in range(count)]
    return [frame @ start @ pose @ move for pose, move in zip(_fan(count), moves, strict=True)]


def _order(count: int, shuffle: bool, random: np.random.Generator) -> tuple[list[int], list[bool]]:
    if not shuffle:
        return list(range(count)), [False] * count
    return [int(n) for n in random.permutation(count)], [bool(n) for n in random.integers(0, 2, count)]


def _given_poses(hip: Hip, count: int, random: np.random.Generator, rotation_deg: float, shift_mm: float) -> list[np.ndarray]:
    """What the headers say: a perfect fan, turned and shifted as a whole."""
    direction, axis = (vector / np.linalg.norm(vector) for vector in random.normal(size=(2, 3)))
    frame = _neck_frame(hip)
    middle = frame.copy()
    middle[:3, :3] = np.eye(3)
    wrong = middle @ _rigid(np.deg2rad(rotation_deg) * axis, shift_mm * direction) @ np.linalg.inv(middle)
    return [wrong @ frame @ pose for pose in _fan(count)]


def _rigid(turn_rad: np.ndarray, shift_mm: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn_rad).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def _slice_grid(pose: np.ndarray, pixels: int) -> Grid:
    """One slice centred on the pose: i and j along its first two axes, the thickness along the third."""
    spacing = SLICE_MM / pixels
    affine = pose @ np.diag([spacing, spacing, THICKNESS_MM, 1.0])
    affine[:3, 3] = pose[:3, 3] - affine[:3, :2] @ np.full(2, (pixels - 1) / 2)
    return Grid((1, pixels, pixels), affine)


def _shading(grid: Grid, random: np.random.Generator) -> torch.Tensor:
    """(1, D, H, W): the coil's sensitivity, a factor between about 0.8 and 1.2."""
    coarse = ndimage.gaussian_filter(random.normal(size=(8, 8, 8)), 2.0, mode="wrap")
    coarse = torch.from_numpy(1.0 + 0.12 * coarse / max(float(coarse.std()), 1e-6)).float().clamp(0.75, 1.25)
    return torch.nn.functional.interpolate(coarse[None, None], size=grid.shape, mode="trilinear")[0]


def _noisy(values: torch.Tensor, sigma: float, random: np.random.Generator) -> torch.Tensor:
    return values + sigma * torch.from_numpy(random.normal(size=tuple(values.shape)).astype(np.float32))


def _wobbly(bone: np.ndarray, spacing_mm: float, error_mm: float, random: np.random.Generator) -> torch.Tensor:
    """Labels (1, 1, H, W) whose contours are off by a smooth error of standard deviation `error_mm`."""
    out = np.zeros(bone.shape, np.uint8)
    wave = ndimage.gaussian_filter(random.normal(size=bone.shape), 6.0 / spacing_mm)
    wave *= error_mm / max(float(wave.std()), 1e-9)
    for label in BONES:
        inside = bone == label
        if inside.any():
            distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
            out[(distance * spacing_mm + wave < 0) & (out == 0)] = label
    return torch.from_numpy(out)[None, None]
