"""The methods of the comparison, each from the same start: the images as their headers place them."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from regsuite.geometry import Image
from regsuite.geometry.frames import affine_to_itk, flip_world_affine
from regsuite.methods import registry
from regsuite.ops.orientation import gradient_field
from regsuite.progress import Progress
from regsuite.solvers.intake import scaled
from regsuite.solvers.pose_ascent import AscentSettings, ascend
from regsuite.solvers.rotation_search import Pose

from Testing.bench.multimodal.poses import Case, corner_error


def measured(method: str, case: Case) -> dict[str, Any]:
    """Run a method: error_mm of the block's corners, process CPU and wall seconds, what the method says of itself."""
    cpu, wall = time.process_time(), time.perf_counter()
    matrix, said = _ENGINES[method.partition("-")[0]](method, case.fixed, case.moving)
    row: dict[str, Any] = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, "method": method}
    row["error_mm"] = corner_error(matrix, case.truth, case.fixed.grid)
    row["start_mm"] = corner_error(np.eye(4), case.truth, case.fixed.grid)
    row["matrix"] = np.asarray(matrix).tolist()
    row["voxel_mm"] = float(case.fixed.grid.spacing.min())
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in (row | said).items()}


def _csngf(method: str, fixed: Image, moving: Image) -> tuple[np.ndarray, dict[str, Any]]:
    config = registry.config_for("multimodal-csngf", method.partition("-")[2])
    result = registry.get("multimodal-csngf").load().register(fixed, moving, config)
    return result.transform.matrix, {"confidence": result.confidence, "scores": [c.score for c in result.candidates]}


def _local(method: str, fixed: Image, moving: Image) -> tuple[np.ndarray, dict[str, Any]]:
    return (_local_mi if method == "local-mi" else _local_ngf)(fixed, moving), {}


def _local_ngf(fixed: Image, moving: Image) -> np.ndarray:
    """Gradient ascent on squared NGF from the header, five resolutions (15 to 1 mm), no search."""
    pose = Pose(np.eye(4), 0.0)
    images = scaled(fixed, "fixed"), scaled(moving, "moving")
    with torch.no_grad():
        for spacing in (15.0, 9.0, 5.0, 3.0, 1.5):
            a, b = (gradient_field(image, None, spacing, spacing, 1e-3 / spacing) for image in images)
            pose = ascend(a, b, [pose], AscentSettings(16_000, 60, 0.5 * spacing, 0.75), 0, Progress())[0]
    return pose.matrix


def _local_mi(fixed: Image, moving: Image) -> np.ndarray:
    """Mattes mutual information, rigid, four resolutions, regular step gradient descent (SimpleITK), from the header."""
    a, b = _itk(fixed), _itk(moving)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.02, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([8, 4, 2, 1])
    method.SetSmoothingSigmasPerLevel([8.0, 4.0, 2.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(4.0, 0.01, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    start = sitk.Euler3DTransform(a.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in a.GetSize()]), 0.0, 0.0, 0.0)
    method.SetInitialTransform(start, inPlace=True)
    with contextlib.suppress(RuntimeError):  # all samples left the moving image: a failure, counted where it stopped
        method.Execute(a, b)
    origin = np.array(start.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    matrix[:3, :3] = np.stack([np.array(start.TransformPoint(tuple(e))) - origin for e in np.eye(3)], axis=1)
    return flip_world_affine(matrix)


def _itk(image: Image) -> sitk.Image:
    out = sitk.GetImageFromArray(image.data[0].float().numpy())
    origin, spacing, direction = affine_to_itk(image.grid.affine)
    out.SetOrigin(origin)
    out.SetSpacing(spacing)
    out.SetDirection(direction)
    return out


_ENGINES = {"csngf": _csngf, "local": _local}
