"""A training that was killed goes on as if nothing had happened; processes side by side train what one would."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from regsuite.errors import InputError
from regsuite.io.weights import load_weights
from regsuite.methods.lung import mlvirnet
from regsuite.pipeline.train import TrainRequest, run_training
from regsuite.pipeline.training_data import open_source
from regsuite.pipeline.training_report import Board
from regsuite.solvers.training import LoopSettings, Trainer

from Testing.unit.training import scans


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scans.folder(tmp_path_factory.mktemp("scans"))


def command(data: Path, out: Path, **settings: object) -> list[str]:
    pairs = [f"--set={key}={value}" for key, value in {**scans.TINY, **settings}.items()]
    return [sys.executable, "-m", "regsuite.cli", "train", "pediatric-unet", "--data", str(data), *pairs, "-q", "-o", str(out)]


def test_a_killed_run_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    """SIGKILL at a random step, anywhere in it; then --resume: the same log to the last digit, the same weights."""
    settings = {**scans.TINY, "steps": 24}
    whole = run_training(TrainRequest("pediatric-unet", str(tmp_path / "whole"), str(data), dict(settings), 5, "cpu"))
    out, least = tmp_path / "killed", random.randint(3, 15)
    process = subprocess.Popen([*command(data, out, steps=24), "--seed", "5", "--device", "cpu"])
    log = out / "log.csv"
    deadline = time.monotonic() + 240
    while not (out / "checkpoint.pt").exists() or len(log.read_text().splitlines()) < least:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run_training(TrainRequest("pediatric-unet", str(out), str(data), dict(settings), 5, "cpu", resume=True))
    for name in ("log.csv", "validation.csv"):
        assert (out / name).read_text() == (whole / name).read_text(), f"{name} after at least {least} steps"
    one, two = (load_weights(run / "weights.safetensors", "pediatric-unet", 1) for run in (whole, out))
    assert one[1].sha256 == two[1].sha256


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_stages_survive_a_stop(data: Path, stop: int) -> None:
    """Two nets, three steps each; stopped within the first, on the border, within the second."""
    config = mlvirnet.Training(steps=6, voxels=16, levels=2, width=2, validation_subjects=1, margin_mm=0.0)
    source, task = open_source(str(data), "thorax", "breathing", config, 0), mlvirnet.task(config)
    settings = LoopSettings(steps=6, learning_rate=1e-3)
    whole, first, rest = (Trainer(task, settings, source.train) for _ in range(3))
    losses = [whole.step()["loss"] for _ in range(6)]
    begun = [first.step()["loss"] for _ in range(stop)]
    rest.load(first.state())
    assert begun + [rest.step()["loss"] for _ in range(6 - stop)] == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), rest.model.parameters(), strict=True))


def test_the_coarse_net_stays_while_the_fine_one_learns(data: Path) -> None:
    config = mlvirnet.Training(steps=4, voxels=16, levels=2, width=2, validation_subjects=1, margin_mm=0.0)
    trainer = Trainer(
        mlvirnet.task(config), LoopSettings(4, 1e-2), open_source(str(data), "thorax", "breathing", config, 0).train
    )
    trainer.step()
    trainer.step()
    coarse = {name: value.clone() for name, value in trainer.model.nets[0].state_dict().items()}
    trainer.step()
    fine = trainer.model.nets[1].state_dict()
    assert all(torch.equal(value, trainer.model.nets[0].state_dict()[name]) for name, value in coarse.items())
    assert max(float((fine[name] - value).abs().max()) for name, value in coarse.items()) < 0.05  # carried, then one step
    assert any(not torch.equal(fine[name], value) for name, value in coarse.items())


def test_two_processes_train_what_one_would(data: Path, tmp_path: Path) -> None:
    """As torchrun starts them: two processes with one pair each make the steps of one process with two pairs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    out = tmp_path / "two"
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    line = [*command(data, out, steps=3), "--device", "cpu"]
    both = [subprocess.Popen(line, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in (0, 1)]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    settings = {**scans.TINY, "steps": 3, "accumulate": 2}
    one = run_training(TrainRequest("pediatric-unet", str(tmp_path / "one"), str(data), settings, 0, "cpu"))
    a, b = (load_weights(run / "weights.safetensors", "pediatric-unet", 1)[0] for run in (one, out))
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)


def test_a_run_is_not_overwritten_or_mixed(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    request = TrainRequest("pediatric-unet", str(out), str(data), {**scans.TINY, "steps": 2}, 0, "cpu")
    with pytest.raises(InputError, match="Cannot resume"):
        run_training(TrainRequest(**{**vars(request), "resume": True}))
    run_training(request)
    with pytest.raises(InputError, match="already holds"):
        run_training(request)
    for change in ({"seed": 1}, {"settings": {**scans.TINY, "steps": 3}}, {"method": "lung-mlvirnet"}):
        with pytest.raises(InputError, match="differ"):
            run_training(TrainRequest(**{**vars(request), "resume": True, **change}))
    (out / "checkpoint.pt").write_bytes((out / "checkpoint.pt").read_bytes()[:-500])
    with pytest.raises(InputError, match="damaged"):
        run_training(TrainRequest(**{**vars(request), "resume": True}))


def test_the_board_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for before, steps in ((0, range(5)), (3, range(3, 6))):
        board = Board(tmp_path, before)
        for step in steps:
            board.add(step, {"loss": float(step)})
        board.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(n, float(n)) for n in range(6)]
