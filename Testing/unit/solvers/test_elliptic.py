"""The smoothness term: gradient of its written energy, symmetric, positive, blind to constants; and the solver's guards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.solvers.elliptic import Smoothness, solve

SHAPE = (4, 3, 5)
SPACING = (3.0, 2.0, 1.25)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def energy(u: torch.Tensor, strength: float, eps: float) -> torch.Tensor:
    """lambda * sum over nodes of eps^2 (sqrt(1 + |grad u|^2 / eps^2) - 1); |grad u|^2 of a node: mean of its edges' squares."""
    total = torch.zeros(u.shape[1:], dtype=u.dtype)
    for axis in range(3):
        length = u.shape[axis + 1] - 1
        square = ((u.narrow(axis + 1, 1, length) - u.narrow(axis + 1, 0, length)) / SPACING[axis]) ** 2
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - axis)] = 1
        before = torch.nn.functional.pad(square.sum(dim=0), pad)
        pad[2 * (2 - axis)], pad[2 * (2 - axis) + 1] = 0, 1
        total = total + 0.5 * before + 0.5 * torch.nn.functional.pad(square.sum(dim=0), pad)
    return strength * (eps**2 * (torch.sqrt(1.0 + total / eps**2) - 1.0)).sum()


@pytest.mark.parametrize("eps", [0.05, 0.3, 100.0])
def test_pull_is_the_gradient_of_the_written_energy(eps: float) -> None:
    u = random(0, 3, *SHAPE).requires_grad_(True)
    (expected,) = torch.autograd.grad(energy(u, 1.7, eps), u)
    found = Smoothness(u.detach(), SPACING, 1.7, eps).pull
    assert torch.allclose(found, expected, atol=1e-12)


def dense(smooth: Smoothness) -> np.ndarray:
    n = 3 * int(np.prod(SHAPE))
    return np.stack([smooth.apply(row.view(3, *SHAPE)).flatten().numpy() for row in torch.eye(n, dtype=torch.float64)])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("affinity", [0.0, 1.0])
def test_apply_is_symmetric_semidefinite_and_blind_to_constants(weighted: bool, affinity: float) -> None:
    weight = random(3, *SHAPE).abs() + 0.1 if weighted else None
    smooth = Smoothness(random(1, 3, *SHAPE), SPACING, 2.0, 0.2, affinity, 0.7, weight)
    matrix = dense(smooth)
    assert np.allclose(matrix, matrix.T, atol=1e-12)
    values = np.linalg.eigvalsh(matrix)
    assert values.min() > -1e-10
    assert int((values < 1e-10).sum()) == 3  # one constant per component, nothing else
    constant = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64).view(3, 1, 1, 1).expand(3, *SHAPE)
    assert float(smooth.apply(constant).abs().max()) < 1e-12
    assert np.allclose(np.diag(matrix), smooth.degree.repeat(3, 1, 1, 1).flatten().numpy(), atol=1e-12)


def test_a_sliding_wall_is_smoothed_less_than_calm_tissue() -> None:
    u = torch.zeros(3, 4, 4, 8, dtype=torch.float64)
    u[2, :, :, 4:] = 10.0
    edges = Smoothness(u, (2.0, 2.0, 2.0), 1.0, 0.2).edges[2]
    assert float(edges[..., 3].max()) < 0.2 * float(edges[..., 0].min())


@pytest.mark.parametrize("affinity", [0.0, 1.0])
def test_an_affine_field_is_not_pulled_inside(affinity: float) -> None:
    shape = (9, 8, 10)
    x = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij"))
    x = x * torch.tensor(SPACING, dtype=torch.float64).view(3, 1, 1, 1)
    u = torch.einsum("ab,bdhw->adhw", random(4, 3, 3) * 0.1, x) + 4.0
    pull = Smoothness(u, SPACING, 1.0, 0.2, affinity, 0.7).pull
    assert float(pull[:, 3:-3, 3:-3, 3:-3].abs().max()) < 1e-9


def test_flat_lattices_work() -> None:
    u = random(5, 3, 1, 4, 5)
    smooth = Smoothness(u, SPACING, 1.0, 0.2, 1.0, 0.7)
    assert bool(torch.isfinite(smooth.pull).all())
    matrix = torch.zeros(6, 1, 4, 5, dtype=torch.float64)
    matrix[:3] = 1.0
    assert bool(torch.isfinite(solve(matrix, random(6, 3, 1, 4, 5), smooth, 20)).all())


def test_more_iterations_come_closer_and_the_right_side_is_kept() -> None:
    smooth = Smoothness(random(7, 3, *SHAPE), SPACING, 5.0, 0.2)
    g = random(8, 3, *SHAPE)
    matrix = torch.stack([g[a] * g[b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))])  # rank 1 at each node
    right = random(9, 3, *SHAPE)
    before = right.clone()
    best = solve(matrix, right, smooth, 2000, tolerance=1e-12)
    damping = 1e-4 * float(matrix[:3].mean())
    product = torch.einsum("adhw,bdhw->abdhw", g, g)
    left = torch.einsum("abdhw,bdhw->adhw", product, best) + smooth.apply(best) + damping * best
    assert torch.allclose(left, right, atol=1e-6)
    errors = [float((solve(matrix, right, smooth, n, tolerance=1e-12) - best).norm()) for n in (1, 5, 25)]
    assert errors[0] > errors[1] > errors[2]
    assert torch.equal(right, before)
    assert float(solve(matrix, torch.zeros_like(right), smooth, 10).abs().max()) == 0.0
