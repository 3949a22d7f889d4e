"""Similarities of sampled points for the linear stage; each is an energy (lower is better), a mean over the weighted points."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from regsuite.geometry.image import Image
from regsuite.ops.derivatives import spatial_gradient
from regsuite.ops.sampling import sample_normalised, sample_world

_TINY = 1e-12
_NOISE_PER_VOXEL = 0.02  # ours: gradient, in shares of the grey range per voxel of the level, below which an edge is noise


class Metric(ABC):
    """Compares the fixed image at given points with the moving image at their images under T."""

    unrelated: float = 0.0
    """The value of images that have nothing in common."""

    def __init__(self, bins: int, spacing_mm: float) -> None:
        self.bins, self.spacing_mm = bins, spacing_mm

    @abstractmethod
    def prepare(self, fixed: Image, moving: Image, points: torch.Tensor) -> None:
        """Look at the images (scaled 0..1) and at the fixed points (N, 3) RAS mm once."""

    @abstractmethod
    def __call__(self, coordinates: torch.Tensor, weight: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        """Energy at moving grid_sample coordinates (N, 3) with weights (N,); linear: (3, 3) of T, float64."""


def _read(data: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """(C, D, H, W) at (N, 3) -> (C, N)."""
    return sample_normalised(data, coordinates.view(1, 1, -1, 3))[:, 0, 0]


class MutualInformation(Metric):
    """Minus the mutual information in nats. Cubic B-spline windows for the moving values, plain bins for the fixed ones, which
    never change (Mattes et al., IEEE TMI 2003)."""

    def prepare(self, fixed: Image, moving: Image, points: torch.Tensor) -> None:
        self._moving = moving.data
        values = sample_world(fixed, points)[0].clamp(0.0, 1.0)
        place = (values * (self.bins - 1) + 0.5).long().clamp(max=self.bins - 1)
        self._fixed = torch.nn.functional.one_hot(place, self.bins).to(moving.data)

    def __call__(self, coordinates: torch.Tensor, weight: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        place = 1.0 + _read(self._moving, coordinates)[0].clamp(0.0, 1.0) * (self.bins - 3)
        first = place.detach().floor().clamp(max=self.bins - 3)
        t = place - first
        s = 1.0 - t
        inner = [2.0 / 3.0 - x * x * (1.0 - x / 2.0) for x in (t, s)]
        taps = torch.stack([s**3 / 6.0, *inner, t**3 / 6.0], dim=1)
        index = first.long()[:, None] + torch.arange(-1, 3, device=first.device)
        windows = torch.zeros(len(place), self.bins).to(taps).scatter(1, index, taps * weight[:, None])
        joint = self._fixed.T @ windows / weight.sum().clamp(min=_TINY)
        joint = joint.double()
        independent = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
        return -(joint * (joint.clamp(min=_TINY) / independent.clamp(min=_TINY)).log()).sum()


class Correlation(Metric):
    """1 - r, r the weighted Pearson correlation: for images of the same contrast."""

    unrelated = 1.0

    def prepare(self, fixed: Image, moving: Image, points: torch.Tensor) -> None:
        self._moving = moving.data
        self._fixed = sample_world(fixed, points)[0].double()

    def __call__(self, coordinates: torch.Tensor, weight: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        m = _read(self._moving, coordinates)[0].double()
        w = weight.double() / weight.sum().double().clamp(min=_TINY)
        f = self._fixed - (w * self._fixed).sum()
        m = m - (w * m).sum()
        variances = (w * f * f).sum() * (w * m * m).sum()
        return 1.0 - (w * f * m).sum() / variances.clamp(min=_TINY).sqrt()


class Edges(Metric):
    """1 - sum w (n_f . n_m)^2 / sum w |n_f|^2 with n = g / sqrt(|g|^2 + eps^2), g the gradient of fixed, and of moving(T)
    (Haber and Modersitzki, MICCAI 2006): for other contrasts that share edges."""

    unrelated = 1.0

    def prepare(self, fixed: Image, moving: Image, points: torch.Tensor) -> None:
        self._eps = _NOISE_PER_VOXEL / self.spacing_mm
        gradient = sample_world(fixed.with_data(spatial_gradient(fixed.data, fixed.grid)[0]), points)
        self._normal = gradient / (gradient.square().sum(dim=0) + self._eps**2).sqrt()
        self._gradient = spatial_gradient(moving.data, moving.grid)[0].contiguous()

    def __call__(self, coordinates: torch.Tensor, weight: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        turned = linear.T.to(self._gradient) @ _read(self._gradient, coordinates)
        square = turned.square().sum(dim=0) + self._eps**2
        match = (self._normal * turned).sum(dim=0).square() / square
        possible = (weight * self._normal.square().sum(dim=0)).sum()
        return (1.0 - (weight * match).sum() / possible.clamp(min=_TINY)).double()


class InformationAndEdges(Metric):
    """The sum of minus the mutual information (nats) and of the edges' energy: where the one is flat or biased (noise against
    coarse bins, few tissues in view) the other often is not."""

    unrelated = 1.0

    def __init__(self, bins: int, spacing_mm: float) -> None:
        super().__init__(bins, spacing_mm)
        self._parts: tuple[Metric, ...] = (MutualInformation(bins, spacing_mm), Edges(bins, spacing_mm))

    def prepare(self, fixed: Image, moving: Image, points: torch.Tensor) -> None:
        for part in self._parts:
            part.prepare(fixed, moving, points)

    def __call__(self, coordinates: torch.Tensor, weight: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        first, second = (part(coordinates, weight, linear) for part in self._parts)
        return first + second


METRICS: dict[str, type[Metric]] = {"mi": MutualInformation, "ncc": Correlation, "ngf": Edges, "mi+ngf": InformationAndEdges}
