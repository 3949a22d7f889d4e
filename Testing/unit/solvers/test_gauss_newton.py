"""The Gauss-Newton force is the exact gradient of the energy, node by node, with and without weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regsuite.errors import Cancelled
from regsuite.geometry import Grid, Image
from regsuite.progress import Progress
from regsuite.solvers.frame import Level
from regsuite.solvers.gauss_newton import LocalCorrelation, RefineSettings, gradient, refine
from scipy import ndimage

SHAPE = (8, 9, 10)


def noise(seed: int, shape: tuple[int, int, int] = SHAPE, sigma: float = 1.0) -> torch.Tensor:
    data = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return torch.from_numpy((data - data.min()) / np.ptp(data))[None]


def level_of(
    spacing: tuple[float, float, float], lattice: tuple[int, int, int], weight: torch.Tensor | None, mix: float = 0.6
) -> Level:
    grid = Grid(SHAPE, np.diag([*spacing, 1.0]))
    moving = mix * noise(1) + (1.0 - mix) * noise(2)
    return Level(Image(noise(1), grid), Image(moving, grid), np.eye(4), lattice, weight)


def weights(kind: str) -> torch.Tensor | None:
    """Zero on the outermost planes, where the force is 0 by definition but the energy is not."""
    shell = torch.zeros(1, *SHAPE, dtype=torch.float64)
    shell[:, 1:-1, 1:-1, 1:-1] = 1.0
    if kind == "half":
        shell[..., :5] = 0.0
    if kind == "soft":
        shell *= torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return None if kind == "none" else shell


@pytest.mark.parametrize("kind", ["none", "shell", "half", "soft"])
@pytest.mark.parametrize(("spacing", "lattice"), [((1.0, 1.0, 1.0), (4, 5, 4)), ((1.0, 1.5, 2.5), SHAPE)])
def test_force_equals_finite_differences(kind: str, spacing: tuple[float, float, float], lattice: tuple[int, int, int]) -> None:
    weight = weights(kind)
    level = level_of(spacing, lattice, weight)
    similarity = LocalCorrelation(level, 2, 0.05)
    zero = torch.zeros(3, *lattice, dtype=torch.float64)
    _, force, _ = similarity.linearise(zero)
    # at the voxel centres the symmetric difference of the linear interpolant is the central difference of the image, exactly
    step, nodes = 1e-5, [index for index in np.ndindex(*zero.shape) if sum(index) % 3 == 0]
    expected, found = torch.empty(len(nodes)), torch.empty(len(nodes))
    per_node = torch.ones(lattice, dtype=torch.float64)  # pool() gives means around a node, the energy a mean over all voxels
    for axis, matrix in enumerate(level.up):
        if matrix is not None:
            per_node = per_node * matrix.sum(dim=0).view([-1 if a == axis else 1 for a in range(3)])
    total = float(np.prod(SHAPE)) if weight is None else float(weight.sum())
    for n, index in enumerate(nodes):
        shift = zero.clone()
        shift[index] = step
        expected[n] = (similarity.linearise(shift)[0] - similarity.linearise(-shift)[0]) / (2.0 * step)
        damping = math.sqrt(min(spacing) / spacing[index[0]])  # documented: thick axes are damped
        found[n] = -force[index] * per_node[index[1:]] / (total * damping)
    if kind == "none":
        inner = torch.tensor([all(0 < i < n - 1 for i, n in zip(index[1:], lattice, strict=True)) for index in nodes])
        if lattice != SHAPE:  # coarse nodes always reach the outermost planes
            assert float(torch.cosine_similarity(expected, found, dim=0)) > 0.9
            return
        expected, found = expected[inner], found[inner]
    assert float(expected.norm()) > 1e-6
    assert float(torch.cosine_similarity(expected, found, dim=0)) > 0.99999
    assert float(found.norm() / expected.norm()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kind", ["none", "soft"])
def test_energy_is_the_written_one(kind: str) -> None:
    weight = weights(kind)
    level = level_of((1.0, 1.0, 1.0), SHAPE, weight)
    energy = LocalCorrelation(level, 1, 0.05).linearise(torch.zeros(3, *SHAPE, dtype=torch.float64))[0]
    w = np.ones(SHAPE) if weight is None else weight[0].numpy()
    f, m = level.fixed.data[0].numpy(), level.moving.data[0].numpy()
    total = 0.0
    for voxel in np.ndindex(*SHAPE):
        box = tuple(slice(max(0, p - 1), p + 2) for p in voxel)
        share = w[box] / max(w[box].sum(), 1e-3)
        mean_f, mean_m = (share * f[box]).sum(), (share * m[box]).sum()
        var_f = (share * f[box] ** 2).sum() - mean_f**2 + 0.05**2
        var_m = (share * m[box] ** 2).sum() - mean_m**2 + 0.05**2
        cc = ((share * f[box] * m[box]).sum() - mean_f * mean_m + 0.05**2) / math.sqrt(var_f * var_m)
        total += w[voxel] * (1.0 - max(cc, 0.0) ** 2) / 2.0
    assert energy == pytest.approx(total / w.sum(), abs=1e-9)


def test_equal_images_have_no_energy_and_no_force_and_contrast_is_ignored() -> None:
    zero = torch.zeros(3, *SHAPE, dtype=torch.float64)
    same = LocalCorrelation(level_of((1.0, 1.5, 2.5), SHAPE, None, mix=1.0), 2, 0.05)
    energy, force, matrix = same.linearise(zero)
    assert abs(energy) < 1e-12
    assert float(force.abs().max()) < 1e-12
    assert float(matrix[:3].min()) >= 0.0
    level = level_of((1.0, 1.5, 2.5), SHAPE, None)
    brighter = Level(level.fixed, level.moving.with_data(3.0 * level.moving.data - 7.0), level.start, level.lattice)
    plain, scaled = (LocalCorrelation(item, 2, 1e-6).linearise(zero)[0] for item in (level, brighter))
    assert plain == pytest.approx(scaled, abs=1e-6)
    assert plain > 0.01


def test_gradient_is_per_millimetre_and_ordered_i_j_k() -> None:
    k, j, i = torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij")
    slope = gradient((2.0 * i + 3.0 * j - 5.0 * k)[None], (2.5, 1.5, 0.5))
    assert torch.allclose(slope[:, 1:-1, 1:-1, 1:-1].amin(dim=(1, 2, 3)), torch.tensor([4.0, 2.0, -2.0]))
    assert torch.allclose(slope[:, 1:-1, 1:-1, 1:-1].amax(dim=(1, 2, 3)), torch.tensor([4.0, 2.0, -2.0]))
    assert float(slope[0, :, :, 0].abs().max()) == 0.0


def shifted_pair() -> Level:
    """The moving image is the fixed one moved by 1.2 mm along i and -1.5 mm along k."""
    shape = (16, 17, 18)
    grid = Grid(shape, np.diag([1.0, 1.25, 1.5, 1.0]))
    big = noise(7, (24, 25, 26), 1.8)
    moved = ndimage.shift(big[0].numpy(), (-1.0, 0.0, 1.2), order=3)
    inner = (slice(None), slice(4, 20), slice(4, 21), slice(4, 22))
    moving = torch.from_numpy(moved)[None]
    return Level(Image(big[inner].contiguous(), grid), Image(moving[inner].contiguous(), grid), np.eye(4), (6, 6, 6))


def test_refine_finds_a_shift_and_lowers_the_energy() -> None:
    history: list[dict[str, float | str]] = []
    settings = RefineSettings(iterations=40, window_radius=2, smoothness=0.1, robust_gradient=0.2, noise=0.01)
    start = torch.zeros(3, 6, 6, 6, dtype=torch.float64)
    u = refine(shifted_pair(), start, settings, Progress(), history, "test")
    assert float(start.abs().max()) == 0.0
    middle = u[:, 1:-1, 1:-1, 1:-1].flatten(1).mean(dim=1)
    assert torch.allclose(middle, torch.tensor([1.2, 0.0, -1.5], dtype=torch.float64), atol=0.15)
    energies = [float(row["energy"]) for row in history]
    assert energies[-1] < 0.3 * energies[0]
    assert [row["iteration"] for row in history] == list(range(len(history)))


def test_refine_limits_steps_and_iterations_and_stops_on_request() -> None:
    settings = RefineSettings(
        iterations=2, window_radius=2, smoothness=0.01, robust_gradient=0.2, noise=0.01, max_step_voxels=0.25
    )
    history: list[dict[str, float | str]] = []
    zero = torch.zeros(3, 6, 6, 6, dtype=torch.float64)
    u = refine(shifted_pair(), zero, settings, Progress(), history, "test")
    assert len(history) == 2
    assert float(u.norm(dim=0).max()) <= 2 * 0.25 * 1.0 + 1e-9
    with pytest.raises(Cancelled):
        refine(shifted_pair(), zero, settings, Progress(lambda *_: False), [], "test")
