"""A cohort of phantom children: killed at a random moment, one worker and two, memory, a corrupt scan, a dask scheduler."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from regsuite.io import write_image
from regsuite.phantoms import make_phantom

AGES = (2.0, 3.0, 5.0)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def run(out: Path, subjects: int, size: tuple[int, ...], only: set[str]) -> None:
    """All parts that are not known yet; prints what was found."""
    data, cache = out / "bids", out / "cohort.json"
    known = json.loads(cache.read_text()) if cache.exists() else {}
    write_bids(data, subjects, size)
    parts = {
        "one": lambda: complete(data, out / "one", 1),
        "two": lambda: complete(data, out / "two", 2),
        "killed": lambda: killed(data, out / "killed", known["one"]["wall_s"]),
        "scheduler": lambda: on_scheduler(data, out / "scheduler"),
    }
    for name, part in parts.items():
        if name in only or (not only and name not in known):
            shutil.rmtree(out / name, ignore_errors=True)
            known[name] = part()
            cache.write_text(json.dumps(known, indent=1))
            print(name, {k: v for k, v in known[name].items() if k != "digest"}, flush=True)
    report(known)


def write_bids(root: Path, subjects: int, size: tuple[int, ...]) -> None:
    """sub-NN with three sessions each; the scan of session 2 of the subject in the middle is cut short."""
    if (root / "dataset_description.json").exists():
        return
    for number in range(1, subjects + 1):
        subject = f"sub-{number:02d}"
        rows = ["session_id\tage"]
        child = make_phantom("growth", number, size=size, ages=AGES)
        for visit, scan in enumerate(child.series, start=1):
            anatomy = root / subject / f"ses-{visit}" / "anat"
            anatomy.mkdir(parents=True, exist_ok=True)
            write_image(scan.image, anatomy / f"{subject}_ses-{visit}_T1w.nii.gz")
            if visit == 1:
                write_image(scan.labels, anatomy / f"{subject}_ses-1_dseg.nii.gz")
            rows.append(f"ses-{visit}\t{scan.age_years:g}")
        (root / subject / f"{subject}_sessions.tsv").write_text("\n".join(rows) + "\n")
    middle = f"sub-{(subjects + 1) // 2:02d}"
    scan_path = root / middle / "ses-2" / "anat" / f"{middle}_ses-2_T1w.nii.gz"
    scan_path.write_bytes(scan_path.read_bytes()[:20_000])
    (root / "dataset_description.json").write_text(json.dumps({"Name": "phantom children", "BIDSVersion": "1.9.0"}))


def command(data: Path, out: Path, *extra: str) -> list[str]:
    """What a user types."""
    words = [sys.executable, "-m", "regsuite.cli", "longitudinal", str(data), "-o", str(out)]
    return [*words, "--preset", "Preview", "--no-bias", *extra]


class Watch(threading.Thread):
    """Peak resident memory (MiB) of every process below one, and the CPU seconds of them all, twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._top, self.peaks, self.cpu = psutil.Process(pid), {}, {}
        self.start()

    def run(self) -> None:
        while True:
            try:
                for process in [self._top, *self._top.children(recursive=True)]:
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                    self.peaks[process.pid] = max(self.peaks.get(process.pid, 0.0), process.memory_info().rss / 2**20)
            except psutil.NoSuchProcess:
                if not self._top.is_running():
                    return
            time.sleep(0.5)

    def workers(self) -> list[float]:
        """Peaks of the processes that did work (more than a second of it), without the one at the top."""
        return sorted(round(mib) for pid, mib in self.peaks.items() if pid != self._top.pid and self.cpu[pid] > 2.0)


def complete(data: Path, out: Path, workers: int) -> dict[str, object]:
    """An undisturbed run."""
    began = time.perf_counter()
    words = command(data, out, "--workers", str(workers), "-q")
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    watch = Watch(process.pid)
    said = process.communicate()[0]
    wall = time.perf_counter() - began
    facts = {"wall_s": wall, "cpu_s": sum(watch.cpu.values()), "worker_mib": watch.workers(), "returncode": process.returncode}
    return facts | {"failures": said.strip().splitlines(), "digest": digest(out)}


def killed(data: Path, out: Path, wall_s: float) -> dict[str, object]:
    """SIGKILL for the command at a random moment, three times; then a run to the end."""
    rng, moments, done = random.Random(time.time_ns()), [], []
    for _ in range(3):
        process = subprocess.Popen(command(data, out, "--workers", "2", "-q"), env=ENVIRONMENT)
        moments.append(rng.uniform(0.1, 0.3) * wall_s)
        time.sleep(moments[-1])
        process.send_signal(signal.SIGKILL)
        process.wait()
        done.append(len(list(out.glob("sub-*"))))
    facts = complete(data, out, 2)
    return facts | {"killed_after_s": [round(m, 1) for m in moments], "subjects_done": done}


@contextmanager
def scheduler() -> Iterator[str]:
    """A dask scheduler and one worker in processes of their own; gives the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    python = [sys.executable, "-m"]
    started = [
        subprocess.Popen(
            [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
            env=ENVIRONMENT, stderr=subprocess.DEVNULL,
        ),
        subprocess.Popen(
            [*python, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"],
            env=ENVIRONMENT, stderr=subprocess.DEVNULL,
        ),
    ]  # fmt: skip
    try:
        time.sleep(5.0)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def on_scheduler(data: Path, out: Path) -> dict[str, object]:
    """The same on a scheduler that was there before."""
    with scheduler() as address:
        began = time.perf_counter()
        done = subprocess.run(
            command(data, out, "--scheduler", address, "-q"), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=False
        )
        wall = time.perf_counter() - began
    said = done.stdout.strip().splitlines()
    return {"wall_s": wall, "returncode": done.returncode, "failures": said, "digest": digest(out)}


def digest(folder: Path) -> str:
    """One hash of the names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()[:16]


def report(known: dict[str, dict]) -> None:
    """The table in Markdown."""
    print("| run | wall (s) | CPU (s) | peak of each worker (MiB) | exit | bytes |")
    print("|---|---|---|---|---|---|")
    for name, row in known.items():
        memory = ", ".join(str(m) for m in row.get("worker_mib", [])) or "-"
        cpu = f"{row['cpu_s']:.0f}" if "cpu_s" in row else "-"
        print(f"| {name} | {row['wall_s']:.0f} | {cpu} | {memory} | {row['returncode']} | {row['digest']} |")
    if {"one", "two"} <= known.keys():
        print(f"\nTwo workers: {known['one']['wall_s'] / known['two']['wall_s']:.2f} times as fast as one.")
