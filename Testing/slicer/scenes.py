"""Small oblique, anisotropic, offset test objects in the scene of the headless Slicer."""
from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

SHAPE_KJI = (20, 40, 60)
GRID_SHAPE_KJI = (6, 9, 12)
GRID_GEOMETRY = ((9.0, 7.0, 13.0), (45.0, 30.0, -105.0))    # spacing and origin, mm


def oblique_affine(spacing: tuple[float, float, float] = (1.5, 1.25, 3.0),
                   origin: tuple[float, float, float] = (40.0, 25.0, -100.0)) -> np.ndarray:
    """4x4 float64 (i, j, k, 1) -> RAS mm: axes rotated by 0.3 rad about S and 0.2 rad about R, none along an axis."""
    c, s, c2, s2 = np.cos(0.3), np.sin(0.3), np.cos(0.2), np.sin(0.2)
    about_s = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    about_r = np.array([[1.0, 0, 0], [0, c2, -s2], [0, s2, c2]])
    affine = np.eye(4)
    affine[:3, :3] = about_s @ about_r @ np.diag([-1.0, -1.0, 1.0]) @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def add_volume(name: str = "Bump", centre_ijk: tuple[float, float, float] = (28.0, 21.0, 9.0)) -> Any:
    """A scalar volume, float32, shape SHAPE_KJI: an ellipsoid with a bright core."""
    k, j, i = np.mgrid[:SHAPE_KJI[0], :SHAPE_KJI[1], :SHAPE_KJI[2]]
    r2 = (i - centre_ijk[0]) ** 2 / 400 + (j - centre_ijk[1]) ** 2 / 180 + (k - centre_ijk[2]) ** 2 / 40
    values = np.where(r2 < 1, 60 + 100 * np.exp(-6 * r2) + 15 * np.sin(i / 2.0), 0).astype(np.float32)
    return slicer.util.addVolumeFromArray(values, oblique_affine(), name)


def add_grid_transform(name: str = "Grid", amplitude_mm: float = 8.0) -> Any:
    """A transform node whose from-parent grid is oblique, with displacements of unequal size along R, A and S (mm)."""
    affine = oblique_affine(*GRID_GEOMETRY)
    k, j, i = np.mgrid[:GRID_SHAPE_KJI[0], :GRID_SHAPE_KJI[1], :GRID_SHAPE_KJI[2]]
    bump = np.exp(-((i - 5) ** 2 / 6 + (j - 4) ** 2 / 5 + (k - 2) ** 2 / 4))
    field = (amplitude_mm * np.stack([bump, -0.5 * bump, 0.25 * bump], axis=-1)).astype(np.float64)
    image = vtk.vtkImageData()
    image.SetDimensions(*GRID_SHAPE_KJI[::-1])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(*spacing)
    image.SetOrigin(*affine[:3, 3])
    scalars = vtk.util.numpy_support.numpy_to_vtk(field.reshape(-1, 3), deep=True)
    image.GetPointData().SetScalars(scalars)
    direction = np.eye(4)
    direction[:3, :3] = affine[:3, :3] / spacing
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(image)
    transform.SetGridDirectionMatrix(slicer.util.vtkMatrixFromArray(direction))
    transform.SetInterpolationModeToCubic()     # what Slicer sets on grids that it reads
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetAndObserveTransformFromParent(transform)
    return node


def map_from_parent(node: Any, points_ras: np.ndarray) -> np.ndarray:
    """(N, 3) RAS mm -> (N, 3) RAS mm through the node's transform from parent."""
    transform = node.GetTransformFromParent()
    return np.array([transform.TransformPoint(*point) for point in points_ras])


def grid_nodes() -> np.ndarray:
    """(N, 3) RAS mm, inner nodes of the grid of add_grid_transform; there every interpolation gives the same value."""
    affine = oblique_affine(*GRID_GEOMETRY)
    ijk = np.array([[4, 3, 2], [5, 4, 2], [6, 4, 3], [7, 5, 2]], float)
    return ijk @ affine[:3, :3].T + affine[:3, 3]


def points_inside(count: int = 20, seed: int = 3) -> np.ndarray:
    """(count, 3) RAS mm, random points inside the volume of add_volume and the grid of add_grid_transform."""
    ijk = np.random.default_rng(seed).uniform([10, 8, 4], [45, 32, 15], (count, 3))
    affine = oblique_affine()
    return ijk @ affine[:3, :3].T + affine[:3, 3]


def add_segmentation(volume: Any, name: str = "Structures") -> Any:
    """A segmentation of two segments, "Core" (bright) and "Body", on the volume's grid."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    values = slicer.util.arrayFromVolume(volume)
    for segment, threshold, colour in (("Body", 1.0, (0.1, 0.8, 0.3)), ("Core", 120.0, (0.9, 0.3, 0.1))):
        segment_id = node.GetSegmentation().AddEmptySegment(segment, segment, colour)
        inside = (values > threshold).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(inside, node, segment_id, volume)
    return node


def add_markups(name: str = "Landmarks") -> Any:
    """Three control points at unequal places, RAS mm."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    slicer.util.updateMarkupsControlPointsFromArray(node, points_inside(3, seed=7))
    node.CreateDefaultDisplayNodes()
    return node


def add_table(name: str = "Verdict") -> Any:
    """Two columns, "dose_gy" and "volume_percent", 36 rows: a falling curve."""
    dose = np.linspace(0, 70, 36)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    slicer.util.updateTableFromArray(node, np.column_stack([dose, 100 / (1 + np.exp((dose - 45) / 4))]),
                                     ["dose_gy", "volume_percent"])
    return node
