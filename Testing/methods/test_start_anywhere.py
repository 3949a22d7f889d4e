"""`start=csngf`: methods find their pair 70 mm away and turned by 90 degrees, and say when the pose is doubtful."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.methods import registry
from regsuite.methods.api import Result
from regsuite.ops.filters import gaussian_smooth
from regsuite.phantoms.base import Phantom
from regsuite.progress import Progress
from regsuite.solvers import lesion_case, start
from regsuite.solvers.global_pose import GlobalPose, PoseSettings
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation

FAR = np.eye(4)
FAR[:3, :3], FAR[:3, 3] = Rotation.from_euler("x", 90, degrees=True).as_matrix(), (70.0, 0.0, 0.0)
SMALL = {
    "rigid": {"finest_mm": 6.0},
    "affine": {"finest_mm": 6.0},
    "lung-convex": {"finest_mm": 6.0},
    "brain-svf": {"finest_mm": 8.0},
    "uncertainty-elbo": {"finest_mm": 8.0, "refine_mm": 8.0, "lattice_mm": 12.0},
    "uncertainty-net": {"refine_mm": 8.0},
}


def carried(image: Image) -> Image:
    """The same voxels under a header 70 mm and 90 degrees off."""
    return Image(image.data, Grid(image.grid.shape, FAR @ image.grid.affine))


def run(key: str, fixed: Image, moving: Image, policy: str) -> Result:
    config = registry.config_for(key, "Preview", {"start": policy} | SMALL[key])
    return registry.get(key).load().register(fixed, moving, config)


def left_mm(result: Result, points: torch.Tensor, truth: torch.Tensor) -> float:
    return float((result.transform.map_points(points) - AffineTransform(FAR).map_points(truth)).norm(dim=1).mean())


@pytest.mark.parametrize("key", ["brain-svf", "lung-convex"])
def test_from_anywhere(key: str, brain: Phantom, chest: Phantom) -> None:
    pair = brain if key == "brain-svf" else chest
    fixed = pair.moving if key == "brain-svf" else pair.fixed  # the healthy head; the chest breathed in
    points = pair.moving_landmarks if key == "brain-svf" else pair.fixed_landmarks
    far = run(key, fixed, carried(fixed), "csngf")
    assert left_mm(far, points, points) < 2.0
    assert not any("hardly better" in text for text in far.warnings)


def test_a_template_finds_its_patient_from_anywhere(brain: Phantom) -> None:
    """What tumour-wm begins with: healthy template, patient with a tumour."""
    settings = lesion_case.Preparation(4.0, "rigid", True, 12.0, start="csngf")
    cpu, far = torch.device("cpu"), carried(brain.moving)
    case = lesion_case.prepare(brain.fixed, far, brain.lesion_mask, None, settings, cpu, Progress())
    truth = AffineTransform(FAR).map_points(brain.moving_landmarks)
    left = (AffineTransform(case.start).map_points(brain.fixed_landmarks) - truth).norm(dim=1).mean()
    header = replace(settings, start="header")
    near = lesion_case.prepare(brain.fixed, brain.moving, brain.lesion_mask, None, header, cpu, Progress())
    usual = (AffineTransform(near.start).map_points(brain.fixed_landmarks) - brain.moving_landmarks).norm(dim=1).mean()
    assert float(left) < float(usual) + 1.0
    assert float(left) < 8.0


def test_a_doubtful_pose_is_said_by_whoever_starts_from_it(chest: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.rand(chest.fixed.data.shape, generator=torch.Generator().manual_seed(0))
    stranger = chest.fixed.with_data(gaussian_smooth(noise, (3.0, 3.0, 3.0)))
    quick = PoseSettings(across=14, rotations=600, keep=(12, 6, 5))
    _, warnings = start.initialise(chest.fixed, stranger, "csngf", pose=quick)
    assert any("hardly better than its rivals" in text for text in warnings)
    monkeypatch.setattr(start, "global_pose", lambda *args, **kwargs: GlobalPose(np.eye(4), (), 0.1))
    for key in SMALL:
        assert any("hardly better than its rivals" in text for text in run(key, chest.fixed, chest.fixed, "csngf").warnings), key
