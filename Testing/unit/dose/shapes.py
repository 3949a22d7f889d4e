"""Spheres in every form a structure comes in, a linear dose, and the closed form of its DVH."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from regsuite.geometry import Grid, Image

CENTRE = np.array([7.3, -12.1, 4.7])
RADIUS = 20.0
SLOPE, MIDDLE = np.array([0.6, -0.3, 0.5]), 40.0
"""Dose = MIDDLE + SLOPE . (x - CENTRE) Gy."""


def linear_dose(spacing: float = 2.5, reach: float = 45.0) -> Image:
    """On an oblique grid around the sphere; trilinear interpolation reproduces it exactly."""
    angle = np.deg2rad(11.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    size = np.array([38, 40, 36])
    affine = np.eye(4)
    affine[:3, :3] = turn * (np.array([2.5, 2.4, 2.6]) * spacing / 2.5)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((size - 1) / 2)
    grid = Grid((int(size[2]), int(size[1]), int(size[0])), affine)
    points = grid.world_points(torch.float64)
    values = MIDDLE + (points - torch.from_numpy(CENTRE)) @ torch.from_numpy(SLOPE)
    return Image(values.float(), grid)


def sphere_share(dose: np.ndarray) -> np.ndarray:
    """Closed form: share of the sphere that gets at least `dose` in the linear dose (a cap)."""
    s = np.clip((np.asarray(dose) - MIDDLE) / np.linalg.norm(SLOPE) / RADIUS, -1, 1)
    return (1 - s) ** 2 * (2 + s) / 4


def sphere_mesh(bands: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Points (RAS mm) and triangles of a closed sphere whose polyhedron has the volume of the sphere."""
    theta = np.linspace(0, np.pi, bands + 1)[1:-1]
    phi = np.linspace(0, 2 * np.pi, 2 * bands, endpoint=False)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    ring = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], axis=-1).reshape(-1, 3)
    points = np.concatenate([ring, [[0, 0, 1], [0, 0, -1]]])
    n = len(phi)
    a = np.arange(n)
    b = (a + 1) % n
    triangles = [np.stack([np.full(n, len(ring)), a, b], 1)]
    for row in range(len(theta) - 1):
        u, v = row * n, (row + 1) * n
        triangles += [np.stack([u + a, v + a, u + b], 1), np.stack([u + b, v + a, v + b], 1)]
    last = (len(theta) - 1) * n
    triangles.append(np.stack([np.full(n, len(ring) + 1), last + b, last + a], 1))
    faces = np.concatenate(triangles)
    corners = points[faces]
    volume = np.einsum("ni,ni->n", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    return points * (RADIUS * (4 / 3 * np.pi / abs(volume)) ** (1 / 3)) + CENTRE, faces


def sphere_contours(step: float = 1.0, points: int = 360) -> list[np.ndarray]:
    """Circles (n, 3) RAS mm on axial planes."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    out = []
    for z in np.arange(-RADIUS + 0.37 * step, RADIUS, step):
        r = np.sqrt(RADIUS**2 - z**2) * np.sqrt(2 * np.pi / points / np.sin(2 * np.pi / points))
        out.append(CENTRE + np.stack([r * np.cos(angle), r * np.sin(angle), np.full(points, z)], 1))
    return out


def sphere_labels(spacing: float = 1.0, value: int = 1) -> Image:
    """A hard mask, whole voxels."""
    n = int(2 * RADIUS / spacing) + 8
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[:3, 3] = CENTRE + np.array([1, 1, -1]) * spacing * (n - 1) / 2 + 0.31 * spacing
    grid = Grid((n, n, n), affine)
    inside = ((grid.world_points(torch.float64) - torch.from_numpy(CENTRE)).norm(dim=-1) <= RADIUS).to(torch.uint8) * value
    return Image(inside, grid)


def write_stl(path: Path, points: np.ndarray, faces: np.ndarray) -> Path:
    """Binary STL in the coordinates given."""
    record = np.zeros(len(faces), np.dtype([("n", "<f4", 3), ("c", "<f4", (3, 3)), ("a", "<u2")]))
    record["c"] = points[faces]
    path.write_bytes(b"made by a test".ljust(80) + np.uint32(len(faces)).tobytes() + record.tobytes())
    return path


def vtk_polydata(points: np.ndarray, faces: np.ndarray):
    """vtkPolyData of triangles."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

    data, cells, places = vtk.vtkPolyData(), vtk.vtkCellArray(), vtk.vtkPoints()
    places.SetData(numpy_to_vtk(np.ascontiguousarray(points, dtype=np.float64), deep=True))
    flat = np.concatenate([np.full((len(faces), 1), 3), faces], axis=1).astype(np.int64).ravel()
    cells.ImportLegacyFormat(numpy_to_vtkIdTypeArray(flat, deep=True))
    data.SetPoints(places)
    data.SetPolys(cells)
    return data
