"""Dialogs that never wait: each is recorded in `shown` and answered from `answers`, or else by its default button."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets


@dataclass(frozen=True)
class Shown:
    """A dialog that the code under test opened: its class, window title and text."""

    kind: str
    title: str
    text: str


shown: list[Shown] = []
answers: deque[Any] = deque()
opened_urls: list[str] = []


def reset() -> None:
    """Forget the dialogs shown and the answers prepared."""
    shown.clear()
    answers.clear()
    opened_urls.clear()


def _answer(default: Any) -> Any:
    return answers.popleft() if answers else default


def _default_button(box: Any) -> Any:
    button = box.defaultButton()
    if button is not None:
        return box.standardButton(button)
    kinds = QtWidgets.QMessageBox.StandardButton
    offered = box.property("standardButtons")
    if not box.buttons():
        return kinds.Ok         # Qt adds an OK button to a box without any
    return next((b for b in (kinds.Ok, kinds.Yes) if offered & b), kinds.NoButton)


def _exec(self: Any, *_: Any) -> Any:
    if isinstance(self, QtWidgets.QMessageBox):
        text = "\n".join(t for t in (self.property("text"), self.property("informativeText")) if t)
        shown.append(Shown(type(self).__name__, self.property("windowTitle"), text))
        return _answer(_default_button(self))
    labels = [label.property("text") for label in self.findChildren(QtWidgets.QLabel)]
    shown.append(Shown(type(self).__name__, self.property("windowTitle"), "\n".join(labels)))
    return _answer(QtWidgets.QDialog.DialogCode.Accepted)


def _static_message(kind: str) -> Any:
    def show(parent: Any, title: str, text: str, buttons: Any = None, default: Any = None) -> Any:
        kinds = QtWidgets.QMessageBox.StandardButton
        shown.append(Shown(f"QMessageBox.{kind}", title, text))
        fallback = kinds.Yes if kind == "question" else kinds.Ok
        return _answer(default if default is not None else fallback)

    return staticmethod(show)


def _static_path(kind: str) -> Any:
    def choose(parent: Any = None, title: str = "", *_: Any) -> Any:
        shown.append(Shown(f"QFileDialog.{kind}", title, ""))
        return _answer("")

    return staticmethod(choose)


def _open_url(url: Any) -> bool:
    opened_urls.append(url.toString() if isinstance(url, QtCore.QUrl) else str(url))
    return True


def install() -> None:
    """Replace the waiting calls of QDialog, QMessageBox, QFileDialog and QDesktopServices."""
    for cls in (QtWidgets.QDialog, QtWidgets.QMessageBox, QtWidgets.QFileDialog, QtWidgets.QInputDialog,
                QtWidgets.QProgressDialog):
        cls.exec = cls.exec_ = _exec
    for kind in ("information", "warning", "critical", "question"):
        setattr(QtWidgets.QMessageBox, kind, _static_message(kind))
    for kind in ("getOpenFileName", "getSaveFileName", "getExistingDirectory"):
        setattr(QtWidgets.QFileDialog, kind, _static_path(kind))
    QtGui.QDesktopServices.openUrl = staticmethod(_open_url)
