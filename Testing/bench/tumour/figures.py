"""Drawn pictures with known motion: the paper's toy figure (a growing triangle between ovals) and a growing disc in a ring."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from regsuite.geometry import Grid, Image


@dataclass(frozen=True)
class Figure:
    """template and patient pictures, the lesion, labels of the structures (0 is none) and the true displacement (2, H, W), px.

    `near`: where the error of the field is measured.
    """

    template: Image
    patient: Image
    lesion: Image
    template_labels: torch.Tensor
    patient_labels: torch.Tensor
    truth: torch.Tensor
    near: torch.Tensor


def _image(data: torch.Tensor) -> Image:
    """(H, W) as one slice of 1 mm pixels."""
    return Image(data[None, None].float(), Grid((1, *data.shape), np.eye(4)))


def _cover(distance: torch.Tensor) -> torch.Tensor:
    return torch.special.ndtr(-distance / 0.6)


def _plane(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    line = torch.arange(n, dtype=torch.float64) - (n - 1) / 2.0
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def growing_disc(n: int = 240, before: float = 6.0, after: float = 18.0, ring: tuple[float, float] = (28.0, 36.0)) -> Figure:
    """A disc of 6 px grows to 18 px and pushes a ring outward; areas are kept. The ring lies 4.88 px off on average."""
    x, y = _plane(n)
    r = torch.hypot(x, y)
    area = after**2 - before**2
    source = torch.where(r > after, (r**2 - area).clamp(min=0.0).sqrt(), r * before / after)
    inner, outer = (math.sqrt(edge**2 - area) for edge in ring)

    def draw(radius: torch.Tensor, edges: tuple[float, float], distance: torch.Tensor, disc: float) -> torch.Tensor:
        picture = 0.35 * _cover((radius - 100.0) * 0.6) + 0.35 * _cover(distance - edges[1]) * _cover(edges[0] - distance)
        return picture + (1.0 - picture) * _cover(distance - disc)

    within = ((r > ring[0]) & (r < ring[1])).long()
    was = ((r > inner) & (r < outer)).long()
    factor = source / r.clamp(min=1e-9) - 1.0
    return Figure(
        template=_image(draw(r, (inner, outer), r, before)),
        patient=_image(draw(source, ring, r, after)),
        lesion=_image((r < after).float()),
        template_labels=was,
        patient_labels=within,
        truth=torch.stack([x * factor, y * factor]),
        near=within > 0,
    )


def growing_triangle(seed: int, n: int = 300) -> Figure:
    """Four ovals around the middle and four at the border; a triangle appears in the middle and pushes them away.

    No triangle is in the template, and two of its inner ovals overlap with where the triangle will be, as in the paper's figure.
    Positions, sizes, angles and grey values are drawn from the seed. Labels: the ovals.
    """
    rng = np.random.default_rng([seed, 300])
    x, y = _plane(n)
    r, angle = torch.hypot(x, y), torch.atan2(y, x)
    size, turn = rng.uniform(38.0, 48.0), rng.uniform(0.0, 2.0 * np.pi)
    edge = _triangle(angle, turn, size)
    window = 1.0 - _step((r - edge) / (2.4 * size))
    seed_px = 3.0
    source = torch.where(r > edge, (r**2 - (edge**2 - seed_px**2) * window).clamp(min=seed_px**2).sqrt(), r * seed_px / edge)
    sx, sy = source * torch.cos(angle), source * torch.sin(angle)
    ovals = []
    for number in range(8):
        far = number >= 4
        at = turn + np.pi / 2 * (number % 4) + rng.uniform(-0.25, 0.25) + (np.pi / 4 if far else 0.0)
        place = rng.uniform(105.0, 120.0) if far else rng.uniform(30.0, 46.0)
        half = (rng.uniform(8, 12), rng.uniform(13, 18))
        ovals.append((place * np.cos(at), place * np.sin(at), *half, rng.uniform(0, np.pi), rng.uniform(0.45, 0.65)))
    template, template_labels = _ovals(x, y, ovals)
    patient, patient_labels = _ovals(sx, sy, ovals)
    inside = _cover(r - edge)
    patient = patient + (1.0 - patient) * inside
    patient_labels[r < edge] = 0
    return Figure(
        template=_image(template),
        patient=_image(patient),
        lesion=_image((r < edge + 1.0).float()),
        template_labels=template_labels,
        patient_labels=patient_labels,
        truth=torch.stack([sx - x, sy - y]),
        near=(patient_labels > 0) & (patient_labels <= 4),
    )


def _step(t: torch.Tensor) -> torch.Tensor:
    t = t.clamp(0.0, 1.0)
    return t**3 * (10.0 + t * (6.0 * t - 15.0))


def _triangle(angle: torch.Tensor, turn: float, size: float) -> torch.Tensor:
    """Distance from the middle to the border of a regular triangle with rounded corners, by direction."""
    third = 2.0 * np.pi / 3.0
    sides = torch.stack([torch.cos(angle - turn - k * third).clamp(min=1e-3) / (0.62 * size) for k in range(3)])
    return (sides**8).sum(dim=0) ** (-1.0 / 8.0)


def _ovals(x: torch.Tensor, y: torch.Tensor, ovals: list[tuple[float, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey picture of ovals on a dark round field, and their labels 1..8."""
    picture = 0.15 * _cover((torch.hypot(x, y) - 138.0) * 0.6)
    labels = torch.zeros(x.shape, dtype=torch.long)
    for number, (cx, cy, a, b, turn, grey) in enumerate(ovals, start=1):
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = -(x - cx) * np.sin(turn) + (y - cy) * np.cos(turn)
        k = (u / a) ** 2 + (v / b) ** 2
        distance = (k - 1.0) / (2.0 * torch.hypot(u / a**2, v / b**2)).clamp(min=1.0 / b)
        picture = picture + (grey - picture) * _cover(distance)
        labels[distance < 0] = number
    return picture, labels
