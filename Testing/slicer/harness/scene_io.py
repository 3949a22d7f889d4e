"""slicer.app.coreIOManager(): files <-> nodes through the real module logics and storage nodes."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

_TYPES: dict[str, tuple[str, ...]] = {
    "SceneFile": (".mrml", ".mrb"),
    "SequenceFile": (".seq.nrrd", ".seq.mha", ".seq.mrb"),
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr", ".seg.vtm"),
    "TransformFile": (".h5", ".tfm", ".hdf5", ".mat"),
    "TableFile": (".csv", ".tsv", ".db"),
    "MarkupsFile": (".mrk.json", ".fcsv"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".obj", ".ply"),
    "ColorTableFile": (".ctbl",),
    "TextFile": (".txt", ".json", ".xml"),
}
_COMPOUND = (".nii.gz", ".seg.nrrd", ".mrk.json", ".seq.nrrd", ".seq.mha", ".seg.nhdr", ".seg.vtm", ".cmd.json")


def extension(filename: str) -> str:
    """The extension with its compound part, in lower case: "a/b.nii.gz" -> ".nii.gz"."""
    lower = filename.lower()
    return next((e for e in _COMPOUND if lower.endswith(e)), Path(lower).suffix)


def _load_volume(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    options = sum(bit * bool(properties.get(key)) for key, bit in
                  (("labelmap", 1), ("center", 2), ("singleFile", 4), ("discardOrientation", 16)))
    options |= 8 * bool(properties.get("autoWindowLevel", True))
    node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, options)
    if node is not None and properties.get("show", True):
        logic = slicer.app.applicationLogic()
        selection = logic.GetSelectionNode()
        activate = selection.SetActiveLabelVolumeID if properties.get("labelmap") else selection.SetActiveVolumeID
        activate(node.GetID())
        logic.PropagateVolumeSelection(1)
    return [node]


def _load_transform(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    node = slicer.modules.transforms.logic().AddTransform(path, slicer.mrmlScene)
    if node is not None and "name" in properties:
        node.SetName(name)
    return [node]


def _load_segmentation(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    opacities = bool(properties.get("autoOpacities", True))
    return [slicer.modules.segmentations.logic().LoadSegmentationFromFile(path, opacities, name, None, messages)]


def _load_table(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    return [slicer.modules.tables.logic().AddTable(path, name, True, "", messages)]


def _load_markups(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    ids = slicer.modules.markups.logic().LoadMarkups(path, name) or ""
    return [slicer.mrmlScene.GetNodeByID(i) for i in ids.split(",") if i] or [None]


def _load_sequence(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    return [slicer.modules.sequences.logic().AddSequence(path, messages)]


def _load_model(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    return [slicer.modules.models.logic().AddModel(path)]


def _load_colors(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    return [slicer.modules.colors.logic().LoadColorFile(path, name)]


def _load_text(path: str, name: str, properties: dict[str, Any], messages: Any) -> list[Any]:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", name)
    node.AddDefaultStorageNode(path)
    if not node.GetStorageNode().ReadData(node):
        slicer.mrmlScene.RemoveNode(node)
        return [None]
    return [node]


_LOADERS: dict[str, Callable[[str, str, dict[str, Any], Any], list[Any]]] = {
    "VolumeFile": _load_volume, "TransformFile": _load_transform, "SegmentationFile": _load_segmentation,
    "TableFile": _load_table, "MarkupsFile": _load_markups, "SequenceFile": _load_sequence, "ModelFile": _load_model,
    "ColorTableFile": _load_colors, "TextFile": _load_text,
}


class IOManager:
    """The part of qSlicerCoreIOManager that slicer.util calls."""

    def fileType(self, filename: str) -> str:
        known = extension(str(filename))
        return next((kind for kind, extensions in _TYPES.items() if known in extensions), "VolumeFile")

    def loadNodes(self, file_type: str, properties: dict[str, Any], loaded: Any, messages: Any = None) -> bool:
        path = Path(str(properties["fileName"])).absolute()
        properties = dict(properties)
        if not path.exists():
            return False
        if file_type == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear", False)), messages)
        if file_type not in _LOADERS:
            raise ValueError(f"the harness has no reader for '{file_type}'")
        name = properties.get("name") or path.name.removesuffix(extension(path.name))
        nodes = _LOADERS[file_type](str(path), name, properties, messages)
        for node in nodes:
            if node is None:
                return False
            loaded.AddItem(node)
        return True

    @staticmethod
    def _load_scene(path: Path, clear: bool, messages: Any) -> bool:
        scene = slicer.mrmlScene
        if path.suffix.lower() == ".mrb":
            return bool(scene.ReadFromMRB(str(path), clear, messages))
        scene.SetURL(str(path))
        return bool(scene.Connect(messages) if clear else scene.Import(messages))

    def fileWriterFileType(self, node: Any) -> str:
        return "NodeFile"

    def saveNodes(self, file_type: str, properties: dict[str, Any], messages: Any = None) -> bool:
        path = Path(str(properties["fileName"])).absolute()     # MRML resolves relative paths against the scene's root
        if file_type == "SceneFile":
            return self._save_scene(path, messages)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode(str(path))
        storage = node.GetStorageNode()
        storage.SetFileName(str(path))
        storage.SetWriteFileFormat(extension(path.name))
        storage.SetUseCompression(int(properties.get("useCompression", storage.GetUseCompression())))
        return bool(storage.WriteData(node))

    @staticmethod
    def _save_scene(path: Path, messages: Any) -> bool:
        scene = slicer.mrmlScene
        if path.suffix.lower() == ".mrb":
            return bool(scene.WriteToMRB(str(path), None, messages))
        if path.suffix.lower() == ".mrml":
            scene.SetURL(str(path))
            scene.SetRootDirectory(str(path.parent))
            return bool(scene.Commit(str(path), messages))
        path.mkdir(parents=True, exist_ok=True)
        return bool(slicer.app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(str(path), None))

    def extractKnownExtension(self, filename: str, node: Any) -> str:
        return extension(str(filename))

    def fileWriterExtensions(self, node: Any) -> list[str]:
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        types = storage.GetSupportedWriteFileTypes()
        return [types.GetValue(i) for i in range(types.GetNumberOfValues())]

    def exportNodes(self, ids: list[str], filenames: list[str], properties: dict[str, Any], harden: bool = False,
                    messages: Any = None) -> bool:
        done = True
        for node_id, filename in zip(ids, filenames, strict=True):
            node = slicer.mrmlScene.GetNodeByID(node_id)
            copy = slicer.mrmlScene.AddNewNodeByClass(node.GetClassName(), node.GetName()) if harden else node
            if harden:
                copy.CopyContent(node)
                copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
                copy.HardenTransform()
            storage = copy.CreateDefaultStorageNode()
            storage.UnRegister(None)
            storage.SetFileName(str(Path(filename).absolute()))
            done &= bool(storage.WriteData(copy))
            if harden:
                slicer.mrmlScene.RemoveNode(copy)
        return done
