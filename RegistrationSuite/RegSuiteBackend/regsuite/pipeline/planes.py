"""Pictures of volumes: true axial, coronal and sagittal cuts in radiological convention, whatever way the grid lies."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from regsuite.geometry import Grid, Image
from regsuite.ops.derivatives import jacobian_determinant
from regsuite.ops.sampling import resample
from regsuite.pipeline.region import is_ct
from regsuite.transforms import Transform

_MOST_PIXELS = 320
_LUNG_SHARE = 0.08
LUNG_WINDOW, SOFT_TISSUE_WINDOW = (-1350.0, 150.0), (-160.0, 240.0)

# name -> (screen right, screen down) as RAS axes; radiological: the patient's right is on the left of the picture
_VIEWS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "Axial": ((-1, 0, 0), (0, -1, 0)),
    "Coronal": ((-1, 0, 0), (0, 0, -1)),
    "Sagittal": ((0, -1, 0), (0, 0, -1)),
}
_LETTERS = {(-1, 0, 0): "L", (1, 0, 0): "R", (0, -1, 0): "P", (0, 1, 0): "A", (0, 0, -1): "I", (0, 0, 1): "S"}


@dataclass(frozen=True)
class Plane:
    """A cut through the world. grid: (1, height, width), square pixels, i to the right and j down the screen."""

    name: str
    grid: Grid

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """Patient directions at the left, right, top and bottom of the picture."""
        right, down = _VIEWS[self.name]
        left, up = (tuple(-v for v in axis) for axis in (right, down))
        return _LETTERS[left], _LETTERS[right], _LETTERS[up], _LETTERS[down]  # type: ignore[index]


def planes_through(grid: Grid, inside: torch.Tensor, interest: torch.Tensor, margin_mm: float = 12.0) -> list[Plane]:
    """Axial, coronal and sagittal planes where most of `interest` lies, framing `inside` (both bool (D, H, W) on `grid`)."""
    corners, box = _world(grid, inside), grid.corners()
    low = np.maximum(corners.min(axis=0) - margin_mm, box.min(axis=0))
    high = np.minimum(corners.max(axis=0) + margin_mm, box.max(axis=0))
    centre = np.array([_fullest(values) for values in _world(grid, interest).T])
    pixel = max(float(grid.spacing.min()), float((high - low).max()) / _MOST_PIXELS)
    return [_plane(name, low, high, centre, pixel) for name in _VIEWS]


def _fullest(values: np.ndarray, bin_mm: float = 4.0, smooth_mm: float = 40.0) -> float:
    """The coordinate (mm) around which most values lie: the (first) peak of a smoothed histogram."""
    edges = np.arange(values.min() - smooth_mm, values.max() + smooth_mm + bin_mm, bin_mm)
    counts, _ = np.histogram(values, edges)
    density = ndimage.gaussian_filter1d(counts.astype(np.float64), smooth_mm / 2.355 / bin_mm)
    top = np.flatnonzero(density >= 0.99 * density.max())
    last = next((a for a, b in itertools.pairwise(top) if b > a + 1), top[-1])
    return float((edges[top[0]] + edges[last + 1]) / 2)


def _world(grid: Grid, inside: torch.Tensor) -> np.ndarray:
    index = inside.nonzero().flip(1)
    index = index[:: max(1, len(index) // 200_000)]
    return grid.index_to_world(index.double()).cpu().numpy()


def _plane(name: str, low: np.ndarray, high: np.ndarray, centre: np.ndarray, pixel: float) -> Plane:
    right, down = (np.array(axis, dtype=np.float64) for axis in _VIEWS[name])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = right * pixel, down * pixel, np.cross(right, down) * pixel
    origin = centre.copy()
    for axis in (right, down):
        along = int(np.abs(axis).argmax())
        origin[along] = high[along] if axis.sum() < 0 else low[along]
    affine[:3, 3] = origin
    width, height = (max(2, int(np.ceil(np.abs(axis) @ (high - low) / pixel))) for axis in (right, down))
    return Plane(name, Grid((1, height, width), affine))


def cut(image: Image, plane: Plane, transform: Transform | None = None) -> np.ndarray:
    """(height, width) float: the image on the plane, through `transform` if given; NaN outside the image."""
    return resample(image, plane.grid, transform, "linear", fill=float("nan")).data[0, 0].cpu().numpy()


def cut_mask(inside: torch.Tensor, grid: Grid, plane: Plane) -> np.ndarray:
    """(height, width) bool of a bool (D, H, W) mask on `grid`, its steps smoothed away."""
    steps = resample(Image(inside.to(torch.uint8), grid), plane.grid, None, "nearest", fill=0).data[0, 0].cpu().numpy()
    sigma = 1.5 * float(np.median(grid.spacing) / plane.grid.spacing[0])
    return ndimage.gaussian_filter(steps.astype(np.float32), sigma) > 0.5


def cut_field(transform: Transform, plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    """Jacobian determinant and displacement magnitude (mm), both (height, width)."""
    _, h, w = plane.grid.shape
    thick = plane.grid.cropped((-1, 0, 0), (3, h, w))
    u = transform.displacement(thick)
    return jacobian_determinant(u, thick)[1].numpy(), u[:, 1].norm(dim=0).numpy()


def interest(image: Image, inside: torch.Tensor) -> torch.Tensor:
    """(D, H, W) bool: what a picture should pass through; of a chest CT the lungs, else all of `inside`."""
    if is_ct(image):
        lungs = inside & (image.data[0] < -500) & (image.data[0] > -1000)
        if float(lungs.sum()) > _LUNG_SHARE * float(inside.sum()):
            return lungs
    return inside


def display_window(image: Image, inside: torch.Tensor) -> tuple[float, float]:
    """Grey-value limits: the lung or soft-tissue window for CT, else the 1st and 99.5th percentile of the body."""
    body = _thin(image, inside)
    if is_ct(image):
        lung_share = float(((body > -1000) & (body < -500)).mean())
        return LUNG_WINDOW if lung_share > _LUNG_SHARE else SOFT_TISSUE_WINDOW
    low, high = np.percentile(body, (1, 99.5))
    return (float(low), float(high)) if low < high else (float(low) - 0.5, float(low) + 0.5)


def _thin(image: Image, inside: torch.Tensor) -> np.ndarray:
    values = image.data[0][inside]
    return values[:: max(1, values.numel() // 500_000)].float().cpu().numpy()


def to_grey(picture: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """(height, width) in 0..1; outside the image black."""
    low, high = window
    return np.nan_to_num(np.clip((picture - low) / (high - low), 0.0, 1.0), nan=0.0)


def overlay(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """(height, width, 3): grey where both agree, magenta where only the fixed is bright, green where only the moving is."""
    return np.stack([fixed, moving, fixed], axis=-1)
