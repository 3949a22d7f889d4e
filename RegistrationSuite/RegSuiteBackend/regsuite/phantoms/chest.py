"""The anatomy at inhale: where everything lies inside the pleura. Points (N, 3) float32, RAS mm; distances mm, negative inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from regsuite.phantoms.breathing import Cavity, fissure_level
from regsuite.phantoms.shapes import capsule, common, ellipsoid, merge
from regsuite.phantoms.tubes import Tree, Tubes, grow_tree, join, polyline

INF = float("inf")
HILUM_MM = 40.0


@dataclass(frozen=True)
class Dome:
    """Top of one half of the diaphragm: a paraboloid z = top - r^2 / (2 R), mm."""

    x: float
    y: float
    top: float
    curvature_mm: float

    def height(self, p: torch.Tensor) -> torch.Tensor:
        """(N, 3) -> (N,) z of the dome above or below each point, mm."""
        return self.top - ((p[:, 0] - self.x) ** 2 + (p[:, 1] - self.y) ** 2) / (2.0 * self.curvature_mm)


@dataclass(frozen=True, eq=False)
class Chest:
    """Numbers of one person's anatomy at inhale, and the surfaces they define."""

    cavity: Cavity
    right_dome: Dome
    left_dome: Dome
    apex_mm: float
    heart: tuple[tuple[float, float, float], tuple[float, float, float]]
    mediastinum_mm: float
    liver_left_mm: float

    def diaphragm(self, p: torch.Tensor) -> torch.Tensor:
        """Signed distance to the diaphragm's upper face: positive above it (in the chest)."""
        right, left = self.right_dome.height(p), self.left_dome.height(p)
        height = -merge(-right, -left, 14.0)
        dome_x = torch.where(right > left, self.right_dome.x, self.left_dome.x)
        slope = torch.hypot(p[:, 0] - dome_x, p[:, 1]) / self.right_dome.curvature_mm
        return (p[:, 2] - height) / torch.sqrt(1.0 + slope**2)

    def mediastinum(self, p: torch.Tensor) -> torch.Tensor:
        """Everything between the lungs: spine, great vessels, heart with its fat, hila."""
        w = self.mediastinum_mm
        back = self.cavity.back(p[:, 2])
        q = torch.stack([p[:, 0], p[:, 1] - back, p[:, 2]], dim=1)
        out = ellipsoid(q, (0, 20, 0), (22, 19, INF))
        out = merge(out, ellipsoid(q, (-21, 33, 0), (14, 14, INF)))
        out = merge(out, ellipsoid(p, (0, -8, 30), (w, 48, 190)))
        out = merge(out, ellipsoid(p, (0, 6, 120), (w + 16, 36, 75)), 14.0)
        out = merge(out, ellipsoid(p, (-9, -2, 72), (w + 6, 40, 17)), 10.0)
        for side in (-1, 1):
            out = merge(out, ellipsoid(p, (side * 28, -12, 10), (17, 15, 24)), 10.0)
        out = merge(out, capsule(p, (24, -2, -110), (22, -2, -60), 13.0), 12.0)
        out = merge(out, self.heart_surface(p) - 5.0, 10.0)
        return torch.minimum(out, p[:, 0].abs() - 2.5)

    def heart_surface(self, p: torch.Tensor) -> torch.Tensor:
        """The heart: an egg tilted to the left and to the front, with the right atrium and the ventricles' outflow."""
        centre, radii = self.heart
        q = p - torch.tensor(centre)
        long_axis = 0.82 * -q[:, 0] + 0.5 * q[:, 1] - 0.28 * q[:, 2]
        across = 0.5 * q[:, 0] + 0.86 * q[:, 1] + 0.05 * q[:, 2]
        up = 0.27 * -q[:, 0] + 0.1 * q[:, 1] + 0.96 * q[:, 2]
        egg = ellipsoid(torch.stack([long_axis, across, up], dim=1), (0, 0, 0), radii)
        atrium = ellipsoid(q, (30, -8, 8), (24, 26, 32))
        outflow = ellipsoid(q, (4, 4, 34), (26, 22, 26))
        left_atrium = ellipsoid(q, (8, -32, 16), (32, 16, 20))
        return merge(merge(merge(egg, atrium, 10.0), outflow, 14.0), left_atrium, 8.0)

    def lungs(self, p: torch.Tensor) -> torch.Tensor:
        """Both lungs; the right one has x > 0."""
        side = torch.where(p[:, 0] > 0, 1.0, -1.0)
        apex = self.apex_mm - ((p[:, 0] - side * 42) ** 2 + (p[:, 1] + 22) ** 2) / 96.0
        apex = (p[:, 2] - apex) / torch.sqrt(1 + ((p[:, 0] - side * 42) ** 2 + (p[:, 1] + 22) ** 2) / 48.0**2)
        out = common(-self.mediastinum(p), -self.diaphragm(p), 5.0)
        return common(common(out, apex, 14.0), self.cavity.distance(p) + 0.8, 3.0)

    def liver(self, p: torch.Tensor) -> torch.Tensor:
        """The liver under the right half of the diaphragm; its left lobe tapers in front of the stomach."""
        left = (-(p[:, 0] + self.liver_left_mm) - 0.6 * (p[:, 2] - self.right_dome.top)) / 1.17
        back = (-34.0 - 0.6 * p[:, 0] - p[:, 1]) / 1.17
        out = common(self.diaphragm(p) + 4.0, self.cavity.distance(p) + 5.0)
        return common(common(out, left, 16.0), back, 16.0)

    def stomach(self, p: torch.Tensor) -> torch.Tensor:
        """The stomach under the left half of the diaphragm."""
        top = self.left_dome.top
        body = ellipsoid(p, (-50, 10, top - 42), (40, 44, 40))
        return common(common(body, self.diaphragm(p) + 6.0), self.cavity.distance(p) + 8.0)

    def spleen(self, p: torch.Tensor) -> torch.Tensor:
        """The spleen, left and behind."""
        body = ellipsoid(p, (-82, -42, self.left_dome.top - 46), (27, 38, 46))
        return common(common(body, self.diaphragm(p) + 5.0), self.cavity.distance(p) + 5.0)

    def fissures(self, p: torch.Tensor) -> torch.Tensor:
        """Unsigned distance to the nearest fissure."""
        bend = 5.0 * torch.sin(p[:, 0] / 33.0 + 0.5) + 3.0 * torch.sin(p[:, 1] / 24.0) + 5.0 * torch.tanh(p[:, 0] / 20.0)
        oblique = fissure_level(p + torch.tensor([0.0, 0.0, 10.0])) + bend
        horizontal = torch.hypot(p[:, 2] - 26.0 + 0.15 * p[:, 1] + bend, (-oblique).clamp(min=0.0) + (-p[:, 0]).clamp(min=0.0))
        return torch.minimum(oblique.abs(), horizontal)


@dataclass(frozen=True, eq=False)
class Plumbing:
    """Everything tubular inside the pleura, and the branchings of its vessels."""

    blood: Tubes
    airway: Tubes
    hepatic: Tubes
    branchings: np.ndarray


def random_chest(rng: np.random.Generator) -> Chest:
    """One person's chest."""
    u = rng.uniform
    cavity = Cavity(width_mm=u(110, 119), depth_mm=u(76, 82))
    right = Dome(x=u(56, 64), y=u(-6, 4), top=u(-56, -46), curvature_mm=u(62, 74))
    left = Dome(x=u(-68, -58), y=u(-6, 4), top=right.top - u(8, 16), curvature_mm=right.curvature_mm)
    heart = ((u(-22, -14), u(16, 22), right.top + u(4, 10)), (u(54, 62), u(38, 44), u(38, 44)))
    return Chest(cavity, right, left, u(122, 128), heart, u(19, 23), u(50, 70))


def cloud_in(distance, rng: np.random.Generator, count: int, box: np.ndarray, margin_mm: float) -> np.ndarray:
    """`count` points, uniform where distance(p) < -margin inside box ((3, 2) mm). distance: (N, 3) float32 tensor -> (N,)."""
    found: list[np.ndarray] = []
    while sum(map(len, found)) < count:
        p = rng.uniform(box[:, 0], box[:, 1], (4 * count, 3))
        found.append(p[(distance(torch.from_numpy(p).float()) < -margin_mm).numpy()])
    return np.concatenate(found)[:count]


def random_plumbing(chest: Chest, rng: np.random.Generator) -> Plumbing:
    """Arteries, veins and airways that fill both lungs, the great vessels, and the liver's vessels."""
    blood, airway, branchings = [great_vessels(chest)], [_trachea()], []
    for side in (1.0, -1.0):
        box = np.array([[2.0, 125.0], [-95.0, 90.0], [-135.0, 130.0]])
        box[0] = np.sort(side * box[0])
        stems = {
            "artery": np.array([[-10, 22, 22], [side * 18, -2, 26], [side * HILUM_MM, -14, 22]], dtype=np.float64),
            "vein": np.array([[-4, -16, -14], [side * 24, -14, -8], [side * HILUM_MM, -8, -4]], dtype=np.float64),
            "airway": np.array([[1, -20, 52], [side * 22, -20, 30], [side * HILUM_MM, -22, 14]], dtype=np.float64),
        }
        for kind, stem in stems.items():
            cloud = cloud_in(chest.lungs, rng, 2500 if kind == "airway" else 7000, box, 2.5)
            if kind == "airway":
                tree = grow_tree(cloud, stem, rng, leaf_points=20, leaf_radius_mm=0.72)
                branches = tree.tubes(shortest_radius_mm=1.05)
                airway.append(branches.where((chest.heart_surface(torch.from_numpy(branches.centre).float()) > 3.0).numpy()))
            else:
                tree = grow_tree(cloud, stem, rng, leaf_points=8, leaf_radius_mm=0.78, exponent=3.0)
                blood.append(tree.tubes())
                branchings.append(_clear_branchings(tree, chest))
    return Plumbing(join(blood), join(airway), _hepatic(chest, rng), np.concatenate(branchings))


def _clear_branchings(tree: Tree, chest: Chest) -> np.ndarray:
    """(N, 3) mm: nodes that a reader could point at: real branches, wide enough to see, well inside a lung."""
    length = np.linalg.norm(tree.position - tree.position[tree.parent], axis=1)
    shortest = np.full(len(tree.parent), np.inf)
    np.minimum.at(shortest, tree.parent[1:], length[1:])
    good = (tree.children == 2) & (tree.radius > 1.15) & (tree.radius < 3.5) & (shortest > 4.0) & (length > 4.0)
    nodes = tree.position[good]
    return nodes[(chest.lungs(torch.from_numpy(nodes).float()) < -4.0).numpy()]


def great_vessels(chest: Chest) -> Tubes:
    """Aorta, pulmonary trunk, caval veins and the arch's branches."""
    back = float(chest.cavity.back(torch.tensor(0.0)))
    z = chest.heart[0][2]
    lines = [
        ([(-4, 20, z + 30), (8, 24, 40), (6, 18, 62), (-6, 2, 74), (-18, -22, 68), (-22, back + 33, 45)], 14.0),
        ([(-22, back + 33, 48), (-22, back + 33, 0), (-18, back + 34, -60), (-8, back + 38, -160)], 11.5),
        ([(-10, 30, z + 30), (-14, 22, 22), (-8, 4, 30)], 12.0),
        ([(24, 10, z + 20), (25, 12, 40), (24, 14, 95), (14, 16, 110)], 9.0),
        ([(24, -2, -115), (22, -2, z - 18)], 11.0),
        ([(24, 14, 92), (0, 26, 84), (-30, 20, 108)], 6.5),
        ([(4, 14, 76), (12, 4, 150)], 6.0),
        ([(-6, 4, 80), (-14, -2, 150)], 4.5),
        ([(-14, -10, 76), (-28, -14, 150)], 5.0),
    ]
    return join([polyline(np.array(points, dtype=np.float64), radius, 2.0) for points, radius in lines])


def _trachea() -> Tubes:
    return polyline(np.array([[1.0, -6.0, 160.0], [2.0, -12.0, 110.0], [1.0, -20.0, 50.0]]), 8.5, 2.0)


def _hepatic(chest: Chest, rng: np.random.Generator) -> Tubes:
    """Vessels of the liver (darker than its tissue without contrast agent)."""
    box = np.array([[-60.0, 115.0], [-85.0, 80.0], [-170.0, chest.right_dome.top]])
    trees = []
    for stem in ([(22.0, -6.0, -88.0), (30.0, -4.0, -80.0)], [(10.0, 0.0, -155.0), (25.0, 4.0, -140.0)]):
        cloud = cloud_in(chest.liver, rng, 1500, box, 5.0)
        trees.append(grow_tree(cloud, np.array(stem), rng, leaf_points=24, leaf_radius_mm=1.0).tubes(1.2, 2.0))
    return join(trees)
