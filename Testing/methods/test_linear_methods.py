"""rigid and affine: what they report, scaling, and a start given from outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.methods import registry
from regsuite.ops.sampling import resample
from regsuite.phantoms.base import Phantom
from regsuite.solvers import start
from regsuite.transforms import AffineTransform, DisplacementField
from scipy.spatial.transform import Rotation


@pytest.mark.parametrize(("key", "scaling"), [("rigid", False), ("rigid", True), ("affine", False)])
def test_only_what_the_key_allows_changes(key: str, scaling: bool, posed: Phantom) -> None:
    settings = {"scaling": True} if scaling else {}
    config = registry.config_for(key, "Preview", settings | {"finest_mm": 8.0, "levels": 2, "samples": 6000})
    result = registry.get(key).load().register(posed.fixed, posed.moving, config)
    assert isinstance(result.transform, AffineTransform)
    linear = result.transform.matrix[:3, :3]
    gram = linear.T @ linear
    scale = np.trace(gram) / 3.0
    assert (abs(scale - 1.0) < 1e-9) == (key == "rigid" and not scaling)
    assert np.allclose(gram, scale * np.eye(3), atol=1e-9) == (key == "rigid")
    assert result.findings["linear"]["kind"] == ("similarity" if scaling else key)
    assert 0.3 < result.findings["linear"]["overlap"] <= 1.0


def test_an_initial_transform_replaces_the_start(posed: Phantom) -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_rotvec([0.0, 0.0, np.pi]).as_matrix()
    there = posed.moving.grid
    moving = Image(posed.moving.data, Grid(there.shape, turned @ there.affine))
    method = registry.get("rigid").load()
    config = registry.config_for("rigid", "Preview", {"finest_mm": 6.0, "samples": 10_000})
    result = method.register(posed.fixed, moving, config, initial=AffineTransform(turned))
    truth = AffineTransform(turned).map_points(posed.moving_landmarks)
    assert float((result.transform.map_points(posed.fixed_landmarks) - truth).norm(dim=1).mean()) < 3.0
    field = DisplacementField(torch.zeros(3, *posed.fixed.grid.shape), posed.fixed.grid)
    with pytest.raises(InputError, match="must be rigid or affine"):
        method.register(posed.fixed, moving, config, initial=field)


def test_starts_by_mass_and_moments(posed: Phantom) -> None:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.3, -0.2, 0.4]).as_matrix()
    pose[:3, 3] = (80.0, -60.0, 50.0)
    wide = posed.fixed.grid.cropped((-14, -14, -14), tuple(n + 28 for n in posed.fixed.grid.shape))
    fixed = resample(posed.fixed, wide, fill=float(posed.fixed.data.min()))
    grid = Grid(wide.shape, AffineTransform.translation([80.0, -60.0, 50.0]).matrix @ wide.affine)
    moving = resample(fixed, grid, AffineTransform(pose).inverse(), fill=float(fixed.data.min()))
    truth = AffineTransform(pose).map_points(posed.fixed_landmarks)

    def left(policy: str) -> float:
        matrix, warnings = start.initialise(fixed, moving, policy)
        assert not warnings
        return float((AffineTransform(matrix).map_points(posed.fixed_landmarks) - truth).norm(dim=1).mean())

    assert left("header") > 60.0
    assert left("mass") < 0.5 * left("header")
    assert left("moments") < 12.0
    with pytest.raises(InputError, match="'start' must be one of header"):
        start.initialise(fixed, moving, "guess")
