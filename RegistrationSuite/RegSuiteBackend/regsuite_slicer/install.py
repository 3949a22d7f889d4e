"""torch and safetensors for the worker: installed when Apply is pressed and the user agrees, never before.

Nothing here imports torch: whether it is there is read from package records, whether it works is tried in a process of its own.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

LOWEST = {"torch": "2.4", "safetensors": "0.4"}
REQUESTER = "RegistrationSuite"
_NETWORK = re.compile(
    r"newconnectionerror|connection (error|refused|reset|aborted)|failed to establish|max retries|temporary failure in name|"
    r"name or service not known|getaddrinfo|timed? ?out|network is unreachable|no route to host|proxyerror|proxy error|dns error|"
    r"error sending request|could not connect",
    re.IGNORECASE,
)
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows would flash a console
_FULL = re.compile(r"no space left|errno 28|not enough space", re.IGNORECASE)


class State(Enum):
    """Whether the worker can run, and if not, why."""

    INSTALLED = "installed"
    MISSING = "missing"
    OUTDATED = "outdated"
    PARTIAL = "partial"
    BROKEN = "broken"
    DECLINED = "declined"
    OFFLINE = "offline"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """A state and one sentence about it, fit for the user."""

    state: State
    message: str

    @property
    def ready(self) -> bool:
        """Can the worker run?"""
        return self.state is State.INSTALLED


@dataclass(frozen=True)
class Tried:
    """How `import torch` went in a process of its own: exit code (negative: a crash) and what it wrote to standard error."""

    code: int
    error: str = ""


class TorchInstaller:
    """Checks, installs and repairs. Every collaborator may be replaced, for tests; the defaults are Slicer's and Python's own.

    find_spec, version: as in importlib.util and importlib.metadata. try_import() -> Tried. extension() -> a PyTorchUtilsLogic, or
    None where the PyTorch extension is not there. pip(requirements): installs, asking first; False when the user declined.
    uninstall(name). confirm(text) -> bool. diagnose(requirements) -> what pip says to a dry run. testing() -> is Slicer in its
    testing mode, in which nothing is ever installed?
    """

    def __init__(
        self,
        *,
        find_spec: Callable[[str], Any] = importlib.util.find_spec,
        version: Callable[[str], str] = importlib.metadata.version,
        try_import: Callable[[], Tried] | None = None,
        extension: Callable[[], Any] | None = None,
        pip: Callable[[Sequence[str]], bool] | None = None,
        uninstall: Callable[[str], None] | None = None,
        confirm: Callable[[str], bool] | None = None,
        diagnose: Callable[[Sequence[str]], str] | None = None,
        testing: Callable[[], bool] | None = None,
    ) -> None:
        self._find_spec, self._version = find_spec, version
        self._try_import = try_import or _try_import
        self._extension = extension or _extension
        self._pip = pip or _pip
        self._uninstall = uninstall or _uninstall
        self._confirm = confirm or _confirm
        self._diagnose = diagnose or _diagnose
        self._testing = testing or _testing

    def check(self) -> Outcome:
        """What the package records say; takes milliseconds and imports nothing."""
        states = {name: self._state_of(name) for name in LOWEST}
        for state in (State.PARTIAL, State.OUTDATED, State.MISSING):
            names = [name for name, (found, _) in states.items() if found is state]
            if names:
                return Outcome(
                    state, _SENTENCES[state].format(names=" and ".join(names), detail=_details(states, names))
                )
        return Outcome(State.INSTALLED, f"PyTorch {states['torch'][1]} is installed.")

    def verify(self) -> Outcome:
        """Import torch in a process of its own (seconds): INSTALLED, or MISSING, PARTIAL or BROKEN with the reason."""
        tried = self._try_import()
        return self.check() if tried.code == 0 else explain_import_error(tried.error, tried.code)

    def ensure(self, repair: bool = False) -> Outcome:
        """Install what is missing, with consent; nothing happens where everything is there.

        `repair=True` (after BROKEN) removes torch first, as does a partial installation; the user is asked before that.
        Never raises: whatever goes wrong is a state with a sentence.
        """
        found = self.check()
        if (found.ready and not repair) or self._testing():
            return found
        try:
            if repair or found.state is State.PARTIAL:
                if not self._confirm(_REPAIR_QUESTION):
                    return Outcome(State.DECLINED, _SENTENCES[State.DECLINED])
                self._uninstall("torch")
                importlib.invalidate_caches()
            if not self._install():
                return Outcome(State.DECLINED, _SENTENCES[State.DECLINED])
        except Exception as error:  # whatever an installer raises, the panel gets one sentence
            return self._after_failure(error)
        importlib.invalidate_caches()
        return self.verify()

    def _state_of(self, name: str) -> tuple[State, str]:
        """(state, version or reason) of one package: files and package record must both be there."""
        try:
            spec = self._find_spec(name)
        except (ImportError, ValueError):  # a half-removed parent package, or a module without a spec
            spec = None
        files = spec is not None and getattr(spec, "origin", None) is not None  # a folder without __init__.py has none
        leftovers = spec is not None and not files
        try:
            version = self._version(name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        if not files and not version:
            return (State.PARTIAL, "a folder without code") if leftovers else (State.MISSING, "")
        if not files:
            return State.PARTIAL, "a package record without files"
        if not version:
            return State.PARTIAL, "files without a package record"
        return (State.INSTALLED if _numbers(version) >= _numbers(LOWEST[name]) else State.OUTDATED), version

    def _install(self) -> bool:
        """Install what check() misses; False when the user declined."""
        wanted = [name for name in LOWEST if self._state_of(name)[0] is not State.INSTALLED]
        logic = self._extension() if "torch" in wanted else None
        if logic is not None:
            if logic.installTorch(askConfirmation=True, torchVersionRequirement=f">={LOWEST['torch']}") is None:
                return False
            wanted.remove("torch")
        return self._pip(_requirements(wanted)) if wanted else True

    def _after_failure(self, error: Exception) -> Outcome:
        importlib.invalidate_caches()
        if self.check().ready:  # it was installed, and failed when it was imported
            return self.verify()
        text = f"{error}\n{self._diagnose(_requirements(LOWEST))}"
        if _NETWORK.search(text):
            return Outcome(State.OFFLINE, _SENTENCES[State.OFFLINE])
        reason = "the disk is full" if _FULL.search(text) else _last_line(str(error)) or type(error).__name__
        return Outcome(State.FAILED, _SENTENCES[State.FAILED].format(detail=reason))


def ensure_torch(repair: bool = False) -> Outcome:
    """TorchInstaller with Slicer's own collaborators: call it when Apply is pressed, at no other time."""
    return TorchInstaller().ensure(repair)


def explain_import_error(error: str, code: int = 1) -> Outcome:
    """What a failed start of the worker means, from its standard error: MISSING, PARTIAL or BROKEN."""
    last = _last_line(error)
    missing = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", last)
    if missing and missing.group(1) in LOWEST:
        return Outcome(State.MISSING, _SENTENCES[State.MISSING].format(names=missing.group(1)))
    if missing:
        return Outcome(State.PARTIAL, _SENTENCES[State.PARTIAL].format(detail=f"'{missing.group(1)}' is not there"))
    reason = "it crashed" if code < 0 or not last else last.rstrip(".")
    return Outcome(State.BROKEN, _SENTENCES[State.BROKEN].format(detail=reason))


_REPAIR_QUESTION = (
    "PyTorch is installed but damaged. Remove it and install it again? The download is large and may take some minutes; "
    "restart Slicer afterwards if PyTorch was in use."
)
_SENTENCES = {
    State.MISSING: "Needed and not installed: {names}; press Apply to be asked whether to download it (some minutes).",
    State.OUTDATED: "Too old: {detail}; press Apply to be asked whether to update.",
    State.PARTIAL: "PyTorch is only partly installed ({detail}); let it be repaired, or install it again with PyTorch Utils.",
    State.BROKEN: "PyTorch is installed but does not start ({detail}); let it be repaired, or install another version of it.",
    State.DECLINED: "PyTorch was not installed because you declined; nothing was changed, and Apply asks again.",
    State.OFFLINE: "PyTorch could not be downloaded: no connection to the package server; check the network and press Apply again.",
    State.FAILED: "PyTorch could not be installed ({detail}); the Python console shows the whole log.",
}


def _details(states: dict[str, tuple[State, str]], names: Sequence[str]) -> str:
    texts = {State.OUTDATED: "{name} {found} (expected {lowest} or newer)", State.PARTIAL: "{name}: {found}"}
    parts = [texts.get(states[n][0], "{name}").format(name=n, found=states[n][1], lowest=LOWEST[n]) for n in names]
    return ", ".join(parts)


def _requirements(names: Sequence[str] | dict[str, str]) -> list[str]:
    return [f"{name}>={LOWEST[name]}" for name in names]


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 10, 0) of "2.10.0+cpu" and "2.10.0rc1": enough to compare with LOWEST."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _python() -> str:
    """The program that runs the worker."""
    return shutil.which("PythonSlicer") or sys.executable


def _try_import() -> Tried:
    try:
        done = subprocess.run(
            [_python(), "-c", "import torch, safetensors"],
            capture_output=True,
            text=True,
            timeout=180,
            creationflags=_NO_WINDOW,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Tried(1, f"{type(error).__name__}: {error}")
    return Tried(done.returncode, done.stderr)


def _diagnose(requirements: Sequence[str]) -> str:
    options = ["install", "--dry-run", "--retries", "0", "--timeout", "5", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [_python(), "-m", "pip", *options, *requirements],
            capture_output=True,
            text=True,
            timeout=60,
            creationflags=_NO_WINDOW,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return done.stdout + done.stderr


def _extension() -> Any:
    """The logic of the PyTorch extension, or None."""
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        return None
    return PyTorchUtils.PyTorchUtilsLogic()


def _pip(requirements: Sequence[str]) -> bool:
    """Slicer 5.11 and newer ask and show progress themselves; before that a question and slicer.util.pip_install."""
    import slicer

    if importlib.util.find_spec("slicer.packaging") is not None:
        packaging = importlib.import_module("slicer.packaging")
        if hasattr(packaging, "pip_ensure"):
            try:
                packaging.pip_ensure(list(requirements), requester=REQUESTER)
            except RuntimeError:  # its documented way to say that the user declined
                return False
            return True
    if not _confirm(f"{REQUESTER} needs {', '.join(requirements)}. Download and install? This may take some minutes."):
        return False
    for requirement in requirements:
        slicer.util.pip_install(requirement)
    return True


def _uninstall(name: str) -> None:
    import slicer

    slicer.util.pip_uninstall(name)


def _confirm(text: str) -> bool:
    import slicer

    return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=REQUESTER))


def _testing() -> bool:
    import slicer

    return bool(slicer.app.testingEnabled())
