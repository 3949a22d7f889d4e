"""Stand-ins for the ctk widgets that panels use: same properties, signals and slots, a plain look."""
from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal

from .emulation import stand_in


def stored(kind: Any, name: str, default: Any, changed: str = "") -> Any:
    """A Q_PROPERTY kept in the object; `changed` names a method called after a change."""
    def get(self: Any) -> Any:
        return self.__dict__.get(f"_{name}", default)

    def put(self: Any, value: Any) -> None:
        value = list(value) if kind == "QStringList" else value
        if get(self) != value:
            self.__dict__[f"_{name}"] = value
            if changed:
                getattr(self, changed)()

    return Property(kind, get, put)


def delegated(kind: Any, child: str, name: str, other: str = "") -> Any:
    """A Q_PROPERTY that is the property `name` of a child widget (and is set on `other` too)."""
    def get(self: Any) -> Any:
        return getattr(self, child).property(name)

    def put(self: Any, value: Any) -> None:
        for target in filter(None, (child, other)):
            getattr(self, target).setProperty(name, value)

    return Property(kind, get, put)


def row(widget: QtWidgets.QWidget, *children: QtWidgets.QWidget) -> None:
    """Lay children out in one line without margins; the first takes the spare width."""
    layout = QtWidgets.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for index, child in enumerate(children):
        layout.addWidget(child, 0 if index else 1)


@stand_in
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header line that shows or hides the children below it."""

    contentsCollapsed = Signal(bool)
    _HEADER = 24

    def __init__(self, *arguments: Any) -> None:
        text = next((a for a in arguments if isinstance(a, str)), "")
        super().__init__(next((a for a in arguments if isinstance(a, QtWidgets.QWidget)), None))
        self.setText(text)
        self._is_collapsed = False
        self.setContentsMargins(0, self._HEADER, 0, 0)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Fixed)
        self.toggled.connect(lambda on: self.setCollapsed(not on))

    def setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._is_collapsed:
            return
        self._is_collapsed = collapsed
        self.setChecked(not collapsed)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not collapsed)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, lambda self: self._is_collapsed, setCollapsed)
    collapsedHeight = stored(int, "collapsedHeight", 0)
    flat = stored(bool, "flat", False)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        if event.added() and self.__dict__.get("_is_collapsed") and isinstance(event.child(), QtWidgets.QWidget):
            event.child().hide()
        super().childEvent(event)

    def hitButton(self, point: QtCore.QPoint) -> bool:
        return point.y() < self._HEADER

    def sizeHint(self) -> QtCore.QSize:
        if self._is_collapsed or self.layout() is None:
            return QtCore.QSize(120, self._HEADER)
        return self.layout().totalSizeHint()

    def minimumSizeHint(self) -> QtCore.QSize:
        if self._is_collapsed or self.layout() is None:
            return QtCore.QSize(40, self._HEADER)
        return self.layout().totalMinimumSize()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        header = QtCore.QRect(0, 0, self.property("width"), self._HEADER - 2)
        painter.fillRect(header, self.palette.color(QtGui.QPalette.ColorRole.Midlight))
        style = QtWidgets.QStyle.PrimitiveElement
        option = QtWidgets.QStyleOption()
        option.initFrom(self)
        option.rect = QtCore.QRect(6, 6, 10, 10)
        arrow = style.PE_IndicatorArrowRight if self._is_collapsed else style.PE_IndicatorArrowDown
        painter.drawPrimitive(arrow, option)
        painter.drawText(header.adjusted(24, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, self.property("text"))


@stand_in
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    def setCollapsed(self, collapsed: bool) -> None:
        self.setCheckable(True)
        self.setChecked(not collapsed)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not collapsed)

    collapsed = Property(bool, lambda self: self.isCheckable() and not self.isChecked(), setCollapsed)


@stand_in
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box that hold one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    _STEPS = 1000

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._slider = QtWidgets.QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, self._STEPS)
        self._spin = QtWidgets.QDoubleSpinBox()
        self._spin.setRange(0, 99)
        self._spin.setMinimumWidth(90)
        row(self, self._slider, self._spin)
        self._spin.valueChanged.connect(self._spin_moved)
        self._slider.valueChanged.connect(self._slider_moved)

    def _spin_moved(self, value: float) -> None:
        low, high = self._spin.minimum, self._spin.maximum
        self._slider.blockSignals(True)
        self._slider.setValue(round(self._STEPS * (value - low) / (high - low)) if high > low else 0)
        self._slider.blockSignals(False)
        self.valueChanged.emit(value)

    def _slider_moved(self, position: int) -> None:
        low, high = self._spin.minimum, self._spin.maximum
        self._spin.setValue(low + (high - low) * position / self._STEPS)

    value = delegated(float, "_spin", "value")
    minimum = delegated(float, "_spin", "minimum")
    maximum = delegated(float, "_spin", "maximum")
    singleStep = delegated(float, "_spin", "singleStep")
    decimals = delegated(int, "_spin", "decimals")
    prefix = delegated(str, "_spin", "prefix")
    suffix = delegated(str, "_spin", "suffix")
    pageStep = stored(float, "pageStep", 1.0)
    tracking = stored(bool, "tracking", True)
    tickInterval = stored(float, "tickInterval", 0.0)
    spinBoxVisible = stored(bool, "spinBoxVisible", True)

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def setMinimum(self, value: float) -> None:
        self._spin.setMinimum(value)

    def setMaximum(self, value: float) -> None:
        self._spin.setMaximum(value)

    def setRange(self, low: float, high: float) -> None:
        self._spin.setRange(low, high)

    def setDecimals(self, count: int) -> None:
        self._spin.setDecimals(count)


@stand_in
class ctkDoubleSpinBox(QtWidgets.QWidget):
    valueChanged = Signal(float)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._spin = QtWidgets.QDoubleSpinBox()
        row(self, self._spin)
        self._spin.valueChanged.connect(self.valueChanged)

    value = delegated(float, "_spin", "value")
    minimum = delegated(float, "_spin", "minimum")
    maximum = delegated(float, "_spin", "maximum")
    singleStep = delegated(float, "_spin", "singleStep")
    decimals = delegated(int, "_spin", "decimals")
    prefix = delegated(str, "_spin", "prefix")
    suffix = delegated(str, "_spin", "suffix")

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def setRange(self, low: float, high: float) -> None:
        self._spin.setRange(low, high)


@stand_in
class ctkRangeWidget(QtWidgets.QWidget):
    """Two numbers, lower and upper."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        row(self, self._low, self._high)
        for spin, changed in ((self._low, self.minimumValueChanged), (self._high, self.maximumValueChanged)):
            spin.valueChanged.connect(changed)
            spin.valueChanged.connect(lambda _: self.valuesChanged.emit(self._low.value, self._high.value))

    minimumValue = delegated(float, "_low", "value")
    maximumValue = delegated(float, "_high", "value")
    minimum = delegated(float, "_low", "minimum", "_high")
    maximum = delegated(float, "_low", "maximum", "_high")
    singleStep = delegated(float, "_low", "singleStep", "_high")
    decimals = delegated(int, "_low", "decimals", "_high")

    def setValues(self, low: float, high: float) -> None:
        self._low.setValue(low)
        self._high.setValue(high)

    def setRange(self, low: float, high: float) -> None:
        self._low.setRange(low, high)
        self._high.setRange(low, high)


@stand_in
class ctkPathLineEdit(QtWidgets.QWidget):
    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    Dirs, Drives, Files, Readable, Writable, Executable = 1, 4, 2, 16, 32, 64

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((a for a in arguments if isinstance(a, QtWidgets.QWidget)), None))
        self._edit, self._browse = QtWidgets.QLineEdit(), QtWidgets.QToolButton()
        self._browse.setText("...")
        row(self, self._edit, self._browse)
        self._edit.textChanged.connect(self.currentPathChanged)

    currentPath = delegated(str, "_edit", "text")
    filters = stored(object, "filters", 0)
    nameFilters = stored("QStringList", "nameFilters", [])
    settingKey = stored(str, "settingKey", "")
    showHistoryButton = stored(bool, "showHistoryButton", True)
    showBrowseButton = stored(bool, "showBrowseButton", True)

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def addCurrentPathToHistory(self) -> None:
        """The history of paths is kept in the application's settings; there is none here."""


@stand_in
class ctkDirectoryButton(QtWidgets.QPushButton):
    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def _put(self, path: str) -> None:
        if path != self.property("text"):
            self.setText(path)
            self.directoryChanged.emit(path)

    directory = Property(str, lambda self: self.property("text"), _put)
    caption = stored(str, "caption", "")


@stand_in
class ctkColorPickerButton(QtWidgets.QPushButton):
    colorChanged = Signal(QtGui.QColor)

    def _emit(self) -> None:
        self.colorChanged.emit(self.color)

    color = stored(QtGui.QColor, "color", QtGui.QColor(0, 0, 0), "_emit")
    displayColorName = stored(bool, "displayColorName", True)


@stand_in
class ctkComboBox(QtWidgets.QComboBox):
    defaultText = stored(str, "defaultText", "")
    forceDefault = stored(bool, "forceDefault", False)


@stand_in
class ctkCheckBox(QtWidgets.QCheckBox):
    pass


@stand_in
class ctkMenuButton(QtWidgets.QPushButton):
    pass


@stand_in
class ctkExpandButton(QtWidgets.QToolButton):
    mirrorOnExpand = stored(bool, "mirrorOnExpand", False)


@stand_in
class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    collapsed = stored(bool, "collapsed", False)
    collapsibleText = stored(str, "collapsibleText", "", "_show")

    def _show(self) -> None:
        self.setText(self.collapsibleText)

    def setCollapsibleText(self, text: str) -> None:
        self.collapsibleText = text


@stand_in
class ctkMessageBox(QtWidgets.QMessageBox):
    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


WIDGETS: tuple[type, ...] = (
    ctkCollapsibleButton, ctkCollapsibleGroupBox, ctkSliderWidget, ctkDoubleSpinBox, ctkRangeWidget, ctkPathLineEdit,
    ctkDirectoryButton, ctkColorPickerButton, ctkComboBox, ctkCheckBox, ctkMenuButton, ctkExpandButton,
    ctkFittedTextBrowser, ctkMessageBox,
)
