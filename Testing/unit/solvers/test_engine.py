"""Laws of the engine's parts: frames, the linear solve, the Gauss-Newton force, discrete search, unfolding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.progress import Progress
from regsuite.solvers import convex, folding, start
from regsuite.solvers.device import choose_device
from regsuite.solvers.elliptic import Smoothness, solve
from regsuite.solvers.frame import Level, canonical, crop, make_level, sample_displacement, to_transform
from regsuite.solvers.gauss_newton import LocalCorrelation
from scipy import ndimage


def textured(shape: tuple[int, int, int], seed: int, sigma: float = 1.5) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, sigma)
    return torch.from_numpy((smooth - smooth.min()) / np.ptp(smooth)).float()[None]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((0, 1), repeat=3)))
def test_canonical_moves_no_voxel_in_the_world(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1.1, 0.1, 0.0], [-0.1, 1.9, 0.2], [0.0, -0.2, 2.7]])
    affine[:3, 3] = (5.0, -7.0, 11.0)
    base = Image(torch.arange(60.0).view(1, 3, 4, 5), Grid((3, 4, 5), affine))
    # the same image with its index axes permuted and mirrored
    size = [base.grid.size[a] for a in order]
    turned = base.grid.affine[:, [*order, 3]].copy()
    data = base.data.permute(0, *(3 - order[w] for w in (2, 1, 0)))
    for axis in range(3):
        if flips[axis]:
            turned[:3, 3] += turned[:3, axis] * (size[axis] - 1)
            turned[:3, axis] *= -1
            data = data.flip(3 - axis)
    result = canonical(Image(data, Grid((size[2], size[1], size[0]), turned)))
    assert result.grid == base.grid
    assert torch.equal(result.data, base.data)


def test_crop_keeps_the_world() -> None:
    image = Image(textured((10, 12, 14), 0), Grid((10, 12, 14), np.diag([1.0, 2.0, 3.0, 1.0])))
    mask = torch.zeros(1, 10, 12, 14)
    mask[0, 4, 5, 6] = 1
    part = crop(image, image.with_data(mask), 3.0)
    assert part.grid.shape == (3, 5, 7)
    assert torch.equal(part.data, image.data[:, 3:6, 3:8, 3:10])
    assert np.allclose(part.grid.affine[:3, 3], (3.0, 6.0, 9.0))


def dense(matrix: torch.Tensor, smooth: Smoothness) -> np.ndarray:
    n = matrix[0].numel() * 3
    columns = []
    for index in range(n):
        unit = torch.zeros(n, dtype=matrix.dtype)
        unit[index] = 1.0
        x = unit.view(3, *matrix.shape[1:])
        xx, yy, zz, xy, xz, yz = matrix
        product = torch.stack(
            [xx * x[0] + xy * x[1] + xz * x[2], xy * x[0] + yy * x[1] + yz * x[2], xz * x[0] + yz * x[1] + zz * x[2]]
        )
        columns.append((product + smooth.apply(x)).flatten().numpy())
    return np.array(columns)


def test_solve_agrees_with_a_dense_solver() -> None:
    torch.manual_seed(0)
    shape = (3, 4, 2)
    g = torch.randn(3, 5, *shape, dtype=torch.float64)
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    matrix = torch.stack([(g[a] * g[b]).sum(dim=0) for a, b in pairs])
    u = torch.randn(3, *shape, dtype=torch.float64)
    smooth = Smoothness(u, (3.0, 2.0, 1.0), 2.0, 0.2)
    full = dense(matrix, smooth)
    assert np.allclose(full, full.T)
    assert np.linalg.eigvalsh(full).min() > 0
    right = torch.randn(3, *shape, dtype=torch.float64)
    x = solve(matrix, right, smooth, 500, tolerance=1e-10)
    assert np.allclose(x.flatten().numpy(), np.linalg.solve(full, right.flatten().numpy()), rtol=2e-3, atol=1e-3)


def test_smoothness_ignores_constants_and_steady_stretch() -> None:
    shape, spacing = (9, 8, 10), (3.0, 2.0, 1.5)
    index = torch.stack(torch.meshgrid(*[torch.arange(float(n)) * h for n, h in zip(shape, spacing, strict=True)], indexing="ij"))
    constant = torch.full((3, *shape), 4.0)
    assert float(Smoothness(constant, spacing, 1.0, 0.2).pull.abs().max()) == 0.0
    stretch = 0.2 * index.flip(0) + 0.1 * index
    inner = (slice(None), slice(3, -3), slice(3, -3), slice(3, -3))
    with_drift = Smoothness(stretch, spacing, 1.0, 0.2, affinity=1.0, reach=0.7).pull
    assert float(with_drift[inner].abs().max()) < 1e-5
    bump = torch.zeros(3, *shape)
    bump[:, 4, 4, 5] = 1.0
    assert float(Smoothness(bump, spacing, 1.0, 0.2, affinity=1.0, reach=0.7).pull[:, 4, 4, 5].min()) > 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_force_is_the_gradient_of_the_energy(weighted: bool) -> None:
    shape = (18, 19, 20)
    grid = Grid(shape, np.eye(4))
    base = textured(shape, 1, 2.5).double()
    fixed = Image(base, grid)
    moving = Image(torch.from_numpy(ndimage.shift(base[0].numpy(), (0.9, -0.8, 1.1), order=3, mode="nearest"))[None], grid)
    weight = None
    if weighted:
        weight = torch.ones(1, *shape, dtype=torch.float64)
        weight[..., :8] = 0.0
    level = Level(fixed, moving, np.eye(4), shape, weight)
    similarity = LocalCorrelation(level, 2, 0.05)
    # a smooth, small field away from the border: there the sampled gradient is the image gradient
    u = 0.2 * torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((3, *shape)), (0, 3, 3, 3)))
    direction = torch.zeros_like(u)
    bump = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(4).standard_normal((3, *shape)), (0, 2, 2, 2)))
    direction[:, 3:-3, 3:-3, 3:-3] = bump[:, 3:-3, 3:-3, 3:-3]
    _, force, matrix = similarity.linearise(u)
    total = fixed.grid.voxels if weight is None else float(weight.sum())
    step = 1e-4 / float(direction.abs().max())
    higher, lower = (similarity.linearise(u + s * direction)[0] for s in (step, -step))
    slope = (higher - lower) / (2 * step) * total
    # central differences of the image stand for the interpolant's own slope, hence the loose bound
    assert slope == pytest.approx(-float((force * direction).sum()), rel=0.15)
    assert float(matrix[:3].min()) >= 0.0
    if weighted:
        assert float(force[..., :8].abs().max()) == 0.0


def test_cost_volume_is_the_direct_sum() -> None:
    torch.manual_seed(1)
    f, m = torch.rand(2, 4, 5, 3), torch.rand(2, 4, 5, 3)
    ones = torch.ones(1, 4, 5, 3)
    cost, mesh = convex.cost_volume(f, m, ones, ones, [1, 1, 1])
    raw = torch.full((27, 4, 5, 3), torch.nan)
    for n, (i, j, k) in enumerate(mesh.int().tolist()):
        for z, y, x in itertools.product(range(4), range(5), range(3)):
            if 0 <= z + k < 4 and 0 <= y + j < 5 and 0 <= x + i < 3:
                raw[n, z, y, x] = (f[:, z, y, x] - m[:, z + k, y + j, x + i]).square().mean()
    mean = raw.nanmean()
    raw = torch.where(raw.isnan(), mean, raw) / mean
    for _ in range(2):
        padded = torch.nn.functional.pad(raw, (1, 1, 1, 1, 1, 1), value=float("nan"))
        windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)
        raw = windows.flatten(-3).nanmean(dim=-1)
    assert torch.allclose(cost, raw, atol=1e-5)


def test_consistency_makes_the_two_directions_inverse() -> None:
    forward = torch.full((3, 6, 7, 8), 4.0)
    backward = torch.full((3, 6, 7, 8), -2.0)
    result = convex.make_consistent(forward, backward, [8.0, 8.0, 8.0], 15)
    assert torch.allclose(result, torch.full_like(result, 3.0), atol=1e-4)


@pytest.mark.parametrize("shift", [(16.0, 0.0, -8.0), (-8.0, 24.0, 8.0)])
def test_search_finds_a_large_shift_in_millimetres(shift: tuple[float, float, float]) -> None:
    affine = np.diag([4.0, 4.0, 5.0, 1.0])
    fixed = Image(textured((30, 34, 32), 5, 2.0), Grid((30, 34, 32), affine))
    moved = affine.copy()
    moved[:3, 3] = shift  # the same voxels lie `shift` further: T(x) = x + shift
    level = make_level(fixed, Image(fixed.data, Grid(fixed.grid.shape, moved)), np.eye(4), 4.0, 8.0)
    for rounds in (0, 15):  # without consistency the field must be in the same units
        u = convex.search(level, convex.ConvexSettings(8.0, 32.0, rounds), Progress())
        found = u[:, 3:-3, 4:-4, 4:-4].flatten(1).median(dim=1).values
        assert torch.allclose(found, torch.tensor(shift), atol=4.1)


def test_best_translation_over_all_shifts() -> None:
    fixed = Image(textured((24, 26, 28), 6), Grid((24, 26, 28), np.diag([6.0, 6.0, 6.0, 1.0])))
    affine = fixed.grid.affine.copy()
    affine[:3, 3] = (30.0, -24.0, 36.0)
    matrix, gain = start.best_translation(fixed, Image(fixed.data, Grid(fixed.grid.shape, affine)), np.eye(4), 6.0)
    assert np.allclose(matrix[:3, 3], (30.0, -24.0, 36.0))
    assert gain > 0.5


def test_unfold_removes_folds_and_nothing_else() -> None:
    spacing = (3.0, 2.0, 2.0)
    calm = (
        0.5
        * torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(7).standard_normal((3, 12, 13, 14)), (0, 3, 3, 3))).float()
    )
    same, count = folding.unfold(calm, spacing)
    assert count == 0
    assert torch.equal(same, calm)
    wild = calm.clone()
    wild[0, 6, 6, 7] += 9.0
    assert float(folding.corner_determinants(wild, spacing).min()) < 0
    mended, count = folding.unfold(wild, spacing)
    assert count > 0
    assert float(folding.corner_determinants(mended, spacing).min()) >= 0.05


def test_corner_determinants_of_a_linear_map() -> None:
    spacing = (3.0, 2.0, 1.0)
    z, y, x = torch.meshgrid(*[torch.arange(5.0) * h for h in spacing], indexing="ij")
    u = torch.stack([0.1 * x + 0.2 * y, -0.3 * y, 0.5 * z + 0.1 * x])
    assert torch.allclose(folding.corner_determinants(u, spacing), torch.tensor(1.1 * 0.7 * 1.5), atol=1e-5)


def test_lattice_and_public_transform_agree_on_an_oblique_grid() -> None:
    angle = 0.4
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = affine[:3, :3] * (1.5, 2.0, 2.5)
    grid = Grid((8, 9, 10), affine)
    u = torch.zeros(3, 4, 5, 5)
    u[0] = 3.0  # 3 mm along the image's own i axis
    shift = to_transform(u, grid, np.eye(4)).displacement(grid)[:, 4, 4, 4]
    assert torch.allclose(shift, torch.tensor([3 * np.cos(angle), 3 * np.sin(angle), 0.0]).float(), atol=1e-5)
    assert torch.allclose(sample_displacement(u, grid, grid)[0], torch.tensor(3.0))


@pytest.mark.parametrize("name", ["banana", "cuda:99", "mps"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="evice"):
        choose_device(name)
