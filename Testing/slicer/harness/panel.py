"""Loads a scripted module's panel, presses its buttons, waits for its jobs and takes its picture."""
from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .app import start
from .errors import pending, raise_slot_errors
from .scripted import qSlicerScriptedLoadableModule

HEARTBEAT_MS = 10
PANEL_WIDTH_PX = 420


@dataclass
class Panel:
    """A loaded module.

    module: slicer.modules.<name>; widget: the <Name>Widget object; ui: widget.ui (None without one);
    logic: widget.logic (None without one); root: the QWidget that holds the panel.
    """

    name: str
    module: Any
    widget: Any
    root: Any

    @property
    def ui(self) -> Any:
        return getattr(self.widget, "ui", None)

    @property
    def logic(self) -> Any:
        return getattr(self.widget, "logic", None)

    def close(self) -> None:
        """Leave and unload: exit() and cleanup() are called, the widgets deleted.

        Raises:
            SlotError: a slot or observer raised while the panel was open.
        """
        if hasattr(self.widget, "exit"):
            self.widget.exit()
        slicer.app.moduleManager().emit("moduleAboutToBeUnloaded(QString)", self.name)
        self.module.close()
        self.root.close()
        self.root.deleteLater()
        spin(0)
        raise_slot_errors()


@dataclass(frozen=True)
class Wait:
    """How long a wait took, and the longest time that the event loop was blocked."""

    elapsed_s: float
    max_gap_ms: float


def register_module(path: Path | str) -> Any:
    """Make a scripted module known without opening its panel; returns slicer.modules.<name>.

    Slicer puts the module's folder on sys.path, instantiates <Name> and later emits startupCompleted().
    """
    start()
    path = Path(path).resolve()
    known = slicer.app.moduleManager().module(path.stem)
    if known is not None:
        if known.path != str(path):
            raise ValueError(f"a module '{path.stem}' is already loaded from {known.path}")
        return known
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = qSlicerScriptedLoadableModule(path)
    slicer.app.moduleManager().register(path.stem, module)
    setattr(slicer.modules, f"{path.stem}Instance", module.instance)
    slicer.app.emit_once("startupCompleted()")
    return module


def load_module(path: Path | str) -> Panel:
    """Open the panel of <Name>.py: setup() runs, the scene is set, the panel is shown, enter() is called.

    Raises:
        SlotError: a slot or observer raised meanwhile. Other exceptions pass through.
    """
    module = register_module(path)
    root = module.widgetRepresentation()
    if root is None:
        raise ValueError(f"{module.name} has no {module.name}Widget")
    panel = Panel(module.name, module, root.self(), root)
    root.resize(PANEL_WIDTH_PX, 800)
    root.show()
    if hasattr(panel.widget, "enter"):
        panel.widget.enter()
    spin(0)
    raise_slot_errors()
    return panel


def click(button: Any) -> None:
    """Press a button as a user would.

    Raises:
        AssertionError: it is disabled or hidden, so no user could.
        SlotError: a slot raised.
    """
    if not button.enabled:
        raise AssertionError(f"'{button.name}' is disabled: {button.toolTip or 'no tool tip says why'}")
    if not button.visible:
        raise AssertionError(f"'{button.name}' is not visible")
    button.click()
    raise_slot_errors()


def wait_until(predicate: Callable[[], bool], timeout_s: float, what: str = "") -> Wait:
    """Spin the event loop until the predicate holds; it is asked every 10 ms, and its own time is not counted.

    Raises:
        TimeoutError: it did not hold in time.
        SlotError: a slot or observer raised.
    """
    began = last = time.perf_counter()
    state = {"gap": 0.0, "done": False}
    loop, timer = QtCore.QEventLoop(), QtCore.QTimer()
    timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)

    def beat() -> None:
        nonlocal last
        now = time.perf_counter()
        state["gap"] = max(state["gap"], now - last - HEARTBEAT_MS / 1000)
        try:
            state["done"] = bool(predicate())
        except BaseException:
            loop.quit()
            raise
        if state["done"] or pending() or now - began > timeout_s:
            loop.quit()
        last = time.perf_counter()

    timer.timeout.connect(beat)
    timer.start(HEARTBEAT_MS)
    loop.exec()
    timer.stop()
    raise_slot_errors()
    elapsed = time.perf_counter() - began
    if not state["done"]:
        raise TimeoutError(f"{what or 'the condition'} did not hold within {timeout_s} s")
    return Wait(elapsed, 1000 * max(state["gap"], 0.0))


def spin(duration_s: float) -> Wait:
    """Let the event loop run for a while, deferred deletions included.

    Raises:
        SlotError: a slot or observer raised.
    """
    ends = time.perf_counter() + duration_s
    wait = wait_until(lambda: time.perf_counter() >= ends, duration_s + 10)
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
    return wait


def photograph(widget: Any, path: Path | str, width: int = PANEL_WIDTH_PX) -> Path:
    """PNG of a widget (or Panel) at this width and the full height of its contents."""
    target = widget.root if isinstance(widget, Panel) else widget
    target.setFixedWidth(width)
    for _ in range(3):      # word-wrapped labels settle their height in a second pass
        layout = target.layout()
        if layout is not None:
            layout.activate()
        height = layout.totalHeightForWidth(width) if layout is not None and layout.hasHeightForWidth() else 0
        target.resize(width, max(height, target.sizeHint().height(), 40))
        QtWidgets.QApplication.processEvents()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not target.grab().save(str(path)):
        raise OSError(f"could not write {path}")
    target.setMinimumWidth(0)
    target.setMaximumWidth(16777215)
    raise_slot_errors()
    return path


def photograph_with_views(panel: Any, images: list[Any], path: Path | str, width: int = PANEL_WIDTH_PX) -> Path:
    """The panel on the left and pictures of views, (H, W, 3) uint8 each, in two columns on the right, as one PNG."""
    import numpy as np
    from PySide6 import QtGui

    from .views import save_png
    photo = QtGui.QImage(str(photograph(panel, path, width))).convertToFormat(QtGui.QImage.Format.Format_RGB888)
    stride, height = photo.bytesPerLine(), photo.height()
    left = np.frombuffer(photo.constBits(), np.uint8).reshape(height, stride)[:, :3 * photo.width()]
    left = left.reshape(height, photo.width(), 3)
    rows = [images[i:i + 2] for i in range(0, len(images), 2)]
    tall = sum(max(image.shape[0] for image in row) for row in rows)
    wide = max(sum(image.shape[1] for image in row) for row in rows)
    canvas = np.full((max(height, tall), left.shape[1] + wide, 3), 239, np.uint8)
    canvas[:height, :left.shape[1]] = left
    y = 0
    for row in rows:
        x = left.shape[1]
        for image in row:
            canvas[y:y + image.shape[0], x:x + image.shape[1]] = image
            x += image.shape[1]
        y += max(image.shape[0] for image in row)
    return save_png(canvas, path)
