"""What a metamorphosis says about a patient: images, series and the mass effect around the lesion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.derivatives import jacobian_determinant
from regsuite.ops.sampling import resample
from regsuite.progress import Progress
from regsuite.solvers.frame import to_transform
from regsuite.solvers.geodesic import Frame
from regsuite.solvers.lattice import Lattice
from regsuite.solvers.lesion_case import LesionCase, spacing_of

SHELLS_MM = ((0.0, 5.0), (5.0, 10.0), (10.0, 15.0), (15.0, 20.0), (20.0, 30.0), (30.0, 50.0))


@dataclass(frozen=True)
class Outputs:
    """u: displacement (3, D, H, W) mm along the axes of the case's grid. images, series, findings: as in methods.api.Result.

    images, on the patient's grid, in the patient's grey values: `metamorphosed` (template deformed, intensity added), `residual`
    (what was added), `deformation_jacobian` (of the deformation without the linear start; template volume per patient volume).
    series, on the working grid, one channel per time: `geodesic`, `masks`. findings: `mass_effect` (rows by shell around the
    lesion), `ssd`, `residual`.
    """

    u: torch.Tensor
    images: dict[str, Image]
    series: dict[str, Image]
    findings: dict[str, Any]


def outputs(case: LesionCase, frames: list[Frame], masks: torch.Tensor | None, progress: Progress) -> Outputs:
    """Everything that is reported, from the frames of the finest geodesic and its masks (steps + 1, D, H, W)."""
    last, contrast = frames[-1], case.high - case.low
    u = _three(last.u, case.fixed.grid)
    progress.step(0.1, "mass effect")
    volume = jacobian_determinant(_to_world(u, case.fixed.grid), case.fixed.grid)
    findings: dict[str, Any] = {"ssd": _ssd(case, last), "residual": _residual(case, last)}
    if case.has_lesion:
        findings["mass_effect"] = mass_effect(u, volume, case.lesion)
    progress.step(0.4, "images")
    patient, template = case.given
    residual = resample(case.fixed.with_data(last.added * contrast), patient.grid, fill=0.0)
    moved = resample(
        template.with_data(template.data.float()),
        patient.grid,
        to_transform(u.cpu(), case.fixed.grid, case.start),
        fill=case.template_low,
    )
    matched = case.template_map(moved.data - case.template_low) * contrast + case.low
    images = {
        "metamorphosed": Image(matched.cpu() + residual.data.cpu(), patient.grid),
        "residual": Image(residual.data.cpu(), patient.grid),
        "deformation_jacobian": resample(Image(volume[None].cpu(), case.fixed.grid), patient.grid, fill=1.0),
    }
    progress.step(0.9, "series")
    path = torch.cat([frame.image for frame in frames]).cpu() * contrast + case.low
    series = {"geodesic": Image(path, case.fixed.grid)}
    if masks is not None:
        series["masks"] = Image(masks.cpu().clone(), case.fixed.grid)
    return Outputs(u, images, series, findings)


def _three(u: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(d, D, H, W) along the axes longer than one voxel -> (3, D, H, W) along i, j, k."""
    out = torch.zeros(3, *grid.shape, dtype=u.dtype, device=u.device)
    for component, axis in zip(u, [n for n, size in enumerate(grid.size) if size > 1], strict=True):
        out[axis] = component
    return out


def _to_world(u: torch.Tensor, grid: Grid) -> torch.Tensor:
    return torch.tensordot(torch.as_tensor(grid.direction.copy()).to(u), u, dims=1)


def _ssd(case: LesionCase, last: Frame) -> dict[str, float]:
    """Sums of squared differences over the voxels of the working grid, grey values 0..1: as the paper's Table 1."""
    target, lesion = case.fixed.data, case.lesion.data
    by_deformation = last.image - last.added
    outside = 1.0 - lesion
    square = (by_deformation - target) ** 2
    return {
        "before": float(((case.template.data - target) ** 2).sum()),
        "final": float(((last.image - target) ** 2).sum()),
        "deformation": float(square.sum()),
        "deformation_outside_lesion": float((square * outside).sum()),
        "final_outside_lesion": float(((last.image - target) ** 2 * outside).sum()),
    }


def _residual(case: LesionCase, last: Frame) -> dict[str, float]:
    """Share of the added energy (sum of A^2) that lies where the lesion mask is exactly 0."""
    square = last.added**2
    total = float(square.sum())
    away = float(square[case.lesion.data == 0.0].sum())
    return {"energy": total, "energy_outside_lesion": away if case.has_lesion else total}


def mass_effect(u: torch.Tensor, volume: torch.Tensor, lesion: Image) -> list[dict[str, float]]:
    """Rows by distance from the lesion's border: mean and 95 % displacement, mean outward push (mm), mean volume change.

    u (3, D, H, W): patient point -> template point along (i, j, k), mm; tissue at x was pushed by -u(x), outward along the
    gradient of the distance. volume (D, H, W): det of the deformation, template volume per patient volume: above 1 the tissue was
    compressed.
    """
    inside = lesion.data[0].cpu().numpy() > 0.5
    if not inside.any():
        inside = lesion.data[0].cpu().numpy() > 0.0
    spacing = spacing_of(lesion.grid)
    distance = ndimage.distance_transform_edt(~inside, sampling=spacing).astype(np.float32)
    field = torch.from_numpy(distance)[None]
    lattice = Lattice(field.shape[1:], spacing, field)
    slope = _three(lattice.gradient(field), lesion.grid)
    slope = slope / slope.norm(dim=0, keepdim=True).clamp(min=1e-6)
    moved = u.cpu().float()
    length = moved.norm(dim=0).numpy()
    outward = -(moved * slope).sum(dim=0).numpy()
    det = volume.cpu().numpy()
    rows = []
    for low, high in SHELLS_MM:
        shell = (distance > low) & (distance <= high)
        if not shell.any():
            continue
        rows.append(
            {
                "from_mm": low,
                "to_mm": high,
                "volume_ml": float(shell.sum() * lesion.grid.voxel_volume / 1000.0),
                "displacement_mean_mm": float(length[shell].mean()),
                "displacement_p95_mm": float(np.percentile(length[shell], 95)),
                "outward_mean_mm": float(outward[shell].mean()),
                "volume_factor_mean": float(1.0 / np.clip(det[shell], 1e-3, None).mean()),
            }
        )
    return rows
