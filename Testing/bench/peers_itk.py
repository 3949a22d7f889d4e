"""Peers on ITK or with binaries of their own: greedy, ANTs, elastix, SimpleITK, plastimatch. See `peers.py`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from peers import THREADS

Mask = sitk.Image | None


def sitk_field(transform: sitk.Transform, fixed: sitk.Image) -> sitk.Image:
    """Displacements of a SimpleITK transform on the fixed grid."""
    grid = fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
    return sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, *grid)


def write_pair(folder: str, fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> dict[str, str]:
    """The images as .mha files, for tools that want files."""
    images = {"fixed": fixed, "moving": moving} | ({} if mask is None else {"mask": mask})
    paths = {key: str(Path(folder) / f"{key}.mha") for key in images}
    for key, image in images.items():
        sitk.WriteImage(image, paths[key])
    return paths


def greedy_ncc(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """picsl-greedy with neighbourhood cross-correlation."""
    from picsl_greedy import Greedy3D

    with tempfile.TemporaryDirectory() as folder:
        paths = write_pair(folder, fixed, moving, mask)
        warp = str(Path(folder) / "warp.mha")
        command = f"-d 3 -threads {THREADS} -i {paths['fixed']} {paths['moving']} -m NCC 2x2x2 -n 100x50x20 -o {warp}"
        Greedy3D().execute(command + (f" -gm {paths['mask']}" if mask is not None else ""))
        return sitk.ReadImage(warp)


def ants_syn(fixed: sitk.Image, moving: sitk.Image, mask: Mask, **settings: object) -> sitk.Image:
    """ANTs SyN without its affine stages, from the identity: every method starts from the same place."""
    import ants

    with tempfile.TemporaryDirectory() as folder:
        paths = write_pair(folder, fixed, moving, mask)
        images = {key: ants.image_read(path) for key, path in paths.items()}
        prefix = str(Path(folder) / "ants_")
        result = ants.registration(
            images["fixed"], images["moving"], "SyNOnly",
            initial_transform="Identity", outprefix=prefix, mask=images.get("mask"), **settings,
        )  # fmt: skip
        (warp,) = [path for path in result["fwdtransforms"] if path.endswith("Warp.nii.gz")]
        return sitk.ReadImage(warp)


def ants_syn_mi(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """The antspyx default: mutual information, 40x20x0."""
    return ants_syn(fixed, moving, mask)


def ants_syn_cc(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """Cross-correlation of radius 2 with ten iterations at full resolution."""
    return ants_syn(fixed, moving, mask, syn_metric="CC", syn_sampling=2, reg_iterations=(40, 20, 10))


def elastix_bspline(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """The default B-spline map of elastix with a 10 mm final grid."""
    import itk

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(THREADS)  # elastix' own SetNumberOfThreads crashes it
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pair(folder, fixed, moving, mask)
        images = {key: itk.imread(path, itk.F) for key, path in paths.items() if key != "mask"}
        parameters = itk.ParameterObject.New()
        parameters.AddParameterMap(parameters.GetDefaultParameterMap("bspline", 4, 10.0))
        method = itk.ElastixRegistrationMethod.New(images["fixed"], images["moving"])
        method.SetParameterObject(parameters)
        if mask is not None:
            method.SetFixedMask(itk.imread(paths["mask"], itk.UC))
        method.UpdateLargestPossibleRegion()
        warp = itk.TransformixFilter.New(images["moving"])
        warp.SetTransformParameterObject(method.GetTransformParameterObject())
        warp.ComputeDeformationFieldOn()
        warp.UpdateLargestPossibleRegion()
        array = itk.array_from_image(warp.GetOutputDeformationField())
    field = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=np.float32), isVector=True)
    field.CopyInformation(fixed)
    return field


def diffeomorphic_demons(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """SimpleITK diffeomorphic demons over shrink factors 4, 2, 1, after histogram matching."""
    matched = sitk.HistogramMatching(moving, fixed, 1024, 7, True)
    field: sitk.Image | None = None
    for shrink, iterations in ((4, 50), (2, 50), (1, 30)):
        pair = []
        for image in (fixed, matched):
            factors = [min(shrink, max(1, round(shrink * min(image.GetSpacing()) / s))) for s in image.GetSpacing()]
            sigmas = [0.5 * n * s if n > 1 else 1e-3 * s for n, s in zip(factors, image.GetSpacing(), strict=True)]
            pair.append(sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, sigmas), factors) if shrink > 1 else image)
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetStandardDeviations(1.5)
        start = None if field is None else sitk.Resample(sitk.Cast(field, sitk.sitkVectorFloat64), pair[0])
        moved = sitk.Resample(pair[1], pair[0])  # demons wants both on one grid
        field = demons.Execute(pair[0], moved) if start is None else demons.Execute(pair[0], moved, start)
    assert field is not None
    return field


def sitk_bspline(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """SimpleITK B-spline, control points 48, 24 then 12 mm apart, Mattes mutual information on 10 % of the voxels."""
    extent = np.asarray(fixed.GetSize()) * np.asarray(fixed.GetSpacing())
    start = sitk.BSplineTransformInitializer(fixed, [max(1, round(e / 48.0)) for e in extent], order=3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, 0)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGS2(1e-5, 60, deltaConvergenceTolerance=1e-5)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 0])
    method.SetInitialTransformAsBSpline(start, inPlace=True, scaleFactors=[1, 2, 4])
    if mask is not None:
        method.SetMetricFixedMask(mask)
    return sitk_field(method.Execute(fixed, moving), fixed)


def plastimatch(fixed: sitk.Image, moving: sitk.Image, mask: Mask, stages: list[str]) -> sitk.Image:
    """plastimatch with a command file of the given stages."""
    import os

    program = Path(sys.executable).with_name("plastimatch")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pair(folder, fixed, moving, mask)
        warp = Path(folder) / "warp.mha"
        head = ["[GLOBAL]", f"fixed={paths['fixed']}", f"moving={paths['moving']}", f"vf_out={warp}"]
        head += [f"fixed_roi={paths['mask']}"] if mask is not None else []
        command = Path(folder) / "command.txt"
        command.write_text("\n".join(head + ["[STAGE]\n" + stage for stage in stages]) + "\n")
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        subprocess.run([str(program), "register", str(command)], check=True, env=environment, stdout=sys.stderr)
        return sitk.ReadImage(str(warp))


def plastimatch_bspline(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """B-spline with mean squares, 50 iterations at 60, 30 and 15 mm."""
    first = "xform=bspline\nimpl=plastimatch\nthreading=openmp\nmetric=mse\nregularization_lambda=0.005\nmax_its=50\n"
    levels = [(60, "4 4 2"), (30, "2 2 1"), (15, "1 1 1")]
    return plastimatch(fixed, moving, mask, [f"{first}grid_spac={mm} {mm} {mm}\nres={res}" for mm, res in levels])


def plastimatch_demons(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """Demons with the values of the manual, 50 iterations on three levels."""
    first = "xform=vf\noptim=demons\nimpl=plastimatch\nthreading=openmp\nmax_its=50\n"
    return plastimatch(fixed, moving, mask, [f"{first}res={res}" for res in ("4 4 2", "2 2 1", "1 1 1")])
