"""The one training loop: every network here is trained by it, one optimiser step at a time.

What happens in step n is a function of the state, the seed and n: sample numbers, random numbers, learning rate and stage follow
from n alone. So a run that was killed goes on from its last state as if nothing had happened, bit for bit on one CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regsuite import check
from regsuite.errors import InputError, RegSuiteError
from regsuite.nets.pair import Pair


class Task(ABC):
    """What differs between networks: the module, the loss, and what it foretells.

    key, version: written into the weights; a change of the module or of its inputs needs another version. stages: the steps are
    shared out equally among them (progressive training).
    """

    key: str
    version: int = 1
    stages: int = 1

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with its first values (drawn from torch's generator)."""

    @abstractmethod
    def loss(self, model: nn.Module, pair: Pair, stage: int) -> tuple[torch.Tensor, dict[str, float]]:
        """The value to minimise and its parts by name."""

    @abstractmethod
    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        """(1, 3, D, H, W) voxels on the pair's grid: the answer of the network as it is now."""

    def measure(self, model: nn.Module, pair: Pair) -> dict[str, float] | None:
        """Own figures of a held-out pair for a network that answers no displacement; None: the displacement is measured."""
        return None

    def enter(self, model: nn.Module, stage: int) -> None:  # noqa: B027  # most networks have one stage
        """Called once, before the first step of a stage."""

    def settle(self, model: nn.Module, held_out: Iterable[Pair]) -> None:  # noqa: B027  # most networks are ready as they are
        """Called once, after the last step, with the held-out pairs on the model's device."""

    def trainable(self, model: nn.Module, stage: int) -> list[nn.Parameter]:
        """What this stage changes; everything by default."""
        return list(model.parameters())


@dataclass(frozen=True)
class LoopSettings:
    """steps: of the optimiser; accumulate: pairs whose gradients make one step; halve_every: steps after which the learning rate is
    halved, 0 never; mixed_precision: on GPUs; cpu_bfloat16: on processors; clip_norm: longest gradient, 0 any."""

    steps: int
    learning_rate: float
    halve_every: int = 0
    accumulate: int = 1
    seed: int = 0
    mixed_precision: bool = True
    cpu_bfloat16: bool = False
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        check.finite_number("steps", self.steps, 1, 10**9)
        check.finite_number("learning_rate", self.learning_rate, 0.0, 10.0)
        check.finite_number("accumulate", self.accumulate, 1, 10**4)


class Trainer:
    """Model, optimiser and the number of steps done. stream(n) gives pair number n; `group` is (rank, world) of data parallel
    processes, each of which takes every world-th pair; their gradients are averaged."""

    def __init__(
        self, task: Task, settings: LoopSettings, stream: Callable[[int], Pair], device: torch.device | str = "cpu",
        group: tuple[int, int] = (0, 1),
    ) -> None:  # fmt: skip
        self.task, self.settings, self.stream = task, settings, stream
        self.device, (self.rank, self.world) = torch.device(device), group
        torch.manual_seed(settings.seed)
        self.model = task.build().to(self.device)
        self.done = 0
        self._stage = -1
        self._optimiser: torch.optim.Optimizer | None = None
        on_gpu = self.device.type == "cuda"
        self._mixed = settings.mixed_precision if on_gpu else settings.cpu_bfloat16 and self.device.type == "cpu"
        self._half = torch.float16 if on_gpu and not torch.cuda.is_bf16_supported() else torch.bfloat16
        self._scaler = torch.amp.GradScaler("cuda", enabled=self._mixed and self._half == torch.float16)

    def stage_of(self, step: int) -> int:
        """Stage of a step."""
        return min(self.task.stages - 1, step * self.task.stages // self.settings.steps)

    def step(self) -> dict[str, float]:
        """One optimiser step; returns the loss and its parts, means over the pairs of this process.

        Raises RegSuiteError when the loss is no longer a finite number.
        """
        number, settings = self.done, self.settings
        stage = self.stage_of(number)
        optimiser = self._enter(stage)
        halvings = number // settings.halve_every if settings.halve_every else 0
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * 0.5**halvings
        self.model.train()
        total = self._gradients(stage, optimiser, self._mixed)
        if self._mixed and self.device.type == "cpu" and not self._finite(stage):
            total = self._gradients(stage, optimiser, False)  # bfloat16 has no gradient scaler to skip such a step
        self._share_gradients(stage)
        if settings.clip_norm > 0.0:
            nn.utils.clip_grad_norm_(self.task.trainable(self.model, stage), settings.clip_norm)
        self._scaler.step(optimiser)
        self._scaler.update()
        self.done = number + 1
        return total

    def _gradients(self, stage: int, optimiser: torch.optim.Optimizer, mixed: bool) -> dict[str, float]:
        """The gradients of this step and the mean loss with its parts; the same random numbers whenever it is called."""
        number, settings = self.done, self.settings
        torch.manual_seed((settings.seed * 1_000_003 + number * self.world + self.rank) % 2**63)
        optimiser.zero_grad(set_to_none=True)
        total: dict[str, float] = {}
        for part in range(settings.accumulate):
            index = (number * settings.accumulate + part) * self.world + self.rank
            pair = self.stream(index).to(self.device)
            with torch.autocast(self.device.type, dtype=self._half, enabled=mixed):
                loss, parts = self.task.loss(self.model, pair, stage)
            if not bool(torch.isfinite(loss.detach())):
                raise RegSuiteError(f"The loss of step {number} is not a finite number; lower the learning rate.")
            self._scaler.scale(loss / settings.accumulate).backward()
            for name, value in {"loss": float(loss.detach()), **parts}.items():
                total[name] = total.get(name, 0.0) + value / settings.accumulate
        self._scaler.unscale_(optimiser)
        return total

    def _finite(self, stage: int) -> bool:
        return all(bool(torch.isfinite(p.grad).all()) for p in self.task.trainable(self.model, stage) if p.grad is not None)

    def _enter(self, stage: int) -> torch.optim.Optimizer:
        if self._optimiser is None or stage != self._stage:
            if stage != self._stage:
                self.task.enter(self.model, stage)
            self._open(stage)
        assert self._optimiser is not None
        return self._optimiser

    def _open(self, stage: int) -> None:
        chosen = {id(p) for p in self.task.trainable(self.model, stage)}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        self._stage = stage
        self._optimiser = torch.optim.Adam(self.task.trainable(self.model, stage), lr=self.settings.learning_rate)

    def _share_gradients(self, stage: int) -> None:
        """The mean over all processes; every process then takes the same step."""
        if self.world == 1:
            return
        gradients = [p.grad for p in self.task.trainable(self.model, stage) if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.world
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        optimiser = None if self._optimiser is None else self._optimiser.state_dict()
        return {
            "done": self.done,
            "stage": self._stage,
            "model": self.model.state_dict(),
            "optimiser": optimiser,
            "scaler": self._scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same task and settings. Raises InputError when it belongs to another network."""
        try:
            self.model.load_state_dict(state["model"])
            self.done = int(state["done"])
            if state["optimiser"] is not None:
                self._open(int(state["stage"]))
                assert self._optimiser is not None
                self._optimiser.load_state_dict(state["optimiser"])
            self._scaler.load_state_dict(state["scaler"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise InputError("The checkpoint belongs to another network or another version of it.") from error
