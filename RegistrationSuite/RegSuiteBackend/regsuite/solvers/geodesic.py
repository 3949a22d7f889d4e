"""Geodesic shooting of an image and its residual: LDDMM, metamorphosis and weighted metamorphosis as one discrete scheme.

    v = -a K(z grad I),   dz/dt = -div(z v),   dI/dt = -<grad I, v> + mu M_t z,   I_0 = S

K a Gaussian kernel, M_t in [0, 1] where intensity may be added. Here I_t = S o f_t + A_t with f_t the backward map (final points to
template points) and A_t what has been added, and z_t = det(D f_t) z_0 o f_t: template and z are read once through the map and are
not blurred by being carried from step to step. Euler steps, semi-Lagrangian, of length dt = 1/n:

    f_{k+1}(x) = f_k(x - dt v_k(x)),   A_{k+1}(x) = A_k(x - dt v_k(x)) + dt mu M_{k+1} z_{k+1}

Source: Francois, Maillard, Oppenheim, Pallud, Bloch, Gori and Glaunes, Weighted Metamorphosis, WBIR 2022, eq. (4). Differs from
it in: z and S are carried by the map; the energy holds the whole path, not the initial norm, which is no invariant while M_t
changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from regsuite.solvers.gaussian_kernel import GaussianKernel
from regsuite.solvers.lattice import Lattice

LEAST_VOLUME = 0.05
"""Smallest det of a map that a search may accept, ours: linear interpolation between the voxels then still does not fold."""

DataTerm = Callable[[torch.Tensor], tuple[float, torch.Tensor]]
"""I_1 (1, D, H, W) -> value, derivative by I_1."""


@dataclass(frozen=True)
class GeodesicModel:
    """steps: n; pull: a (rho / mu, or 1 for LDDMM); mu: intensity added per unit of z; rho: its cost against |v|^2.

    masks: (n + 1, D, H, W) M_t at t = 0, 1/n, ..., 1; None is 1 everywhere. Not read when mu is 0. support: (1, D, H, W), 0 or 1:
    added intensity that the flow carries out of it is dropped, so that A is exactly 0 outside; None is 1 everywhere. least_volume:
    see Geodesic.energy.
    """

    steps: int
    pull: float
    mu: float
    rho: float
    masks: torch.Tensor | None = None
    support: torch.Tensor | None = None
    least_volume: float = LEAST_VOLUME


@dataclass(frozen=True)
class Frame:
    """One time of a geodesic: u = f - id (d, D, H, W) mm, image and added (1, D, H, W), residual z (1, D, H, W)."""

    u: torch.Tensor
    image: torch.Tensor
    added: torch.Tensor
    z: torch.Tensor


class Geodesic:
    """Shoots from `source` (1, D, H, W) on `lattice`, and differentiates what comes out by z_0 with a hand-written adjoint.

    Map and A of every step are kept; where the rest would not fit into keep_bytes it is computed again on the way back, and memory
    grows by d + 1 numbers per voxel and step.
    """

    def __init__(
        self,
        source: torch.Tensor,
        lattice: Lattice,
        kernel: GaussianKernel,
        model: GeodesicModel,
        keep_bytes: float = 1e9,
    ) -> None:
        self.source, self.lattice, self.kernel, self.model = source, lattice, kernel, model
        rest = 4 + lattice.dimensions * (lattice.dimensions + 2)  # numbers per voxel of _State and velocity
        self.keeps_all = rest * source.numel() * source.element_size() * model.steps <= keep_bytes
        self.dt = 1.0 / model.steps

    def _mask(self, k: int) -> torch.Tensor | float:
        return 1.0 if self.model.masks is None else self.model.masks[k]

    def _read(self, k: int, moving: torch.Tensor, pair: torch.Tensor, complete: bool = False) -> _State:
        """Everything at time k from `moving`, the map and, when intensity is added, A; pair: source and z_0.

        complete: A holds already what is added in the step that led to k; otherwise it is added here, in place.
        """
        d = self.lattice.dimensions
        u = moving[:d]
        if k == 0:  # the identity
            return _State(moving, pair[:1], pair[1:], None, None, pair[1:])
        s, q = self.lattice.sample(pair, u).split(1)
        det, columns = self.lattice.determinant(u)
        z = det * q
        if len(moving) == d:
            return _State(moving, s, q, det, columns, z)
        if not complete:
            moving[d:].addcmul_(z, self._source_of(k))
        return _State(moving, s + moving[d:], q, det, columns, z)

    def _source_of(self, k: int) -> torch.Tensor:
        """dt mu M_k, (1, D, H, W) or a number as a tensor."""
        mask = self._mask(k)
        scale = self.dt * self.model.mu
        return mask[None] * scale if isinstance(mask, torch.Tensor) else self.source.new_tensor(scale)

    def _velocity(self, state: _State) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """grad I, m = z grad I, v."""
        slope = self.lattice.gradient(state.image)
        momentum = slope * state.z
        return slope, momentum, self.kernel(momentum).mul_(-self.model.pull)

    def _advance(self, k: int, state: _State, v: torch.Tensor) -> torch.Tensor:
        """Map and carried intensity at time k + 1."""
        w = v * -self.dt
        d = len(w)
        moved = torch.zeros_like(state.moving) if k == 0 else self.lattice.sample(state.moving, w)
        moved[:d].add_(w)
        if len(moved) > d and self.model.support is not None:
            moved[d:].mul_(self.model.support)
        return moved

    def start(self) -> torch.Tensor:
        """u = 0 and, when intensity may be added, A = 0, as channels."""
        return self.source.new_zeros(self.lattice.dimensions + (self.model.mu > 0.0), *self.source.shape[1:])

    def first_change(self, length_mm: float) -> float:
        """How large |z_0| may become in a first step so that velocities stay below about `length_mm`."""
        largest = float(self.kernel(self.lattice.gradient(self.source).abs_()).max())
        return length_mm / max(self.model.pull * largest, 1e-12)

    def frames(self, z0: torch.Tensor) -> list[Frame]:
        """The n + 1 times of the geodesic."""
        d = self.lattice.dimensions
        return [
            Frame(s.moving[:d], s.image, s.moving[d:] if len(s.moving) > d else torch.zeros_like(s.image), s.z)
            for s, _ in self._path(z0)
        ]

    def norms(self, z0: torch.Tensor) -> list[tuple[float, float]]:
        """(|v_t|_V^2, rho |z_t|_M^2), means over the image, at t = 0, dt, ..., 1. Their sum is constant when M is."""
        return [(self._kinetic(*motion[1:]), self._added_cost(k, s.z)) for k, (s, motion) in enumerate(self._path(z0))]

    def _path(self, z0: torch.Tensor) -> Iterator[tuple[_State, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
        """State and velocity (see `_velocity`) at the n + 1 times."""
        moving, pair = self.start(), torch.cat([self.source, z0])
        for k in range(self.model.steps + 1):
            state = self._read(k, moving, pair)
            motion = self._velocity(state)
            yield state, motion
            if k < self.model.steps:
                moving = self._advance(k, state, motion[2])

    def _kinetic(self, momentum: torch.Tensor, v: torch.Tensor) -> float:
        return -self.model.pull * float((momentum * v).sum()) / self.source.numel()

    def _added_cost(self, k: int, z: torch.Tensor) -> float:
        if self.model.mu <= 0.0:
            return 0.0
        return self.model.rho * float((z * z * self._mask(k)).sum()) / self.source.numel()

    def energy(
        self, z0: torch.Tensor, data: DataTerm, weight: float, tick: Callable[[], None] = lambda: None
    ) -> tuple[float, torch.Tensor, dict[str, float]]:
        """E(z_0) = data(I_1) + weight * sum_k dt (|v_k|_V^2 + rho |z_{k+1}|_{M_{k+1}}^2), its gradient, and its parts.

        Norms are means over the image, |v|_V^2 = a^2 <m, K m>. tick() is called before every step, there and back. A path whose map
        shrinks some volume below `least_volume` is infinitely dear (and has no gradient): a line search steps back from folds.
        """
        n, kept = self.model.steps, []
        moving, pair = self.start(), torch.cat([self.source, z0])
        kinetic = added = 0.0
        for k in range(n):
            tick()
            state = self._read(k, moving, pair)
            if self._folds(state):
                return _refused(z0)
            slope, momentum, v = self._velocity(state)
            kept.append((moving, (state, slope, v) if self.keeps_all else None))
            kinetic += self.dt * self._kinetic(momentum, v)
            added += self.dt * self._added_cost(k, state.z) if k else 0.0
            moving = self._advance(k, state, v)
        state = self._read(n, moving, pair)
        if self._folds(state):
            return _refused(z0)
        added += self.dt * self._added_cost(n, state.z)
        value, image_bar = data(state.image)
        gradient = torch.zeros_like(z0)
        bar = self._read_back(n, state, pair, image_bar, torch.zeros_like(image_bar), torch.zeros_like(moving), weight, gradient)
        for k in reversed(range(n)):
            tick()
            moving, known = kept.pop()
            if known is None:
                state = self._read(k, moving, pair, complete=True)
                slope, _, v = self._velocity(state)
                known = (state, slope, v)
            bar = self._step_back(k, known, pair, bar, weight, gradient)
        parts = {"data": value, "velocity": kinetic, "intensity": added}
        return value + weight * (kinetic + added), gradient, parts

    def folds(self, z0: torch.Tensor) -> bool:
        """Whether `energy` would refuse z_0."""
        return any(self._folds(state) for state, _ in self._path(z0))

    def _folds(self, state: _State) -> bool:
        return state.det is not None and float(state.det.min()) < self.model.least_volume

    def _step_back(
        self,
        k: int,
        known: tuple[_State, torch.Tensor, torch.Tensor],
        pair: torch.Tensor,
        bar: torch.Tensor,
        weight: float,
        gradient: torch.Tensor,
    ) -> torch.Tensor:
        """From the adjoint of what moves after step k to that before it; known: state, grad I and v of the step."""
        state, slope, v = known
        d, pull = len(v), self.model.pull
        if len(bar) > d and self.model.support is not None:
            bar[d:].mul_(self.model.support)
        before, w_bar = (bar, bar[:d]) if k == 0 else self.lattice.sample_back(bar, state.moving, v * -self.dt)
        if k:
            w_bar.add_(bar[:d])
        # v = -a K m and the kinetic part a^2 <m, K m>: both go back through K at once
        m_bar = self.kernel(w_bar).mul_(self.dt * pull).add_(v, alpha=-2.0 * weight * self.dt * pull / self.source.numel())
        z_bar = (m_bar * slope).sum(dim=0, keepdim=True)
        if k == 0:  # z is z_0; template and map are given
            gradient += z_bar
            return before
        return self._read_back(k, state, pair, self.lattice.gradient_back(m_bar.mul_(state.z)), z_bar, before, weight, gradient)

    def _read_back(
        self, k: int, state: _State, pair: torch.Tensor, image_bar: torch.Tensor, z_bar: torch.Tensor, bar: torch.Tensor,
        weight: float, gradient: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Adjoint of `_read` for k > 0: adds to `gradient`, returns the adjoint of what moves (in `bar`)."""
        assert state.det is not None and state.columns is not None
        d = self.lattice.dimensions
        if len(bar) > d:
            added_bar, source = bar[d:].add_(image_bar), self._source_of(k)
            z_bar.addcmul_(source, added_bar)
            z_bar.addcmul_(source, state.z, value=2.0 * weight * self.model.rho / (self.model.mu * self.source.numel()))
        read = torch.cat([image_bar, state.det * z_bar])
        pair_bar, u_bar = self.lattice.sample_back(read, pair, state.moving[:d])
        gradient += pair_bar[1:]
        bar[:d].add_(u_bar)
        self.lattice.determinant_back(state.q * z_bar, state.columns, bar[:d])
        return bar


def _refused(z0: torch.Tensor) -> tuple[float, torch.Tensor, dict[str, float]]:
    return math.inf, torch.zeros_like(z0), {}


@dataclass
class _State:
    """One time: see Geodesic._read. det and columns are None for the identity at time 0."""

    moving: torch.Tensor
    image: torch.Tensor
    q: torch.Tensor
    det: torch.Tensor | None
    columns: Sequence[torch.Tensor] | None
    z: torch.Tensor
