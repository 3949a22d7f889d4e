"""Stand-ins for the qMRML widgets that choose nodes of the scene."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal
from shiboken6 import isValid

from .ctk_widgets import row, stored
from .emulation import stand_in


def type_label(class_name: str) -> str:
    """"vtkMRMLScalarVolumeNode" -> "ScalarVolume"."""
    return class_name.removeprefix("vtkMRML").removesuffix("Node")


class SceneObserver:
    """Calls `update` after nodes came, went or were renamed, until the widget is gone."""

    EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent")

    def __init__(self, widget: QtCore.QObject, update: Callable[[], None]) -> None:
        self._widget, self._update = widget, update
        self._scene: Any = None
        self._tags: list[tuple[Any, int]] = []

    @property
    def scene(self) -> Any:
        return self._scene

    def observe(self, scene: Any) -> None:
        for observed, tag in self._tags:
            observed.RemoveObserver(tag)
        self._scene = scene
        self._tags = []
        if scene is not None:
            self._tags = [(scene, scene.AddObserver(getattr(scene, e), self._changed)) for e in self.EVENTS]
        self._update()

    def watch_name(self, node: Any) -> None:
        """Call `update` as well when this node is modified."""
        if all(observed is not node for observed, _ in self._tags):
            self._tags.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._changed)))

    def _changed(self, *_: Any) -> None:
        if not isValid(self._widget):
            tags, self._tags = self._tags, []
            for observed, tag in tags:
                observed.RemoveObserver(tag)
        else:
            self._update()


class _NodeSelector(QtWidgets.QWidget):
    """What the plain and the checkable node combo box share: which nodes of the scene are offered."""

    _attributes: tuple[tuple[str, str, str | None], ...] = ()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._combo = QtWidgets.QComboBox()
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        row(self, self._combo)
        self._observer = SceneObserver(self, self._refresh)

    nodeTypes = stored("QStringList", "nodeTypes", [], "_refresh")
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], "_refresh")
    showHidden = stored(bool, "showHidden", False, "_refresh")
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, "_refresh")
    noneEnabled = stored(bool, "noneEnabled", False, "_refresh")
    addEnabled = stored(bool, "addEnabled", True, "_refresh")
    removeEnabled = stored(bool, "removeEnabled", True, "_refresh")
    renameEnabled = stored(bool, "renameEnabled", False, "_refresh")
    editEnabled = stored(bool, "editEnabled", False, "_refresh")
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    noneDisplay = stored(str, "noneDisplay", "None", "_refresh")
    baseName = stored(str, "baseName", "", "_refresh")

    def _refresh(self) -> None:
        raise NotImplementedError

    def addAttribute(self, node_type: str, name: str, value: str | None = None) -> None:
        """Offer a node of this type only when it has the attribute (with the value, when one is given)."""
        self._attributes += ((node_type, name, value),)
        self._refresh()

    def setMRMLScene(self, scene: Any) -> None:
        self._observer.observe(scene)

    def mrmlScene(self) -> Any:
        return self._observer.scene

    def _offered(self, node: Any) -> bool:
        kinds = list(self.nodeTypes)
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if not self.showChildNodeTypes and node.GetClassName() not in kinds:
            return False
        if any(node.IsA(hidden) for hidden in self.hideChildNodeTypes):
            return False
        wanted = [(name, value) for kind, name, value in self._attributes if node.IsA(kind)]
        return all(node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
                   for name, value in wanted)

    def _nodes(self) -> Iterator[Any]:
        seen = set()
        for kind in self.nodeTypes if self.mrmlScene() else ():
            for node in slicer.util.getNodesByClass(kind, self.mrmlScene()):
                if node.GetID() not in seen and self._offered(node):
                    seen.add(node.GetID())
                    yield node

    def nodeCount(self) -> int:
        return len(list(self._nodes()))

    def nodeFromIndex(self, index: int) -> Any:
        return list(self._nodes())[index]

    def _new_node(self, class_name: str | None) -> Any:
        kind = class_name or self.nodeTypes[0]
        name = self.mrmlScene().GenerateUniqueName(self.baseName or type_label(kind))
        return self.mrmlScene().AddNewNodeByClass(kind, name)


@stand_in
class qMRMLNodeComboBox(_NodeSelector):
    """Chooses one node; a scene whose nodes may not be None is answered with its first node, as in Slicer."""

    currentNodeChanged = Signal(object)
    _currentNodeIsSet = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    CPP_SIGNALS: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged", "currentNodeChanged(bool)": "_currentNodeIsSet",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated", "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._id, self._ids = "", []
        self._combo.activated.connect(self._activated)

    def _refresh(self) -> None:
        if self.mrmlScene() is None or "_ids" not in self.__dict__:
            return
        nodes = list(self._nodes())
        rows = [("", self.noneDisplay)] if self.noneEnabled or not nodes else []
        rows += [(node.GetID(), node.GetName() or "") for node in nodes]
        for node in nodes:
            self._observer.watch_name(node)
        self._ids = [node_id for node_id, _ in rows]
        kind = type_label(self.nodeTypes[0]) if self.nodeTypes else "Node"
        actions = [f"Create new {self.baseName or kind}"] if self.addEnabled else []
        actions += ["Delete current node"] if self.removeEnabled else []
        wanted = self._id if self._id in self._ids else self._ids[0]
        self._combo.blockSignals(True)
        self._combo.clear()
        self._combo.addItems([label for _, label in rows] + actions)
        self._combo.setCurrentIndex(self._ids.index(wanted))
        self._combo.blockSignals(False)
        self._select(wanted)

    def _select(self, node_id: str) -> None:
        if node_id == self._id:
            return
        self._id = node_id
        node = self.currentNode()
        self.currentNodeIDChanged.emit(node_id)
        self.currentNodeChanged.emit(node)
        self._currentNodeIsSet.emit(node is not None)

    def _activated(self, index: int) -> None:
        if index < len(self._ids):
            self._select(self._ids[index])
            self.nodeActivated.emit(self.currentNode())
        elif self.addEnabled and index == len(self._ids):
            self.nodeAddedByUser.emit(self.addNode())
        else:
            self.removeCurrentNode()

    def addNode(self, class_name: str | None = None) -> Any:
        node = self._new_node(class_name)
        if self.selectNodeUponCreation:
            self.setCurrentNodeID(node.GetID())
        self.nodeAdded.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self.mrmlScene().RemoveNode(self.currentNode())

    def setCurrentNodeID(self, node_id: str | None) -> None:
        if node_id in self._ids:
            self._combo.setCurrentIndex(self._ids.index(node_id))
            self._select(node_id)
        elif self.mrmlScene() is None:
            self._id = node_id or ""    # kept until there is a scene
        else:
            self._combo.setCurrentIndex(0 if self.noneEnabled else -1)      # also for a node that is not offered
            self._select("")

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def currentNode(self) -> Any:
        return self.mrmlScene().GetNodeByID(self._id) if self.mrmlScene() is not None and self._id else None

    currentNodeID = Property(str, lambda self: self._id, setCurrentNodeID)


@stand_in
class qMRMLCheckableNodeComboBox(_NodeSelector):
    """Chooses any number of nodes."""

    checkedNodesChanged = Signal()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._checked: list[str] = []

    def _refresh(self) -> None:
        if self.mrmlScene() is None or "_checked" not in self.__dict__:
            return
        names = {node.GetID(): node.GetName() for node in self._nodes()}
        kept = [node_id for node_id in self._checked if node_id in names]
        self._combo.clear()
        self._combo.addItem(", ".join(names[i] for i in kept) or self.noneDisplay)
        self._combo.addItems([("\u2611 " if i in kept else "\u2610 ") + name for i, name in names.items()])
        if kept != self._checked:
            self._checked = kept
            self.checkedNodesChanged.emit()

    def checkedNodes(self) -> list[Any]:
        return [node for node in self._nodes() if node.GetID() in self._checked]

    def uncheckedNodes(self) -> list[Any]:
        return [node for node in self._nodes() if node.GetID() not in self._checked]

    def checkState(self, node: Any) -> Any:
        checked = node.GetID() in self._checked
        return QtCore.Qt.CheckState.Checked if checked else QtCore.Qt.CheckState.Unchecked

    def setCheckState(self, node: Any, state: Any) -> None:
        checked = QtCore.Qt.CheckState(state) == QtCore.Qt.CheckState.Checked
        if checked != (node.GetID() in self._checked):
            self._checked = [i for i in self._checked if i != node.GetID()] + ([node.GetID()] if checked else [])
            self._refresh()
            self.checkedNodesChanged.emit()

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()
