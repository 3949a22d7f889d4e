"""initialise(policy="csngf"): a header that tells the wrong place is put right; strangers are called so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.methods import registry
from regsuite.ops.filters import gaussian_smooth
from regsuite.phantoms import make_phantom
from regsuite.solvers.global_pose import PoseSettings
from regsuite.solvers.start import initialise
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation

QUICK = PoseSettings(across=14, rotations=600, keep=(12, 6, 3))
WARNING = "may not show the same thing"


@pytest.fixture(scope="module")
def head() -> Image:
    """A brain on a straight grid of 3 mm without noise."""
    return make_phantom("brain-tumour", seed=2, size=(56, 68, 52), noise=0.0, pose=False).moving


def test_a_header_that_is_shifted_and_turned_is_recovered(head: Image) -> None:
    """70 mm and 90 degrees, another contrast: `rigid` finds its way with start=csngf, and not with the header."""
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_rotvec(np.radians(90.0) * np.array([0.6, 0.0, 0.8])).as_matrix()
    truth[:3, 3] = head.grid.centre - truth[:3, :3] @ head.grid.centre + np.array([40.0, -50.0, 30.0])
    grid = Grid(head.grid.shape, truth @ head.grid.affine)
    top = float(head.data.max())
    moving = Image(torch.sin(head.data / top * 4.0) * 300.0 + 0.2 * head.data, grid)
    corners = torch.from_numpy(head.grid.corners())

    def left_mm(policy: str, key: str = "rigid") -> float:
        config = registry.config_for(key, "Preview", {"finest_mm": 3.0, "levels": 2, "samples": 8000, "start": policy})
        found = registry.get(key).load().register(head, moving, config)
        assert not any(WARNING in text for text in found.warnings)
        away = found.transform.map_points(corners) - AffineTransform(truth).map_points(corners)
        return float(away.norm(dim=1).mean())

    assert left_mm("csngf") < 1.0
    assert left_mm("csngf", "affine") < 1.5
    assert left_mm("header") > 50.0


def test_strangers_are_told_of(head: Image) -> None:
    noise = torch.rand(head.data.shape, generator=torch.Generator().manual_seed(0))
    matrix, warnings = initialise(head, head.with_data(gaussian_smooth(noise, (3.0, 3.0, 3.0))), "csngf", pose=QUICK)
    assert len(warnings) == 1
    assert WARNING in warnings[0]
    assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)


def test_a_single_slice_has_no_pose_in_space(head: Image) -> None:
    slice_grid = head.grid.cropped((26, 0, 0), (1, *head.grid.shape[1:]))
    flat = Image(head.data[:, 26:27], slice_grid)
    with pytest.raises(InputError, match="single slice"):
        initialise(flat, flat, "csngf")
