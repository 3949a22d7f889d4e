"""The symmetric velocity engine: its gradient, its symmetry, its exponential."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.methods.brain.svf import BrainSvfConfig, register
from regsuite.ops.derivatives import jacobian_determinant
from regsuite.ops.filters import gaussian_smooth
from regsuite.ops.sampling import resample
from regsuite.phantoms import make_phantom
from regsuite.solvers.frame import make_level
from regsuite.solvers.velocity import SymmetricCorrelation, flow, to_velocity_transform
from regsuite.transforms import StationaryVelocityField

GRID = Grid((20, 24, 28), np.diag([1.5, 1.5, 2.0, 1.0]))


def texture(seed: int, grid: Grid = GRID, sigma: float = 2.0) -> Image:
    noise = torch.randn(1, *grid.shape, generator=torch.Generator().manual_seed(seed))
    smooth = gaussian_smooth(noise, (sigma, sigma, sigma))
    return Image((smooth - smooth.min()) / (smooth.max() - smooth.min()), grid)


def velocity(seed: int, shape: tuple[int, ...], peak: float, sigma: float = 2.0) -> torch.Tensor:
    v = gaussian_smooth(torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed)), (sigma, sigma, sigma))
    return v * (peak / v.norm(dim=0).max())


@pytest.mark.parametrize("any_sign", [False, True])
def test_the_force_is_the_gradient_of_the_energy(any_sign: bool) -> None:
    moving = texture(1)
    fixed = moving.with_data((1.0 if not any_sign else -1.0) * moving.data + 0.2 * texture(2).data)
    level = make_level(fixed, moving, np.eye(4), 1.5, 4.0)
    energy = SymmetricCorrelation(level, 2, 0.02, any_sign)
    energy.damping = [1.0, 1.0, 1.0]
    v = velocity(3, level.lattice, 0.8)
    d = velocity(4, level.lattice, 1.0)
    for x in (v, d):  # still at the border, or voxels would leave the images
        for axis in (1, 2, 3):
            for end in (0, -1):
                x.select(axis, end).zero_()
    _, force, _ = energy.linearise(v)
    slope = (energy.linearise(v + 0.05 * d)[0] - energy.linearise(v - 0.05 * d)[0]) / 0.1
    predicted = -float((force * d).sum()) / force[0].numel()
    assert slope == pytest.approx(predicted, rel=0.15)
    assert abs(slope) > 1e-5


def test_flow_agrees_with_the_transform_and_with_its_inverse() -> None:
    v = velocity(5, (16, 18, 20), 3.0, 3.0)
    grid = Grid((16, 18, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    u = flow(v, (2.0, 2.0, 2.0))
    inner = (slice(None), *(slice(4, -4),) * 3)
    assert torch.allclose(u[inner], StationaryVelocityField(v, grid).exponential.field[inner], atol=1e-4)
    there = to_velocity_transform(v, grid, np.eye(4))
    points = grid.world_points(torch.float64)[4:-4, 4:-4, 4:-4].reshape(-1, 3)
    assert float((there.inverse().map_points(there.map_points(points)) - points).norm(dim=1).max()) < 0.05


def test_a_velocity_that_reaches_the_border_fades_outside_without_folding() -> None:
    v = torch.ones(3, 8, 9, 10) * torch.tensor([6.0, -2.0, 1.0]).view(3, 1, 1, 1)
    grid = Grid((8, 9, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    transform = to_velocity_transform(v, grid, np.eye(4))
    assert isinstance(transform, StationaryVelocityField)
    field = transform.exponential
    assert float(jacobian_determinant(field.field, field.grid).min()) > 0.2
    assert torch.allclose(transform.map_points(torch.tensor([[9.0, 8.0, 7.0]])), torch.tensor([[15.0, 6.0, 8.0]]), atol=0.05)


def test_exchanging_the_images_inverts_the_map() -> None:
    grid = Grid((40, 44, 48), np.diag([1.5, 1.5, 1.5, 1.0]))
    moving = texture(6, grid, 3.0)
    truth = StationaryVelocityField(velocity(7, grid.shape, 4.0, 6.0), grid)
    fixed = resample(moving, grid, truth)
    config = BrainSvfConfig(finest_mm=1.5, coarse_iterations=10, fine_iterations=6, linear="none")
    there, back = register(fixed, moving, config).transform, register(moving, fixed, config).transform
    points = grid.world_points(torch.float64)[8:-8, 8:-8, 8:-8].reshape(-1, 3)
    error = (there.map_points(points) - truth.map_points(points)).norm(dim=1)
    assert float(error.mean()) < 0.3
    assert float((back.map_points(there.map_points(points)) - points).norm(dim=1).max()) < 0.1


def test_momentum_carries_smooth_motion_further_in_as_many_steps() -> None:
    grid = Grid((36, 40, 44), np.diag([1.5, 1.5, 1.5, 1.0]))
    moving = texture(8, grid, 4.0)
    truth = StationaryVelocityField(velocity(9, grid.shape, 3.0, 9.0), grid)
    fixed = resample(moving, grid, truth)
    points = grid.world_points(torch.float64)[8:-8, 8:-8, 8:-8].reshape(-1, 3)
    errors = []
    for momentum in (0.0, 0.75):
        config = BrainSvfConfig(finest_mm=1.5, levels=1, fine_iterations=6, momentum=momentum, linear="none", brain_box=False)
        found = register(fixed, moving, config).transform
        errors.append(float((found.map_points(points) - truth.map_points(points)).norm(dim=1).mean()))
    assert errors[1] < 0.8 * errors[0] < 0.3, errors


def test_brightening_white_matter_does_not_carry_the_map_away() -> None:
    made = make_phantom("growth", 2_000_001, size=(60, 70, 60), ages=(1.0, 6.0), oblique=True, pose_mm=0.0)
    inside = made.fixed_mask.data[0] > 0
    points = made.fixed.grid.index_to_world(inside.nonzero().flip(1)[::20].double())
    true = made.transform.map_points(points)
    result = register(made.fixed, made.moving, BrainSvfConfig(linear="none"))
    error = (result.transform.map_points(points) - true).norm(dim=1)
    assert float(error.mean()) < 0.68 * float((true - points).norm(dim=1).mean())
