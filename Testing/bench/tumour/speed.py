"""Speed beside demeter-metamorphosis (the authors' package): one gradient, and the time to the same energy. One thread.

Both shoot v = -rho K(p grad I), dI/dt = -<grad I, v> + (1 - rho) p on the same picture, grid, number of steps and Gaussian
(1 mm per pixel). CPU seconds; gradients are taken in turn and the least of several counts, so that a busy machine matters little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from regsuite.ops.filters import downsample
from regsuite.solvers import lbfgs
from regsuite.solvers.gaussian_kernel import GaussianKernel
from regsuite.solvers.geodesic import DataTerm, Geodesic, GeodesicModel
from regsuite.solvers.lattice import Lattice

from Testing.bench.tumour import figures

Task = tuple[str, Callable[[], dict[str, Any]]]
RHO, SIGMA, STEPS, WEIGHT, ITERATIONS = 0.9, 6.0, 10, 1e-5, 20


def tasks() -> Iterator[Task]:
    """Gradients in 2D and 3D, and the whole optimisation in 2D."""
    yield "speed-gradient-2d", lambda: gradient("one gradient, 240 x 240, 10 steps", *_disc(240))
    yield "speed-gradient-3d", lambda: gradient("one gradient, 64 x 64 x 64, 10 steps", *_ball(64), repeats=2)
    yield "speed-energy-2d", lambda: same_energy(f"energy of {ITERATIONS} of its L-BFGS iterations, 120 x 120", *_disc(120))


def _disc(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    figure = figures.growing_disc()
    source, target = (downsample(image.data, (1, n, n)) for image in (figure.template, figure.patient))
    return source, target


def _ball(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    line = torch.linspace(-1.0, 1.0, n)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    radius = torch.sqrt(x**2 + y**2 + z**2)[None]
    return tuple(torch.sigmoid(30.0 * (edge - radius)) for edge in (0.4, 0.55))  # type: ignore[return-value]


def _shooting(source: torch.Tensor) -> Geodesic:
    spacing = (1.0, 1.0, 1.0)
    lattice = Lattice(source.shape[1:], spacing, source)
    kernel = GaussianKernel(lattice.shape, spacing, (SIGMA,), source)
    return Geodesic(source, lattice, kernel, GeodesicModel(STEPS, RHO, 1.0 - RHO, 1.0))


def _ours(source: torch.Tensor, target: torch.Tensor) -> Callable[[torch.Tensor], tuple[float, torch.Tensor, dict[str, float]]]:
    shooting = _shooting(source)

    def data(image: torch.Tensor) -> tuple[float, torch.Tensor]:
        rest = image - target
        return float((rest * rest).mean()), rest * (2.0 / rest.numel())

    term: DataTerm = data
    return lambda z: shooting.energy(z, term, WEIGHT)


def _peer(source: torch.Tensor, target: torch.Tensor, optimiser: str = "LBFGS_torch") -> Any:
    from demeter.metamorphosis import Metamorphosis_integrator, Metamorphosis_Shooting, Ssd  # type: ignore[import-not-found]
    from demeter.utils.reproducing_kernels import GaussianRKHS  # type: ignore[import-not-found]

    flat = source.shape[1] == 1
    a, b = (image if flat else image[None] for image in (source, target))
    kernel = GaussianRKHS((SIGMA,) * (2 if flat else 3), border_type="constant")
    way = Metamorphosis_integrator(method="semiLagrangian", rho=RHO, kernelOperator=kernel, n_step=STEPS, dx_convention="pixel")
    return Metamorphosis_Shooting(
        a, b, way, cost_cst=WEIGHT, data_term=Ssd(b), optimizer_method=optimiser, hamiltonian_integration=False
    )


def gradient(case: str, source: torch.Tensor, target: torch.Tensor, repeats: int = 5) -> dict[str, Any]:
    """Least CPU seconds of one energy with its gradient, at the same small residual."""
    torch.set_num_threads(1)
    p = 0.05 * torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
    energy, peer = _ours(source, target), _peer(source, target)

    def theirs() -> None:
        leaf = (p if source.shape[1] == 1 else p[None]).clone().requires_grad_(True)
        peer.cost(leaf).backward()

    taken: dict[str, list[float]] = {"peer_s": [], "ours_s": []}
    for _ in range(repeats):
        taken["peer_s"].append(_cpu(theirs))
        taken["ours_s"].append(_cpu(lambda: energy(p)))
    return {"case": case} | {name: min(values) for name, values in taken.items()} | {"all": taken}


def same_energy(case: str, source: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
    """CPU seconds of the package's L-BFGS, and of ours until our energy is that of the package's answer or lower."""
    torch.set_num_threads(1)
    energy, peer = _ours(source, target), _peer(source, target)
    p = torch.zeros(source.shape, requires_grad=True)
    peer_s = _cpu(lambda: peer.forward(p, n_iter=ITERATIONS, grad_coef=1.0, verbose=False))
    answer = peer.to_analyse[0].detach().view(source.shape)
    goal = energy(answer)[0]
    apart = float((_shooting(source).frames(answer)[-1].image - peer.mp.image.detach().view(source.shape)).square().mean().sqrt())
    if not apart < 0.2 * float((source - target).square().mean().sqrt()):
        raise RuntimeError(f"The two models do not shoot to the same image: {apart:.3g} apart (root mean square).")
    start = energy(torch.zeros_like(source))[0]
    begin = time.process_time()
    reached: list[float] = []

    def report(iteration: int, value: float, parts: dict[str, float]) -> None:
        if value <= goal and not reached:
            reached.append(time.process_time() - begin)

    found = lbfgs.minimise(energy, torch.zeros_like(source), 200, 0.5, tolerance=0.0, report=report)
    if not reached:
        raise RuntimeError(f"The energy {goal:.4g} was not reached: {found.value:.4g}.")
    energies = {"energy_start": start, "energy_goal": goal, "ours_end": found.value}
    return {"case": case, "peer_s": peer_s, "ours_s": reached[0], "images_apart_rms": apart} | energies


def _cpu(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin
