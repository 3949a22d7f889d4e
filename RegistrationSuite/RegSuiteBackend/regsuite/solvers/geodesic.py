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
from collections.abc import Callable, Sequence
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

    Only (u, A) of every step is kept; the rest is computed again on the way back, so memory grows by d + 1 numbers per voxel and
    step.
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

    def _read(self, k: int, u: torch.Tensor, carried: torch.Tensor | None, z0: torch.Tensor) -> _State:
        """Everything at time k from the map and the carried part of A."""
        pair = torch.cat([self.source, z0])
        s, q = self.lattice.sample(pair, u).split(1)
        det, cofactors = self.lattice.determinant(u)
        z = det * q
        if carried is None:
            return _State(u, None, pair, s, q, det, cofactors, z)
        added = carried if k == 0 else torch.addcmul(carried, z, self._source_of(k), value=1.0)
        return _State(u, added, pair, s + added, q, det, cofactors, z)

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

    def _advance(self, state: _State, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        w = v * -self.dt
        d = len(w)
        moving = state.u if state.added is None else torch.cat([state.u, state.added])
        moved = self.lattice.sample(moving, w)
        if state.added is None:
            return moved + w, None
        carried = moved[d:] if self.model.support is None else moved[d:] * self.model.support
        return moved[:d] + w, carried

    def start(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """u = 0 and, when intensity may be added, A = 0."""
        u = self.source.new_zeros(self.lattice.dimensions, *self.source.shape[1:])
        return u, torch.zeros_like(self.source) if self.model.mu > 0.0 else None

    def first_change(self, length_mm: float) -> float:
        """How large |z_0| may become in a first step so that velocities stay below about `length_mm`."""
        largest = float(self.kernel(self.lattice.gradient(self.source).abs_()).max())
        return length_mm / max(self.model.pull * largest, 1e-12)

    def frames(self, z0: torch.Tensor) -> list[Frame]:
        """The n + 1 times of the geodesic."""
        out = []
        u, carried = self.start()
        for k in range(self.model.steps + 1):
            state = self._read(k, u, carried, z0)
            added = torch.zeros_like(self.source) if state.added is None else state.added
            out.append(Frame(u, state.image, added, state.z))
            if k < self.model.steps:
                u, carried = self._advance(state, self._velocity(state)[2])
        return out

    def norms(self, z0: torch.Tensor) -> list[tuple[float, float]]:
        """(|v_t|_V^2, rho |z_t|_M^2), means over the image, at t = 0, dt, ..., 1. Their sum is constant when M is."""
        out = []
        u, carried = self.start()
        for k in range(self.model.steps + 1):
            state = self._read(k, u, carried, z0)
            _, momentum, v = self._velocity(state)
            out.append((self._kinetic(momentum, v), self._added_cost(k, state.z)))
            if k < self.model.steps:
                u, carried = self._advance(state, v)
        return out

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
        u, carried = self.start()
        kinetic = added = 0.0
        for k in range(n):
            tick()
            state = self._read(k, u, carried, z0)
            if self._folds(state):
                return _refused(z0)
            slope, momentum, v = self._velocity(state)
            kept.append((u, carried, (state, slope, v) if self.keeps_all else None))
            kinetic += self.dt * self._kinetic(momentum, v)
            added += self.dt * self._added_cost(k, state.z) if k else 0.0
            u, carried = self._advance(state, v)
        state = self._read(n, u, carried, z0)
        if self._folds(state):
            return _refused(z0)
        added += self.dt * self._added_cost(n, state.z)
        value, image_bar = data(state.image)
        gradient = torch.zeros_like(z0)
        back = self._read_back(n, state, image_bar, torch.zeros_like(image_bar), torch.zeros_like(u), weight, gradient)
        for k in reversed(range(n)):
            tick()
            u, carried, known = kept.pop()
            if known is None:
                state = self._read(k, u, carried, z0)
                slope, _, v = self._velocity(state)
                known = (state, slope, v)
            back = self._step_back(k, known, *back, weight, gradient)
        parts = {"data": value, "velocity": kinetic, "intensity": added}
        return value + weight * (kinetic + added), gradient, parts

    def folds(self, z0: torch.Tensor) -> bool:
        """Whether `energy` would refuse z_0."""
        u, carried = self.start()
        for k in range(self.model.steps + 1):
            state = self._read(k, u, carried, z0)
            if self._folds(state):
                return True
            if k < self.model.steps:
                u, carried = self._advance(state, self._velocity(state)[2])
        return False

    def _folds(self, state: _State) -> bool:
        return float(state.det.min()) < self.model.least_volume

    def _step_back(
        self,
        k: int,
        known: tuple[_State, torch.Tensor, torch.Tensor],
        u_bar: torch.Tensor,
        carried_bar: torch.Tensor | None,
        weight: float,
        gradient: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """From the adjoints of (u, carried) after step k to those before it; known: state, grad I and v of the step."""
        state, slope, v = known
        d, pull = len(v), self.model.pull
        moving = state.u if state.added is None else torch.cat([state.u, state.added])
        if carried_bar is not None and self.model.support is not None:
            carried_bar = carried_bar * self.model.support
        moved_bar = u_bar if carried_bar is None else torch.cat([u_bar, carried_bar])
        before, w_bar = self.lattice.sample_back(moved_bar, moving, v * -self.dt)
        w_bar = w_bar.add_(u_bar)
        # v = -a K m and the kinetic part a^2 <m, K m>: both go back through K at once
        m_bar = self.kernel(w_bar).mul_(self.dt * pull).add_(v, alpha=-2.0 * weight * self.dt * pull / self.source.numel())
        z_bar = (m_bar * slope).sum(dim=0, keepdim=True)
        image_bar = self.lattice.gradient_back(m_bar.mul_(state.z))
        if carried_bar is None:
            return self._read_back(k, state, image_bar, z_bar, before, weight, gradient)
        u_back, added_back = before[:d], before[d:]
        return self._read_back(k, state, image_bar, z_bar, u_back, weight, gradient, added_back)

    def _read_back(
        self, k: int, state: _State, image_bar: torch.Tensor, z_bar: torch.Tensor, u_bar: torch.Tensor,
        weight: float, gradient: torch.Tensor, added_bar: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
        """Adjoint of `_read`: adds to `gradient`, returns the adjoints of u and of the carried part."""
        if state.added is not None:
            added_bar = image_bar if added_bar is None else added_bar.add_(image_bar)
            if k:
                source = self._source_of(k)
                z_bar = z_bar.addcmul_(source, added_bar)
                z_bar.addcmul_(source, state.z, value=2.0 * weight * self.model.rho / (self.model.mu * self.source.numel()))
        pair_bar, read_bar = self.lattice.sample_back(torch.cat([image_bar, state.det * z_bar]), state.pair, state.u)
        gradient += pair_bar[1:]
        u_bar = u_bar + read_bar
        self.lattice.determinant_back(state.q * z_bar, state.cofactors, u_bar)
        return u_bar, added_bar


def _refused(z0: torch.Tensor) -> tuple[float, torch.Tensor, dict[str, float]]:
    return math.inf, torch.zeros_like(z0), {}


@dataclass
class _State:
    u: torch.Tensor
    added: torch.Tensor | None
    pair: torch.Tensor
    image: torch.Tensor
    q: torch.Tensor
    det: torch.Tensor
    cofactors: Sequence[Sequence[torch.Tensor]]
    z: torch.Tensor
