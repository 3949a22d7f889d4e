"""A patient with a lesion and a healthy template, made comparable; and what a metamorphosis between them tells."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.intensity import IntensityMap, match_quantiles
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import resample
from regsuite.progress import Progress
from regsuite.solvers import linear, start
from regsuite.solvers.frame import canonical, crop
from regsuite.transforms import AffineTransform, Transform

_FOREGROUND = 0.1  # ours: of the bright end of the image
_MOST_OF_BRAIN, _LEAST_IN_BRAIN = 0.7, 0.2
_OPPOSITE = -0.1  # ours: least correlation of two aligned images of one kind
_OPPOSITE_START = -0.3  # ours: of two that only lie on each other; the affine start would find some false place for them
_ALIGNED = 0.995  # ours: correlation of heads that need no linear start
_LINEAR_MM = 4.0  # ours: a linear map of a head needs no finer look


@dataclass(frozen=True)
class Preparation:
    """finest_mm: resolution; linear: affine | rigid | header; match: grey values; margin_mm: kept around both heads;
    start: policy of `solvers.start`, and seed: of its csngf."""

    finest_mm: float
    linear: str
    match: bool
    margin_mm: float
    start: str = "header"
    seed: int = 0


@dataclass(frozen=True)
class CaseLevel:
    """fixed, template, lesion (1, D, H, W) over one box at one resolution; spacing mm along (D, H, W)."""

    fixed: torch.Tensor
    template: torch.Tensor
    lesion: torch.Tensor
    spacing: tuple[float, float, float]


@dataclass
class LesionCase:
    """Patient and template on one canonical grid around the heads, 0..1. The template is seen through the linear start T0.

    lesion: 0..1 on that grid (0 everywhere without one). given: the images as they came. low, high: patient values of 0 and 1;
    template_map: the template's own values -> 0..1.
    """

    fixed: Image
    template: Image
    lesion: Image
    start: np.ndarray
    given: tuple[Image, Image]
    low: float
    high: float
    template_low: float
    template_map: IntensityMap
    device: torch.device
    warnings: list[str] = field(default_factory=list)
    has_lesion: bool = True

    def level(self, factor: int) -> CaseLevel:
        """The case `factor` times as coarse as the finest."""
        mm = factor * float(min(h for h, n in zip(self.fixed.grid.spacing, self.fixed.grid.size, strict=True) if n > 1))
        fixed, template, lesion = (at_spacing(image, mm) for image in (self.fixed, self.template, self.lesion))
        return CaseLevel(fixed.data, template.data, lesion.data, spacing_of(fixed.grid))

    def spacing(self, factor: int) -> tuple[float, float, float]:
        """mm along (D, H, W) of a level."""
        return self.level(factor).spacing


def spacing_of(grid: Grid) -> tuple[float, float, float]:
    """mm along (D, H, W)."""
    i, j, k = grid.spacing
    return float(k), float(j), float(i)


def prepare(
    fixed: Image,
    moving: Image,
    lesion: Image | None,
    initial: Transform | None,
    settings: Preparation,
    device: torch.device,
    progress: Progress,
) -> LesionCase:
    """Check, align (without the lesion), crop to the heads and match the grey values outside the lesion; see LesionCase."""
    _check_pair(fixed, moving)
    warnings: list[str] = []
    target = at_spacing(canonical(_floating(fixed, device)), settings.finest_mm)
    source = at_spacing(_floating(moving, device), settings.finest_mm)
    mask = _lesion_on(lesion, fixed, target, settings.finest_mm, device)
    progress.step(0.1, "reading")
    head = foreground(target.data)
    if lesion is not None:
        _check_place(mask.data, head)
    matrix = _linear_start(target, source, mask, initial, settings, warnings, progress)
    progress.step(0.7, "grey values")
    template_low = float(_low(source.data))
    seen = resample(source, target.grid, AffineTransform(matrix), fill=template_low)
    low, high = float(_low(target.data)), float(_bright(target.data))
    both = (head & foreground(seen.data)) & (mask.data < 0.5)
    _check_contrast(target.data, seen.data, both, _OPPOSITE)
    source_values = (seen.data if bool(both.any()) else source.data)[both if bool(both.any()) else foreground(source.data)]
    if settings.match:
        patient_values = ((target.data - low) / (high - low))[both if bool(both.any()) else head]
        mapping = match_quantiles(source_values - template_low, patient_values)
    else:
        mapping = IntensityMap((0.0, high - low), ((template_low - low) / (high - low), (template_low - low) / (high - low) + 1.0))
    keep = (head | foreground(seen.data) | (mask.data > 0.5)).float()
    box = target.with_data(keep)
    return LesionCase(
        fixed=crop(target.with_data((target.data - low) / (high - low)), box, settings.margin_mm),
        template=crop(seen.with_data(mapping(seen.data - template_low)), box, settings.margin_mm),
        lesion=crop(mask, box, settings.margin_mm),
        start=matrix,
        given=(fixed, moving),
        low=low,
        high=high,
        template_low=template_low,
        template_map=mapping,
        device=device,
        warnings=warnings,
        has_lesion=lesion is not None,
    )


def foreground(data: torch.Tensor) -> torch.Tensor:
    """bool, the shape of `data`: brighter than a tenth of the way from the darkest to the bright end of the image."""
    low, high = _low(data), _bright(data)
    return data > low + _FOREGROUND * (high - low)


def _low(data: torch.Tensor) -> torch.Tensor:
    return torch.quantile(_some(data), 0.005)


def _bright(data: torch.Tensor) -> torch.Tensor:
    """The 99 % quantile of what is not background (above the mean)."""
    values = _some(data)
    above = values[values > values.mean()]
    return torch.quantile(above if len(above) else values, 0.99)


def _some(data: torch.Tensor) -> torch.Tensor:
    flat = data.reshape(-1)
    return flat[:: max(1, flat.numel() // 500_000)]


def _floating(image: Image, device: torch.device) -> Image:
    return image.with_data(image.data.float()).to(device)


def _check_pair(fixed: Image, moving: Image) -> None:
    for name, image in (("fixed (patient)", fixed), ("moving (template)", moving)):
        if image.channels != 1:
            raise InputError(f"The {name} image must have one channel, found {image.channels}.")
        check.finite_tensor(f"The {name} image", image.data)
        if bool(image.data.min() == image.data.max()):
            raise InputError(f"The {name} image is constant; expected an image with contrast.")
    flat = [min(image.grid.shape) == 1 for image in (fixed, moving)]
    if flat[0] != flat[1]:
        one, other = ("patient", "template") if flat[0] else ("template", "patient")
        raise InputError(f"The {one} is one slice and the {other} a volume; expected two volumes or two slices.")


def _lesion_on(lesion: Image | None, fixed: Image, target: Image, finest_mm: float, device: torch.device) -> Image:
    """The lesion, 0..1, on the grid of `target` (fixed, canonical, at the finest resolution)."""
    if lesion is None:
        return target.with_data(torch.zeros_like(target.data))
    binary = lesion.with_data((lesion.data[:1] != 0).float())
    if not bool(binary.data.any()):
        raise InputError("The lesion mask is empty; expected at least one voxel other than 0.")
    if binary.grid != fixed.grid:
        binary = resample(binary, fixed.grid, None, "nearest", fill=0.0)
    mask = at_spacing(canonical(binary.to(device)), finest_mm)
    if not bool((mask.data > 0.0).any()):
        raise InputError("The lesion mask lies outside the patient image; expected it on the patient.")
    return mask


def _check_place(mask: torch.Tensor, head: torch.Tensor) -> None:
    inside = (mask > 0.5) if bool((mask > 0.5).any()) else (mask > 0.0)
    within = float((inside & head).sum())
    if within < _LEAST_IN_BRAIN * float(inside.sum()):
        share = 100.0 * within / float(inside.sum())
        raise InputError(
            f"The lesion mask lies off the brain: {share:.0f} % of it covers tissue of the patient image; "
            "expected the tumour with its oedema on the fixed image."
        )
    if within > _MOST_OF_BRAIN * float(head.sum()):
        share = 100.0 * within / float(head.sum())
        raise InputError(f"The lesion mask covers {share:.0f} % of the head; expected the tumour with its oedema only.")


def _check_contrast(fixed: torch.Tensor, template: torch.Tensor, both: torch.Tensor, least: float) -> None:
    if int(both.sum()) < 50:
        return
    r = _correlation(fixed, template, both)
    if r < least:
        raise InputError(
            f"Patient and template have opposite contrast (correlation {r:.2f} within the head, outside the lesion); "
            "expected two images of one kind, such as both T1."
        )


def _correlation(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a[where].double(), b[where].double()]))[0, 1])


def _linear_start(
    target: Image,
    source: Image,
    mask: Image,
    initial: Transform | None,
    settings: Preparation,
    warnings: list[str],
    progress: Progress,
) -> np.ndarray:
    healthy = target.with_data((mask.data < 0.5).float())
    with progress.part(0.1, 0.3):
        matrix, sentences = start.initialise(
            target, source, settings.start, initial=initial, fixed_mask=healthy, seed=settings.seed, progress=progress
        )
    warnings.extend(sentences)
    if initial is not None or settings.linear == "header":
        return matrix
    others = [start.initialise(target, source, "mass")[0]] if settings.start == "header" else []
    places = [_Place.of(source, target, mask, pose) for pose in (matrix, *others)]
    if places[0].fit > _ALIGNED:
        return matrix
    place = max(places, key=lambda item: item.fit)
    _check_contrast(target.data, place.seen, place.both, _OPPOSITE_START)
    with progress.part(0.3, 0.6):
        found = linear.align(
            target,
            source,
            kind=settings.linear,
            metric="ncc",
            start=place.matrix,
            fixed_mask=target.with_data(place.healthy.float()),
            settings=linear.LinearSettings(finest_mm=max(_LINEAR_MM, settings.finest_mm), levels=2, samples=20_000, iterations=40),
            progress=progress,
        )
    warnings.extend(found.warnings)
    return found.matrix


@dataclass(frozen=True)
class _Place:
    """A pose of the template and the template under it on the patient's grid; healthy: either head, without the lesion; both: where
    the heads meet, without the lesion; fit: correlation over the healthy part."""

    matrix: np.ndarray
    seen: torch.Tensor
    healthy: torch.Tensor
    both: torch.Tensor
    fit: float

    @staticmethod
    def of(source: Image, target: Image, mask: Image, matrix: np.ndarray) -> _Place:
        """`source` seen on the grid of `target` through `matrix`."""
        seen = resample(source, target.grid, AffineTransform(matrix), fill=float(_low(source.data))).data
        heads, outside = (foreground(target.data), foreground(seen)), mask.data < 0.01
        healthy = outside & (heads[0] | heads[1])
        fit = _correlation(seen, target.data, healthy) if bool(healthy.any()) else np.nan
        return _Place(matrix, seen, healthy, outside & heads[0] & heads[1], fit if np.isfinite(fit) else -1.0)
