"""Stand-ins for the modules `qt` and `ctk` and for the qMRML and qSlicer widget classes of `slicer`."""
from __future__ import annotations

import ctypes
import sys
import types
from pathlib import Path

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import dialogs, emulation


def _modules() -> tuple[types.ModuleType, types.ModuleType]:
    """`qt` and `ctk`, filled."""
    from .ctk_widgets import WIDGETS
    from .uiloader import QUiLoader
    qt, ctk = types.ModuleType("qt"), types.ModuleType("ctk")
    for module in (QtCore, QtGui, QtWidgets, QtUiTools):
        for name in dir(module):
            if not name.startswith("_"):
                setattr(qt, name, getattr(module, name))
    qt.QUiLoader = QUiLoader
    for cls in WIDGETS:
        setattr(ctk, cls.__name__, cls)
    return qt, ctk


def _qt_message(kind: QtCore.QtMsgType, context: QtCore.QMessageLogContext, text: str) -> None:
    if "propagateSizeHints" not in text:     # said by the offscreen platform for every window
        print(f"Qt: {text}", file=sys.stderr)


def _keep_singletons_alive() -> None:
    """PySide6 6.12 gives out None, True and False without counting the reference, trusting that they are immortal.

    They are from Python 3.12 on; before, a few thousand calls free them and the interpreter dies.
    """
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


def install(settings_dir: Path) -> QtWidgets.QApplication:
    """Create the QApplication, publish `qt`, `ctk` and the widgets of `slicer`; settings live in `settings_dir`."""
    import slicer
    _keep_singletons_alive()
    QtCore.qInstallMessageHandler(_qt_message)
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    application.setOrganizationName("Harness")
    application.setApplicationName("Slicer")
    application.setQuitOnLastWindowClosed(False)
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
        QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, str(settings_dir))
    emulation.install()
    dialogs.install()
    from .mrml_widgets import WIDGETS
    sys.modules["qt"], sys.modules["ctk"] = _modules()
    for cls in WIDGETS:
        setattr(slicer, cls.__name__, cls)
    return application
