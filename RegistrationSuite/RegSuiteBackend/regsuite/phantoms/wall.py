"""The chest wall at inhale: skin, fat, muscle, ribs, sternum, shoulder blades, and the spine. Points (N, 3) float32, RAS mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from regsuite.phantoms.breathing import POWER, Cavity, level
from regsuite.phantoms.shapes import capsule, common, cover, ellipsoid, merge, paint
from regsuite.phantoms.tubes import Tubes, join, polyline

VERTEBRA_MM = 25.0
RIB_OUT_MM = 7.5


@dataclass(frozen=True, eq=False)
class Wall:
    """Numbers of the wall and the surfaces they define."""

    cavity: Cavity
    side_mm: float
    front_mm: float
    fat_mm: float
    vertebra_phase_mm: float

    def skin(self, p: torch.Tensor) -> torch.Tensor:
        """Signed distance to the skin (to first order, in the axial plane)."""
        z = p[:, 2]
        half_width = self.cavity.width_mm + self.side_mm - 6.0 * torch.sigmoid((z - 120.0) / 20.0)
        front = self.cavity.back_mm + 2.0 * self.cavity.depth_mm + self.front_mm - 20.0 * torch.sigmoid((z - 100.0) / 22.0)
        back = self.cavity.back(z) - 45.0
        half_depth, centre = (front - back) / 2.0, (front + back) / 2.0
        x, y = (p[:, 0] / half_width).abs(), ((p[:, 1] - centre) / half_depth).abs()
        q = level(x, y).clamp(min=1e-6) ** (1 / POWER)
        x, y = x / q, y / q
        slope = torch.hypot(x * x.sqrt() / half_width, y * y.sqrt() / half_depth)
        furrow = 3.5 * torch.exp(-((p[:, 0] / 14.0) ** 2)) * (p[:, 1] < centre)  # the back's midline
        return (q - 1.0) / slope + furrow

    def muscle(self, p: torch.Tensor) -> torch.Tensor:
        """Muscle under the subcutaneous fat, which is thicker at the flanks and thin over the spine."""
        thick = self.fat_mm * (1.0 + 0.35 * torch.sin(p[:, 2] / 40.0 + 1.0) + 0.4 * (p[:, 0].abs() / 120.0) ** 2)
        return common(self.skin(p) + thick, self.cavity.distance(p) - 34.0 - 25.0 * torch.sigmoid((p[:, 2] - 40.0) / 25.0), 10.0)

    def fat_planes(self, p: torch.Tensor) -> torch.Tensor:
        """0..1: thin sheets of fat between the layers of muscle around the ribs."""
        depth = self.cavity.distance(p)
        first = (depth - 17.0 - 3.0 * torch.sin(p[:, 2] / 17.0 + p[:, 0] / 31.0)) / 1.6
        second = (depth - 29.0 - 5.0 * torch.sin(p[:, 0] / 19.0 + 1.0) - 3.0 * torch.sin(p[:, 2] / 23.0)) / 1.8
        return torch.exp(-(first**2)) + torch.exp(-(second**2))

    def sternum(self, p: torch.Tensor) -> torch.Tensor:
        """The breast bone in front of the pleura."""
        _, b, c = self.cavity.axes(p[:, 2])
        y = p[:, 1] - c - b - 9.0
        plate = common(p[:, 0].abs() - 13.0 - 8.0 * torch.sigmoid((p[:, 2] - 70.0) / 8.0), y.abs() - 5.5, 5.0)
        return common(plate, (p[:, 2] - 35.0).abs() - 62.0, 6.0)

    def blades(self, p: torch.Tensor) -> torch.Tensor:
        """The shoulder blades: thin, curved plates with a spine, arms raised."""
        m = torch.stack([p[:, 0].abs(), p[:, 1], p[:, 2]], dim=1)
        q = m - torch.tensor([103.0, -78.0, 90.0])
        normal = 0.62 * q[:, 0] - 0.78 * q[:, 1] + 0.004 * q[:, 1] ** 2
        along = 0.78 * q[:, 0] + 0.62 * q[:, 1]
        plate = ellipsoid(torch.stack([normal, along, q[:, 2]], dim=1), (0, 0, 0), (3.6, 38, 62))
        return merge(plate, capsule(m, (88, -94, 108), (128, -78, 122), 5.0), 4.0)

    def spine(self, p: torch.Tensor, hu: torch.Tensor, blur_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Paint the spine over `hu` (N,): returns the new values and the bones' share (N,)."""
        share = torch.zeros_like(hu)
        back = self.cavity.back(p[:, 2])
        near = torch.nonzero((p[:, 0].abs() < 46.0) & (p[:, 1] < back + 42.0) & (p[:, 1] > back - 48.0))[:, 0]
        if not len(near):
            return hu, share
        q = torch.stack([p[near, 0].abs(), p[near, 1] - back[near], p[near, 2]], dim=1)
        z = torch.remainder(q[:, 2] + self.vertebra_phase_mm, VERTEBRA_MM) - VERTEBRA_MM / 2.0
        waist = 1.6 * torch.cos(z * (2 * np.pi / VERTEBRA_MM))
        column = ellipsoid(q, (0, 20, 0), (18, 14, float("inf")))
        body = common(column + waist, z.abs() - 9.8, 2.0)
        arch = self._arch(q, z)
        bone = torch.minimum(body, arch)
        out = paint(hu[near], 75.0, cover(common(column + 1.5, 9.0 - z.abs(), 1.0), blur_mm))
        out = paint(out, 480.0, cover(bone, blur_mm))
        out = paint(out, 190.0, cover(body + 1.8, blur_mm))
        out = paint(out, 20.0, cover(ellipsoid(q, (0, -2, 0), (8.5, 7.5, float("inf"))), blur_mm))
        share[near] = cover(bone, blur_mm)
        return hu.index_copy(0, near, out), share

    def _arch(self, q: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Lamina, pedicles, transverse and spinous processes of every vertebra; q has |x|, y from the back wall."""
        ring = (torch.hypot(q[:, 0], (q[:, 1] + 2.0) * 1.1) - 10.5).abs() - 2.2
        ring = common(ring, z.abs() - 8.5, 3.0)
        w = torch.stack([q[:, 0], q[:, 1], z], dim=1)
        transverse = capsule(w, (10, -6, 1), (34, -15, 4), 4.6)
        tilted = torch.stack([q[:, 0], q[:, 1], z - 0.35 * (q[:, 1] + 14.0)], dim=1)
        spinous = ellipsoid(tilted, (0, -23, 0), (3.2, 13, 7))
        return torch.minimum(torch.minimum(ring, transverse), spinous)


def random_wall(cavity: Cavity, rng: np.random.Generator) -> Wall:
    """One person's wall around the pleura of inhale."""
    u = rng.uniform
    return Wall(cavity, u(28, 34), u(24, 29), u(9, 17), u(0, VERTEBRA_MM))


def ribs(wall: Wall, rng: np.random.Generator) -> tuple[Tubes, Tubes]:
    """Bone of eleven pairs of ribs and the collar bones; the cartilage from the ribs' ends to the breast bone."""
    bone, cartilage = [], []
    top = 139.0 + rng.uniform(-4, 4)
    for number in range(11):
        end = np.deg2rad(np.interp(number, [0, 6, 10], [58.0, 44.0, 5.0]))
        drop = np.interp(number, [0, 3, 8, 10], [28.0, 48.0, 66.0, 58.0])
        angle = np.linspace(np.deg2rad(-85.0), end, 60)
        share = (angle - angle[0]) / np.deg2rad(140.0)
        height = top - 25.5 * number - drop * share**1.15
        line = _outside(wall.cavity, angle, height)
        for side in (1.0, -1.0):
            mirrored = line * [side, 1.0, 1.0]
            for shift in (-2.0, 2.0):  # two tubes, one above the other: a rib is taller than thick
                bone.append(polyline(mirrored + np.array([0.0, 0.0, shift]), 4.3 if number else 5.0, 1.8))
            if number < 9:
                meet = np.array([side * 19.0, 0.0, max(line[-1, 2] + 4.0 + 5.0 * number, -14.0)])
                meet[1] = _front(wall.cavity, meet[2]) + 8.0
                cartilage.append(polyline(np.linspace(mirrored[-1], meet, 12), 5.0, 2.0))
    for side in (1.0, -1.0):
        collar = np.array([[18, 52, 102], [50, 50, 116], [90, 20, 132], [125, -10, 142]]) * [side, 1, 1]
        bone.append(polyline(collar.astype(np.float64), 6.0, 1.8))
    return join(bone), join(cartilage)


def _outside(cavity: Cavity, angle: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(N, 3) points RIB_OUT_MM outside the pleura at these angles (0 = right side, 90 degrees = front) and heights z."""
    a, b, c = (v.numpy() for v in cavity.axes(torch.from_numpy(height)))
    x = np.abs(np.cos(angle)) ** (2 / POWER)
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / POWER)
    normal = np.stack([np.abs(x) ** (POWER - 1) / a, np.sign(y) * np.abs(y) ** (POWER - 1) / b], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return np.stack([a * x + RIB_OUT_MM * normal[:, 0], c + b * y + RIB_OUT_MM * normal[:, 1], height], axis=1)


def _front(cavity: Cavity, z: float) -> float:
    _, b, c = cavity.axes(torch.tensor(z, dtype=torch.float64))
    return float(b + c)
