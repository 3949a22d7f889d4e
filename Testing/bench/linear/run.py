"""Known rigid poses of a made brain in another contrast: `rigid` beside SimpleITK's Mattes mutual information, one thread each.

    python -m Testing.bench.linear.run [--poses 4]

Prints one row per pose and engine: mean distance at the corners of the fixed box before and after, CPU seconds.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import SimpleITK as sitk
import torch
from regsuite.geometry import Grid, Image
from regsuite.io.itk import tensor_to_itk
from regsuite.ops.sampling import resample
from regsuite.phantoms import make_phantom
from regsuite.solvers.linear import align
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation


def pose(rng: np.random.Generator) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.2, 0.2, 3)).as_matrix()
    matrix[:3, 3] = rng.uniform(-12, 12, 3)
    return matrix


def seen(image: Image, matrix: np.ndarray, rng: np.random.Generator) -> Image:
    """After the pose, on an oblique grid of 1.3 x 1.3 x 3 mm, with the grey values bent and noise."""
    size, affine = np.array([140, 165, 58]), np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.2, 0.2, 3)).as_matrix() * (1.3, 1.3, 3.0)
    affine[:3, 3] = image.grid.centre - affine[:3, :3] @ ((size - 1) / 2.0)
    moved = resample(image, Grid((58, 165, 140), affine), AffineTransform(np.linalg.inv(matrix)), "cubic", fill=0.0)
    bent = 400.0 * torch.sin(moved.data / 820.0 * 2.6)
    return moved.with_data(bent + 8.0 * torch.from_numpy(rng.standard_normal(bent.shape, dtype=np.float32)))


def simpleitk(fixed: Image, moving: Image) -> np.ndarray:
    a, b = (sitk.Cast(tensor_to_itk(image.data, image.grid), sitk.sitkFloat32) for image in (fixed, moving))
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    start = sitk.Euler3DTransform(a.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in a.GetSize()]), 0.0, 0.0, 0.0)
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(a, b)
    flip = np.diag([-1.0, -1.0, 1.0])
    corners = fixed.grid.corners()
    return np.array([start.TransformPoint(tuple(flip @ p)) for p in corners]) @ flip


def ours(fixed: Image, moving: Image) -> np.ndarray:
    return AffineTransform(align(fixed, moving).matrix).map_points(torch.from_numpy(fixed.grid.corners())).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--poses", type=int, default=4)
    count = parser.parse_args().poses
    torch.set_num_threads(1)
    fixed = make_phantom("brain-tumour", seed=1, pose=False).moving
    print("| pose | engine | before mm | after mm | CPU s |\n|---|---|---|---|---|")
    for number in range(count):
        rng = np.random.default_rng(number)
        matrix = pose(rng)
        moving = seen(fixed, matrix, rng)
        corners = fixed.grid.corners()
        truth = AffineTransform(matrix).map_points(torch.from_numpy(corners)).numpy()
        before = np.linalg.norm(corners - truth, axis=1).mean()
        for name, engine in (("regsuite rigid", ours), ("SimpleITK Mattes", simpleitk)):
            began = time.process_time()
            error = np.linalg.norm(engine(fixed, moving) - truth, axis=1).mean()
            print(f"| {number} | {name} | {before:.1f} | {error:.3f} | {time.process_time() - began:.1f} |", flush=True)


if __name__ == "__main__":
    main()
