"""Installing torch: when, with whose consent, and what each failure is called. Every collaborator is a fake."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import app

app.start()

import slicer  # noqa: E402
from regsuite_slicer import install  # noqa: E402
from regsuite_slicer.install import State, TorchInstaller, Tried, explain_import_error  # noqa: E402

BACKEND = Path(install.__file__).parents[1]


class World:
    """A computer: package records and files, what the user answers, and what was asked and done (`log`)."""

    def __init__(self, **versions: str) -> None:
        self.records, self.files = dict(versions), set(versions)
        self.leftovers: set[str] = set()
        self.log: list[str] = []
        self.consent, self.testing_mode, self.has_extension = True, False, False
        self.failure: Exception | None = None
        self.dry_run, self.tried = "", Tried(0)

    def find_spec(self, name: str) -> Any:
        if name in self.files:
            return importlib.machinery.ModuleSpec(name, None, origin=f"site-packages/{name}/__init__.py")
        return importlib.machinery.ModuleSpec(name, None) if name in self.leftovers else None

    def version(self, name: str) -> str:
        if name not in self.records:
            raise importlib.metadata.PackageNotFoundError(name)
        return self.records[name]

    def add(self, name: str) -> None:
        self.records[name], self.leftovers = "2.10.0+cpu", self.leftovers - {name}
        self.files.add(name)

    def pip(self, requirements: Sequence[str]) -> bool:
        self.log.append(f"pip {' '.join(requirements)}")
        if self.failure is not None:
            raise self.failure
        for requirement in requirements if self.consent else ():
            self.add(requirement.split(">=")[0])
        return self.consent

    def installTorch(self, askConfirmation: bool = False, torchVersionRequirement: str | None = None) -> Any:
        self.log.append(f"extension torch{torchVersionRequirement} ask={askConfirmation}")
        if self.failure is not None:
            raise self.failure
        if self.consent:
            self.add("torch")
        return types.SimpleNamespace() if self.consent else None

    def uninstall(self, name: str) -> None:
        self.log.append(f"uninstall {name}")
        self.records.pop(name, None)
        self.files.discard(name)

    def confirm(self, text: str) -> bool:
        self.log.append("confirm")
        return self.consent

    def try_import(self) -> Tried:
        self.log.append("import")
        return self.tried

    def diagnose(self, requirements: Sequence[str]) -> str:
        return self.dry_run

    def installer(self) -> TorchInstaller:
        return TorchInstaller(
            find_spec=self.find_spec,
            version=self.version,
            try_import=self.try_import,
            pip=self.pip,
            uninstall=self.uninstall,
            extension=lambda: self if self.has_extension else None,
            confirm=self.confirm,
            diagnose=self.diagnose,
            testing=lambda: self.testing_mode,
        )


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and "\n" not in text and ". " not in text.replace("...", "")


def test_nothing_happens_when_all_is_there() -> None:
    world = World(torch="2.4.0", safetensors="0.4.5")
    outcome = world.installer().ensure()
    assert outcome.ready and outcome.message == "PyTorch 2.4.0 is installed."
    assert world.log == []


def test_pip_installs_what_is_missing_and_it_is_tried() -> None:
    world = World(safetensors="0.5")
    assert world.installer().check().state is State.MISSING
    assert world.installer().ensure().ready
    assert world.log == ["pip torch>=2.4", "import"]
    bare = World()
    assert bare.installer().ensure().ready
    assert bare.log == ["pip torch>=2.4 safetensors>=0.4", "import"]


def test_the_extension_comes_first() -> None:
    world = World()
    world.has_extension = True
    assert world.installer().ensure().ready
    assert world.log == ["extension torch>=2.4 ask=True", "pip safetensors>=0.4", "import"]
    small = World(torch="2.5")
    small.has_extension = True
    assert small.installer().ensure().ready
    assert small.log == ["pip safetensors>=0.4", "import"]


@pytest.mark.parametrize("extension", [True, False])
def test_declined(extension: bool) -> None:
    world = World()
    world.has_extension, world.consent = extension, False
    outcome = world.installer().ensure()
    assert outcome.state is State.DECLINED and "you declined" in outcome.message
    assert len(world.log) == 1 and world.records == {}
    assert world.installer().ensure().state is State.DECLINED  # asked again
    assert len(world.log) == 2


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (
            "NewConnectionError: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution",
            State.OFFLINE,
        ),
        (
            "error: Request failed after 3 retries\n  Caused by: dns error: failed to lookup address information",
            State.OFFLINE,
        ),
        ("ReadTimeoutError: Read timed out.", State.OFFLINE),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", State.FAILED),
        ("ERROR: No matching distribution found for torch>=2.4", State.FAILED),
    ],
)
def test_pip_fails(said: str, state: State) -> None:
    world = World()
    world.failure, world.dry_run = subprocess.CalledProcessError(1, "pip install"), said
    outcome = world.installer().ensure()
    assert outcome.state is state and is_one_sentence(outcome.message)
    assert ("disk is full" in outcome.message) == ("Errno 28" in said)
    assert "import" not in world.log


def test_extension_installs_but_the_import_fails() -> None:
    """PyTorchUtils imports torch after installing it; a broken library raises there."""
    world = World(safetensors="0.5")
    world.has_extension = True

    def install_torch(**_: Any) -> Any:
        world.add("torch")
        raise OSError("[WinError 1114] A dynamic link library (DLL) initialization routine failed")

    world.installTorch = install_torch  # type: ignore[method-assign]
    world.tried = Tried(
        1, "Traceback ...\nOSError: [WinError 1114] Error loading c10.dll or one of its dependencies.\n"
    )
    outcome = world.installer().ensure()
    assert outcome.state is State.BROKEN
    assert (
        "does not start (OSError: [WinError 1114] Error loading c10.dll or one of its dependencies)" in outcome.message
    )


@pytest.mark.parametrize(
    ("records", "files", "leftovers", "detail"),
    [
        ({"torch": "2.5"}, set(), set(), "a package record without files"),
        ({}, {"torch"}, set(), "files without a package record"),
        ({}, set(), {"torch"}, "a folder without code"),
    ],
)
def test_partial_is_seen_and_repaired(
    records: dict[str, str], files: set[str], leftovers: set[str], detail: str
) -> None:
    world = World()
    world.records, world.files, world.leftovers = records | {"safetensors": "0.4"}, files | {"safetensors"}, leftovers
    outcome = world.installer().check()
    assert outcome.state is State.PARTIAL and f"(torch: {detail})" in outcome.message
    world.consent = False
    assert world.installer().ensure().state is State.DECLINED
    assert world.log == ["confirm"]  # nothing was removed without consent
    world.consent = True
    assert world.installer().ensure().ready
    assert world.log[1:] == ["confirm", "uninstall torch", "pip torch>=2.4", "import"]


def test_outdated_is_updated() -> None:
    world = World(torch="2.3.1+cu121", safetensors="0.4")
    outcome = world.installer().check()
    assert outcome.state is State.OUTDATED and "torch 2.3.1+cu121 (expected 2.4 or newer)" in outcome.message
    assert world.installer().ensure().ready
    assert world.log == ["pip torch>=2.4", "import"]
    assert World(torch="2.10.0", safetensors="1.0rc1").installer().check().ready  # 10 is more than 4


def test_broken_is_repaired_on_demand_only() -> None:
    world = World(torch="2.5", safetensors="0.5")
    world.tried = Tried(1, "ImportError: libcudart.so.12: cannot open shared object file")
    assert world.installer().verify().state is State.BROKEN
    assert world.installer().ensure().ready and world.log == ["import"]
    world.tried = Tried(0)
    assert world.installer().ensure(repair=True).ready
    assert world.log[1:] == ["confirm", "uninstall torch", "pip torch>=2.4", "import"]


@pytest.mark.parametrize(
    ("error", "code", "state", "detail"),
    [
        ("ModuleNotFoundError: No module named 'torch'", 1, State.MISSING, "torch"),
        ("ModuleNotFoundError: No module named 'safetensors'", 1, State.MISSING, "safetensors"),
        ("ModuleNotFoundError: No module named 'torch._C'", 1, State.PARTIAL, "'torch._C' is not there"),
        (
            "ModuleNotFoundError: No module named 'typing_extensions'",
            1,
            State.PARTIAL,
            "'typing_extensions' is not there",
        ),
        (
            "ImportError: DLL load failed while importing _C",
            1,
            State.BROKEN,
            "ImportError: DLL load failed while importing _C",
        ),
        ("AttributeError: module 'torch' has no attribute 'version'", 1, State.BROKEN, "no attribute 'version'"),
        ("", -11, State.BROKEN, "it crashed"),
    ],
)
def test_what_a_failed_import_means(error: str, code: int, state: State, detail: str) -> None:
    outcome = explain_import_error(f"Traceback (most recent call last):\n  File x\n{error}\n" if error else "", code)
    assert outcome.state is state and detail in outcome.message and is_one_sentence(outcome.message)


def test_nothing_is_installed_in_testing_mode() -> None:
    world = World()
    world.testing_mode = True
    assert world.installer().ensure().state is State.MISSING
    assert world.log == []


def test_older_slicer_asks_then_installs_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer 5.10: no slicer.packaging."""
    asked, done = [], []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: asked.append(text) or len(asked) > 1)
    monkeypatch.setattr(slicer.util, "pip_install", done.append)
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    assert install._pip(["torch>=2.4", "safetensors>=0.4"]) is False and done == []
    assert install._pip(["torch>=2.4", "safetensors>=0.4"]) is True and done == ["torch>=2.4", "safetensors>=0.4"]
    assert "torch>=2.4, safetensors>=0.4" in asked[0]


def test_newer_slicer_asks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer 5.11 and later: slicer.packaging.pip_ensure raises RuntimeError when the user declines."""
    calls: list[Any] = []

    def pip_ensure(requirements: list[str], requester: str) -> None:
        calls.append((requirements, requester))
        if len(calls) == 1:
            raise RuntimeError("declined")

    module = types.ModuleType("slicer.packaging")
    module.pip_ensure = pip_ensure  # type: ignore[attr-defined]
    module.__spec__ = importlib.machinery.ModuleSpec("slicer.packaging", None)
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    assert install._pip(["torch>=2.4"]) is False
    assert install._pip(["torch>=2.4"]) is True
    assert calls == [(["torch>=2.4"], "RegistrationSuite")] * 2


def test_the_real_check_and_the_real_try() -> None:
    """In this environment torch is there; the import happens in another process."""
    code = (
        "import sys; from regsuite_slicer.install import TorchInstaller; i = TorchInstaller(testing=lambda: False); "
        "print(i.check().state.value, i.verify().state.value, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**_environment()})
    assert done.stdout.split() == ["installed", "installed", "False"], done.stderr


def test_the_bridge_imports_neither_torch_nor_slicer() -> None:
    names = ("world", "arrays", "nodes", "results", "views", "install")
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module('regsuite_slicer.' + name)\n"
        "print(sorted({'torch', 'slicer', 'vtk', 'qt', 'SimpleITK', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(BACKEND)}
