"""The anatomy of one hip: what tissue lies at a point. Origin: the centre of the femoral head; RAS mm; lateral is +x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from regsuite.phantoms.shapes import capsule, common, cover, ellipsoid, merge

LABELS = {1: "femur", 2: "pelvis", 3: "femoral cartilage", 4: "acetabular cartilage", 5: "muscle", 6: "fat", 7: "vessel"}
BONES = (1, 2)
CHANNELS = ("weighted", "t1_ms", "t2_ms")
"""What is painted: the signal of the 3D scan (0 to 1) and the two quantitative values."""

# tissue: (3D signal, T1 ms, T2 ms); the 3D scan is proton density with fat kept, the maps are raw: neither follows the other
_TISSUES = {
    "fat": (0.95, 380.0, 68.0),
    "muscle": (0.50, 1400.0, 34.0),
    "marrow": (0.72, 460.0, 52.0),
    "cortex": (0.06, 250.0, 12.0),
    "femoral cartilage": (0.86, 1060.0, 43.0),
    "acetabular cartilage": (0.82, 960.0, 38.0),
    "joint": (0.62, 2600.0, 150.0),
    "vessel": (0.22, 1750.0, 110.0),
}
_COMPARTMENTS = 34
_GAP_MM = 1.3  # half the fat between two muscles


@dataclass(frozen=True, eq=False)
class Hip:
    """One seed's hip. Directions are unit vectors; lengths mm. See `random_hip` for what varies."""

    head: float
    neck_direction: np.ndarray
    neck_length: float
    neck_radius: float
    shaft_direction: np.ndarray
    shaft_radius: float
    trochanter: np.ndarray
    cup: np.ndarray
    cup_depth: float
    cortex: float
    cartilage: float
    muscles: np.ndarray
    tones: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    skin: np.ndarray


def random_hip(random: np.random.Generator) -> Hip:
    """Sizes, angles, muscles and texture of one hip."""
    turn = np.deg2rad(random.normal((127.0, 14.0), (4.0, 5.0)))  # neck-shaft angle, anteversion
    lean = turn[0] - np.pi / 2
    neck = np.array([np.cos(lean) * np.cos(turn[1]), -np.cos(lean) * np.sin(turn[1]), -np.sin(lean)])
    muscles = random.uniform((-75.0, -75.0, -95.0), (80.0, 75.0, 85.0), (_COMPARTMENTS, 3))
    directions = random.normal(size=(12, 3))
    waves = directions / np.linalg.norm(directions, axis=1, keepdims=True) * (2 * np.pi / random.uniform(7.0, 40.0, (12, 1)))
    return Hip(
        head=random.uniform(22.5, 25.5),
        neck_direction=neck,
        neck_length=random.uniform(46.0, 54.0),
        neck_radius=random.uniform(14.0, 16.5),
        shaft_direction=_unit(np.array([random.normal(-0.06, 0.03), random.normal(0.06, 0.04), -1.0])),
        shaft_radius=random.uniform(14.0, 16.5),
        trochanter=random.normal((9.0, -9.0, 13.0), 2.0),
        cup=_unit(random.normal((-0.72, 0.18, 0.67), 0.06)),
        cup_depth=random.uniform(1.0, 6.0),
        cortex=random.uniform(1.6, 2.2),
        cartilage=random.uniform(2.1, 2.8),
        muscles=muscles,
        tones=random.normal(0.0, 1.0, (3, _COMPARTMENTS)),
        waves=waves,
        phases=random.uniform(0.0, 2 * np.pi, (3, 12)),
        skin=random.uniform((70.0, 78.0), (78.0, 90.0)),
    )


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def paint_hip(hip: Hip, p: torch.Tensor, blur_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Values (3, N) of CHANNELS at points p (N, 3) seen through a blur of `blur_mm`, and labels (N,) int16 (0: air)."""
    texture = _texture(hip, p)
    canvas = _Canvas(p, blur_mm)
    skin = ellipsoid(p, (-28.0, 0.0, 0.0), (hip.skin[0] + 42.0, hip.skin[1] + 22.0, float("inf")))
    canvas.put(skin, "fat", 6, 0.02 * texture)
    cell, depth = _compartments(hip, p)
    tone = torch.from_numpy(hip.tones).to(p)[:, cell] * 0.06 + 0.05 * texture
    canvas.put(torch.maximum(skin + 9.0, -depth), "muscle", 5, tone)
    for x, y, radius in ((-18.0, 46.0, 4.6), (-29.0, 42.0, 5.6)):
        canvas.put(capsule(p, (x - 8.0, y - 14.0, 90.0), (x, y, -95.0), radius), "vessel", 7, 0.02 * texture)
    _paint_pelvis(hip, p, canvas, texture)
    _paint_femur(hip, p, canvas, texture)
    return canvas.values, canvas.labels


class _Canvas:
    """Tissues are put one over the other where they cover a voxel; the label is the last that covers half of it."""

    def __init__(self, p: torch.Tensor, blur_mm: float) -> None:
        self.values = torch.zeros(3, len(p), dtype=p.dtype)
        self.labels = torch.zeros(len(p), dtype=torch.int16)
        self._blur = blur_mm

    def put(self, distance: torch.Tensor, tissue: str, label: int, variation: torch.Tensor) -> None:
        """distance (N,): signed, negative inside; variation (3, N): relative change of the tissue's values."""
        share = cover(distance, self._blur)
        for channel, value in enumerate(_TISSUES[tissue]):
            row = self.values[channel]
            row += (value * (1.0 + variation[channel]) - row) * share
        self.labels[distance < 0.0] = label


def _texture(hip: Hip, p: torch.Tensor) -> torch.Tensor:
    """(3, N) smooth random variation of unit size, different in each channel."""
    phase = p @ torch.from_numpy(hip.waves).to(p).T
    return torch.stack([(phase + torch.from_numpy(row).to(p)).sin().sum(dim=1) for row in hip.phases]) * (2.0 / 12.0) ** 0.5


def _compartments(hip: Hip, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest muscle belly (N,) and the depth (mm) below its border with the next, less the fat between."""
    centres = torch.from_numpy(hip.muscles).to(p) * torch.tensor([1.0, 1.0, 0.45], dtype=p.dtype)  # bellies are long
    squeezed = p * torch.tensor([1.0, 1.0, 0.45], dtype=p.dtype)
    near = torch.cdist(squeezed, centres).topk(2, dim=1, largest=False)
    return near.indices[:, 0], (near.values[:, 1] - near.values[:, 0]) * 0.5 - _GAP_MM


def femur_distance(hip: Hip, p: torch.Tensor) -> torch.Tensor:
    """(N,) signed mm to the surface of the femur."""
    base = hip.neck_direction * hip.neck_length
    neck = capsule(p, (0.0, 0.0, 0.0), tuple(base), hip.neck_radius)
    shaft = capsule(p, tuple(base), tuple(base + 140.0 * hip.shaft_direction), hip.shaft_radius)
    great = ellipsoid(p, tuple(base + hip.trochanter), (15.0, 20.0, 23.0))
    small = ellipsoid(p, tuple(base + np.array([-14.0, -13.0, -36.0])), (10.0, 10.0, 14.0))
    body = merge(merge(merge(neck, shaft, 10.0), great, 10.0), small, 8.0)
    return merge(p.norm(dim=1) - hip.head, body, 5.0)


def _paint_femur(hip: Hip, p: torch.Tensor, canvas: _Canvas, texture: torch.Tensor) -> None:
    towards = p @ torch.from_numpy(hip.cup).to(p)
    cap = -towards - 0.25 * hip.head
    radius = p.norm(dim=1)
    smooth = 0.12 * (towards / hip.head)[None] * torch.tensor([[0.0], [0.6], [1.0]], dtype=p.dtype)  # deep to superficial zones
    canvas.put(common(radius - hip.head - hip.cartilage, cap, 2.0), "femoral cartilage", 3, smooth)
    distance = femur_distance(hip, p)
    canvas.put(distance, "cortex", 1, 0.0 * texture)
    canvas.put(distance + hip.cortex * 0.75, "marrow", 1, 0.07 * texture)


def _paint_pelvis(hip: Hip, p: torch.Tensor, canvas: _Canvas, texture: torch.Tensor) -> None:
    radius = p.norm(dim=1)
    inner = hip.head + hip.cartilage + 0.8
    side = p @ torch.from_numpy(hip.cup).to(p)
    rim = hip.cup_depth - side
    socket = common(radius - inner - hip.cartilage - 11.0, rim, 4.0)
    ilium = ellipsoid(p, (-20.0, -8.0, 62.0), (12.0, 34.0, 48.0))
    pubis = capsule(p, (-30.0, 20.0, -6.0), (-80.0, 34.0, -22.0), 9.5)
    ischium = capsule(p, (-24.0, -26.0, -16.0), (-34.0, -30.0, -78.0), 13.0)
    bone = merge(merge(merge(socket, ilium, 10.0), pubis, 8.0), ischium, 10.0)
    bone = torch.maximum(bone, inner + hip.cartilage - radius)
    low = np.array([0.0, 0.0, -10.0])
    fossa = capsule(p, tuple(hip.cup * 10.0 + low), tuple(hip.cup * 45.0 + 2.2 * low), 9.0)
    bone = torch.maximum(bone, -fossa)
    joint = common(radius - inner - hip.cartilage, rim - 1.0, 2.0)
    canvas.put(joint, "fat", 6, 0.0 * texture)
    canvas.put(bone, "cortex", 2, 0.0 * texture)
    canvas.put(bone + hip.cortex, "marrow", 2, 0.07 * texture)
    lining = torch.maximum(torch.maximum(joint, -fossa), rim + 2.0)
    canvas.put(lining, "acetabular cartilage", 4, 0.03 * texture)
    canvas.put(torch.maximum(radius - inner, rim), "joint", 0, 0.0 * texture)
