"""Known linear maps of a made brain in another contrast: `rigid`, `affine` beside SimpleITK, elastix, greedy; one thread each.

    python -m Testing.bench.linear.run [--poses 4]

Prints one row per kind and engine: mean distance at the corners of the fixed box before and after (median and worst over the
poses) and CPU seconds (median). elastix and greedy take part where itk-elastix and picsl-greedy are installed. All start from the
headers and look for mutual information with 32 bins; what else they do is their own default.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from regsuite.geometry import Grid, Image
from regsuite.io.itk import tensor_to_itk
from regsuite.methods import registry
from regsuite.ops.sampling import resample
from regsuite.phantoms import make_phantom
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation

FLIP = np.diag([-1.0, -1.0, 1.0])
Mapped = np.ndarray  # (8, 3) RAS mm: where a map puts the corners of the fixed box


def pose(kind: str, rng: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    """4x4: up to 12 mm and 0.2 radian about each axis; affine: up to 8 % of stretch and shear too."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.2, 0.2, 3)).as_matrix()
    if kind == "affine":
        matrix[:3, :3] = matrix[:3, :3] @ (np.eye(3) + rng.uniform(-0.08, 0.08, (3, 3)))
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + rng.uniform(-12, 12, 3)
    return matrix


def seen(image: Image, matrix: np.ndarray, rng: np.random.Generator) -> Image:
    """Under the map, on an oblique grid of 1.3 x 1.3 x 3 mm, with the grey values bent and noise."""
    size, affine = np.array([140, 165, 58]), np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.2, 0.2, 3)).as_matrix() * (1.3, 1.3, 3.0)
    affine[:3, 3] = image.grid.centre - affine[:3, :3] @ ((size - 1) / 2.0)
    moved = resample(image, Grid((58, 165, 140), affine), AffineTransform(np.linalg.inv(matrix)), "cubic", fill=0.0)
    bent = 400.0 * torch.sin(moved.data / 820.0 * 2.6)
    return moved.with_data(bent + 8.0 * torch.from_numpy(rng.standard_normal(bent.shape, dtype=np.float32)))


def ours(kind: str, fixed: Image, moving: Image) -> Mapped:
    found = registry.get(kind).load().register(fixed, moving, registry.config_for(kind, "Default"))
    return found.transform.map_points(torch.from_numpy(fixed.grid.corners())).numpy()


def simpleitk(kind: str, fixed: Image, moving: Image) -> Mapped:
    a, b = _itk(fixed), _itk(moving)
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
    start = sitk.Euler3DTransform() if kind == "rigid" else sitk.AffineTransform(3)
    start.SetCenter(a.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in a.GetSize()]))
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(a, b)
    return _through(start, fixed)


def elastix(kind: str, fixed: Image, moving: Image) -> Mapped:
    import itk

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        a, b = (itk.imread(path, itk.F) for path in _written(fixed, moving, Path(folder)))
        parameters = itk.ParameterObject.New()
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(kind, 4))
        method = itk.ElastixRegistrationMethod.New(a, b)
        method.SetParameterObject(parameters)
        method.UpdateLargestPossibleRegion()
        said = method.GetTransformParameterObject().GetParameterMap(0)
    values, centre = ([float(v) for v in said[key]] for key in ("TransformParameters", "CenterOfRotationPoint"))
    transform = sitk.Euler3DTransform() if kind == "rigid" else sitk.AffineTransform(3)
    transform.SetCenter(centre)
    transform.SetParameters(values)
    return _through(transform, fixed)


def greedy(kind: str, fixed: Image, moving: Image) -> Mapped:
    with tempfile.TemporaryDirectory() as folder:
        a, b = _written(fixed, moving, Path(folder))
        out = Path(folder) / "map.mat"
        freedom = 6 if kind == "rigid" else 12
        command = f"-d 3 -threads 1 -a -dof {freedom} -i {a} {b} -m NMI -n 100x50x20 -ia-identity -o {out}"
        program = "import sys; from picsl_greedy import Greedy3D; Greedy3D().execute(sys.argv[1])"
        subprocess.run([sys.executable, "-c", program, command], check=True, capture_output=True)  # it and itk share no process
        matrix = np.loadtxt(out)
    return fixed.grid.corners() @ matrix[:3, :3].T + matrix[:3, 3]


def _itk(image: Image) -> sitk.Image:
    return sitk.Cast(tensor_to_itk(image.data, image.grid), sitk.sitkFloat32)


def _written(fixed: Image, moving: Image, folder: Path) -> list[str]:
    paths = [str(folder / f"{name}.nii.gz") for name in ("fixed", "moving")]
    for path, image in zip(paths, (fixed, moving), strict=True):
        sitk.WriteImage(_itk(image), path)
    return paths


def _through(transform: sitk.Transform, fixed: Image) -> Mapped:
    return np.array([transform.TransformPoint(tuple(FLIP @ p)) for p in fixed.grid.corners()]) @ FLIP


def cpu_s() -> float:
    """Of this process and those it waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def engines() -> dict[str, Callable[[str, Image, Image], Mapped]]:
    """Those that are installed."""
    peers = {"elastix": ("itk", elastix), "greedy NMI": ("picsl_greedy", greedy)}
    found = {name: engine for name, (module, engine) in peers.items() if importlib.util.find_spec(module)}
    return {"regsuite": ours, "SimpleITK Mattes": simpleitk, **found}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=4)
    count = parser.parse_args().poses
    torch.set_num_threads(1)
    fixed = make_phantom("brain-tumour", seed=1, pose=False).moving
    corners = fixed.grid.corners()
    print("| kind | engine | before mm | median after mm | worst after mm | CPU s |\n|---|---|---|---|---|---|")
    for kind in ("rigid", "affine"):
        rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in engines()}
        for number in range(count):
            rng = np.random.default_rng(number)
            matrix = pose(kind, rng, fixed.grid.centre)
            moving = seen(fixed, matrix, rng)
            truth = corners @ matrix[:3, :3].T + matrix[:3, 3]
            for name, engine in engines().items():
                began = cpu_s()
                error = np.linalg.norm(engine(kind, fixed, moving) - truth, axis=1).mean()
                rows[name].append((np.linalg.norm(corners - truth, axis=1).mean(), error, cpu_s() - began))
        for name, values in rows.items():
            before, error, cpu = np.array(values).T
            said = f"{np.median(before):.1f} | {np.median(error):.3f} | {error.max():.3f} | {np.median(cpu):.1f}"
            print(f"| {kind} | {name} | {said} |", flush=True)


if __name__ == "__main__":
    main()
