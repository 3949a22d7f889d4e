"""Geodesic shooting: the gradient is that of the discrete energy, norms are kept, special cases coincide, resolution does not
matter."""

from __future__ import annotations

import itertools

import pytest
import torch
from regsuite.ops.filters import downsample, gaussian_smooth
from regsuite.solvers.gaussian_kernel import GaussianKernel
from regsuite.solvers.geodesic import DataTerm, Geodesic, GeodesicModel
from regsuite.solvers.lattice import Lattice

VOLUME = ((10, 12, 11), (2.0, 1.3, 0.9))
SLICE = ((1, 20, 24), (5.0, 1.3, 0.9))
SAGITTAL = ((12, 10, 1), (2.0, 1.3, 0.9))
THIN = ((3, 9, 2), (2.0, 1.3, 0.9))
WIDE = ((1, 9, 130), (5.0, 1.3, 0.9))  # the kernel is applied in blocks


def noise(shape: tuple[int, ...], seed: int, sigma: float = 1.5) -> torch.Tensor:
    """Smooth noise of unit variance, (1, D, H, W) float64."""
    rough = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    smooth = gaussian_smooth(rough, [0.0 if n == 1 else sigma for n in shape])
    return smooth / smooth.std()


def squares(target: torch.Tensor) -> DataTerm:
    return lambda image: (float(((image - target) ** 2).mean()), 2.0 * (image - target) / target.numel())


def shooting(case: tuple, model: GeodesicModel, source: torch.Tensor | None = None, keep: float = 1e9) -> Geodesic:
    shape, spacing = case
    image = noise(shape, 0) if source is None else source
    kernel = GaussianKernel(shape, spacing, (4.0, 2.0), image)
    return Geodesic(image, Lattice(shape, spacing, image), kernel, model, keep)


def masks(shape: tuple[int, ...], steps: int) -> torch.Tensor:
    return torch.rand(steps + 1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("case", [VOLUME, SLICE, SAGITTAL, THIN, WIDE])
@pytest.mark.parametrize("kind", ["lddmm", "metamorphosis", "weighted"])
@pytest.mark.parametrize("keep", [0.0, 1e9])
def test_the_gradient_is_that_of_the_discrete_energy(case: tuple, kind: str, keep: float) -> None:
    shape = case[0]
    support = (noise(shape, 7) > -0.5).double()
    model = {
        "lddmm": GeodesicModel(5, 1.0, 0.0, 0.0),
        "metamorphosis": GeodesicModel(5, 3.0, 1.0, 5.0),
        "weighted": GeodesicModel(5, 3.0, 0.7, 5.0, masks(shape, 5) * support[0], support),
    }[kind]
    geodesic, data = shooting(case, model, keep=keep), squares(noise(shape, 1))
    z, direction = noise(shape, 2), noise(shape, 3, 0.5)
    _, gradient, _ = geodesic.energy(z, data, 0.1)
    ahead, behind = (geodesic.energy(z + step * direction, data, 0.1)[0] for step in (1e-6, -1e-6))
    assert float(geodesic.frames(z)[-1].u.abs().max()) > 0.05
    assert float((gradient * direction).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("kind", "size", "pull"), [("lddmm", 30.0, 1.0), ("metamorphosis", 1.5, 40.0), ("constant", 1.5, 40.0)])
def test_the_norm_is_conserved_to_first_order(kind: str, size: float, pull: float) -> None:
    """Halving the time step halves what is lost, down to a small error of the lattice."""
    shape, spacing = (1, 60, 60), (1.0, 1.0, 1.0)
    image, z = noise(shape, 0, 6.0), size * noise(shape, 2, 6.0)
    mask = torch.sigmoid(3.0 * noise(shape, 4, 8.0))
    kernel = GaussianKernel(shape, spacing, (6.0,), image, rest_mm=10.0)
    drifts = []
    for steps in (10, 20, 40, 80):
        constant = mask.expand(steps + 1, *shape) if kind == "constant" else None
        model = GeodesicModel(steps, pull, 0.0 if kind == "lddmm" else 1.0, pull, constant)
        geodesic = Geodesic(image, Lattice(shape, spacing, image), kernel, model)
        norms = [sum(pair) for pair in geodesic.norms(z)]
        drifts.append(norms[-1] / norms[0] - 1.0)
    assert float(geodesic.frames(z)[-1].u.abs().max()) > 2.0
    changes = [a - b for a, b in itertools.pairwise(drifts)]
    assert 1.7 < changes[0] / changes[1] < 2.7
    assert 1.7 < changes[1] / changes[2] < 2.4
    assert abs(drifts[-1]) < 0.01


def test_an_evolving_mask_changes_the_norm_by_what_it_uncovers() -> None:
    """dH/dt = rho <z, M' z>: the reason why the energy holds the whole path."""
    shape, steps = (1, 60, 60), 40
    image, z = noise(shape, 0, 6.0), 1.5 * noise(shape, 2, 6.0)
    growing = torch.linspace(0, 1, steps + 1, dtype=torch.float64).view(-1, 1, 1, 1) * torch.ones(shape, dtype=torch.float64)
    kernel = GaussianKernel(shape, (1.0, 1.0, 1.0), (6.0,), image, rest_mm=10.0)
    geodesic = Geodesic(image, Lattice(shape, (1.0, 1.0, 1.0), image), kernel, GeodesicModel(steps, 4.0, 1.0, 4.0, growing))
    norms = [sum(pair) for pair in geodesic.norms(z)]
    uncovered = sum(4.0 * float((frame.z**2).mean()) / steps for frame in geodesic.frames(z)[1:])
    assert norms[-1] - norms[0] == pytest.approx(uncovered, rel=0.05)
    assert norms[-1] > 1.2 * norms[0]


def test_weighted_with_a_mask_of_one_is_classic_metamorphosis() -> None:
    shape = VOLUME[0]
    ones = torch.ones(6, *shape, dtype=torch.float64)
    z, data = noise(shape, 2), squares(noise(shape, 1))
    weighted = shooting(VOLUME, GeodesicModel(5, 3.0, 1.0, 3.0, ones, ones[:1])).energy(z, data, 0.1)
    classic = shooting(VOLUME, GeodesicModel(5, 3.0, 1.0, 3.0)).energy(z, data, 0.1)
    assert weighted[0] == pytest.approx(classic[0], rel=1e-12)
    assert torch.allclose(weighted[1], classic[1], rtol=1e-10, atol=1e-14)


def test_no_intensity_is_lddmm() -> None:
    shape = VOLUME[0]
    z = noise(shape, 2)
    plain = shooting(VOLUME, GeodesicModel(5, 1.0, 0.0, 0.0)).frames(z)[-1]
    closed = torch.zeros(6, *shape, dtype=torch.float64)
    shut = shooting(VOLUME, GeodesicModel(5, 1.0, 1.0, 1.0, closed)).frames(z)[-1]
    vanishing = shooting(VOLUME, GeodesicModel(5, 1.0, 1e-9, 1e-9)).frames(z)[-1]
    assert torch.allclose(plain.u, shut.u, atol=1e-12)
    assert float(shut.added.abs().max()) == 0.0
    assert torch.allclose(plain.u, vanishing.u, atol=1e-6)


def test_added_intensity_is_exactly_zero_outside_the_support() -> None:
    shape = SLICE[0]
    support = (noise(shape, 7) > 0.5).double()
    series = masks(shape, 5) * support[0]
    last = shooting(SLICE, GeodesicModel(5, 6.0, 1.0, 3.0, series, support)).frames(3.0 * noise(shape, 2))[-1]
    assert float(last.added.abs().max()) > 0.1
    assert float(last.added[support == 0].abs().max()) == 0.0


def test_parameters_mean_the_same_at_every_resolution() -> None:
    """The same image and z, sampled twice as finely: the same motion in mm and the same energy."""
    found = []
    fine_image, fine_z = noise((1, 96, 96), 0, 8.0), noise((1, 96, 96), 2, 8.0)
    for factor in (1, 2):
        shape, spacing = (1, 96 // factor, 96 // factor), (1.0, 1.0 * factor, 1.0 * factor)
        image, z = (downsample(x, shape) if factor > 1 else x for x in (fine_image, fine_z))
        kernel = GaussianKernel(shape, spacing, (8.0, 4.0), image)
        geodesic = Geodesic(image, Lattice(shape, spacing, image), kernel, GeodesicModel(8, 20.0, 0.5, 10.0))
        value, _, parts = geodesic.energy(z, squares(torch.zeros_like(image)), 0.1)
        found.append((value, parts["velocity"], float(geodesic.frames(z)[-1].u.abs().mean())))
    for fine, coarse in zip(*found, strict=True):
        assert coarse == pytest.approx(fine, rel=0.1)
    assert found[0][2] > 0.3


def test_the_kernel_is_a_gaussian_in_millimetres_symmetric_and_positive() -> None:
    shape, spacing, sigma = (1, 41, 61), (3.0, 2.0, 1.0), 5.0
    point = torch.zeros(1, *shape, dtype=torch.float64)
    point[0, 0, 20, 30] = 1.0 / (2.0 * 1.0)  # unit mass
    found = GaussianKernel(shape, spacing, (sigma,), point)(point)[0, 0]
    y = (torch.arange(41, dtype=torch.float64) - 20.0)[:, None] * 2.0
    x = (torch.arange(61, dtype=torch.float64) - 30.0)[None, :]
    truth = torch.exp(-(x**2 + y**2) / (2.0 * sigma**2)) / (2.0 * torch.pi * sigma**2)
    assert float((found - truth).abs().max()) < 1e-4 * float(truth.max())
    kernel = GaussianKernel(VOLUME[0], VOLUME[1], (4.0, 1.0), point, rest_mm=3.0)
    a, b = noise(VOLUME[0], 1, 0.5), noise(VOLUME[0], 2, 0.5)
    assert float((a * kernel(b)).sum()) == pytest.approx(float((b * kernel(a)).sum()), rel=1e-12)
    assert float((a * kernel(a)).sum()) > 0.0
    assert float(kernel(a)[0, 0].abs().max()) == 0.0
