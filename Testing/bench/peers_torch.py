"""Peers in torch: convexAdam, a MONAI script, FireANTs. See `peers.py`. All on the CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from peers import THREADS
from torch.nn import functional as F

Mask = sitk.Image | None
torch.set_num_threads(THREADS)


def tensor(image: sitk.Image) -> torch.Tensor:
    """Image as (1, 1, k, j, i)."""
    return torch.from_numpy(sitk.GetArrayFromImage(image).astype(np.float32))[None, None]


def voxel_field(kji: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """Voxel displacements (3, k, j, i), components along k, j, i, as LPS mm on the grid they were found on."""
    matrix = np.asarray(grid.GetDirection()).reshape(3, 3) * np.asarray(grid.GetSpacing())
    world = np.moveaxis(kji[::-1], 0, -1) @ matrix.T
    field = sitk.GetImageFromArray(np.ascontiguousarray(world, dtype=np.float32), isVector=True)
    field.CopyInformation(grid)
    return field


def isotropic(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """The image resampled over its own box."""
    size = [int(np.ceil(n * s / spacing_mm)) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    transform = sitk.Transform()
    return sitk.Resample(image, size, transform, sitk.sitkLinear, image.GetOrigin(), [spacing_mm] * 3, image.GetDirection(), 0.0)


def is_thick(image: sitk.Image) -> bool:
    """Slices more than twice as thick as the pixels: such pairs go to 2 mm voxels for methods that count in voxels."""
    return max(image.GetSpacing()) > 2 * min(image.GetSpacing())


def back(field: sitk.Image, fixed: sitk.Image) -> sitk.Image:
    """The field on the fixed grid; the 2 mm box may end before the last thick slice, where the nearest value holds."""
    resample = sitk.ResampleImageFilter()
    resample.SetReferenceImage(fixed)
    resample.SetUseNearestNeighborExtrapolator(True)
    return resample.Execute(field)


def convexadam(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """convexAdam with MIND features; images with thick slices go to 2 mm with the settings known to suit them."""
    from convexAdam.convex_adam_MIND import convex_adam_pt

    thick = is_thick(fixed)
    settings = {"lambda_weight": 0.75, "grid_sp": 4, "disp_hw": 6, "selected_niter": 80} if thick else {}
    grid = isotropic(fixed, 2.0) if thick else fixed
    pair = [tensor(grid)[0, 0], tensor(sitk.Resample(moving, grid))[0, 0]]
    u = convex_adam_pt(img_fixed=pair[0], img_moving=pair[1], device=torch.device("cpu"), **settings)
    field = voxel_field(np.moveaxis(u, -1, 0), grid)
    return back(field, fixed) if thick else field


def monai_lncc(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """The script anybody writes: LNCC, bending energy, Adam, images shrunk by 4, 2, 1."""
    from monai.losses import BendingEnergyLoss, LocalNormalizedCrossCorrelationLoss
    from monai.networks.blocks import Warp

    k, j, i = fixed.GetSize()[::-1]
    pad = (0, -i % 4, 0, -j % 4, 0, -k % 4)  # so that the levels lie exactly on each other
    weight = sitk.Cast(fixed, sitk.sitkFloat32) * 0 + 1 if mask is None else sitk.Cast(mask, sitk.sitkFloat32)
    w, f, m = (F.pad(tensor(im), pad, mode="replicate") for im in (weight, fixed, sitk.Resample(moving, fixed)))
    low, high = (float(torch.quantile(f.flatten()[::7], q)) for q in (0.001, 0.999))
    f, m = (((im - low) / (high - low)).clamp(0, 1) for im in (f, m))
    lncc, bending = LocalNormalizedCrossCorrelationLoss(kernel_size=7, reduction="none"), BendingEnergyLoss()
    warp = Warp("bilinear", "border")
    u = torch.zeros(1, 3, *(n // 8 for n in f.shape[2:]))
    for shrink, steps, stiffness in ((4, 100, 1.0), (2, 80, 1.0), (1, 40, 2.0)):
        fs, ms, ws = (F.avg_pool3d(im, shrink) for im in (f, m, w))
        u = (2 * F.interpolate(u, fs.shape[2:], mode="trilinear")).detach().requires_grad_()
        adam = torch.optim.Adam([u], lr=0.1)
        for _ in range(steps):
            adam.zero_grad()
            loss = (lncc(warp(ms, u), fs) * ws).sum() / ws.sum() + stiffness * bending(u)
            loss.backward()
            adam.step()
    return voxel_field(u.detach()[0, :, :k, :j, :i].numpy(), fixed)


def fireants(fixed: sitk.Image, moving: sitk.Image, registration: type, learning_rate: float) -> sitk.Image:
    """One of FireANTs' deformable registrations with the values of its tutorial, on the CPU."""
    from fireants.io import BatchedImages, Image

    # it needs 32 voxels along every axis, which a stack of thick slices has not
    images = [isotropic(image, 2.0) if is_thick(image) else image for image in (fixed, moving)]
    pair = [BatchedImages([Image(image, device="cpu")]) for image in images]
    method = registration(
        scales=[4, 2, 1], iterations=[200, 100, 25], fixed_images=pair[0], moving_images=pair[1],
        cc_kernel_size=5, optimizer_lr=learning_rate,
    )  # fmt: skip
    method.optimize()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "warp.nii.gz")
        method.save_as_ants_transforms(path)
        field = sitk.ReadImage(path)
    return back(field, fixed) if is_thick(fixed) else field


def fireants_greedy(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """FireANTs greedy, Adam with rate 0.5."""
    from fireants.registration.greedy import GreedyRegistration

    return fireants(fixed, moving, GreedyRegistration, 0.5)


def fireants_syn(fixed: sitk.Image, moving: sitk.Image, mask: Mask) -> sitk.Image:
    """FireANTs SyN, Adam with rate 0.1."""
    from fireants.registration.syn import SyNRegistration

    return fireants(fixed, moving, SyNRegistration, 0.1)
