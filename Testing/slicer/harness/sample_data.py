"""A stand-in for Slicer's SampleData module: sources are registered and, when they make their own data, used."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer


class SampleDataSource:
    """One button of the Sample Data panel."""

    def __init__(self, sampleName: str | None = None, sampleDescription: str | None = None, uris: Any = None,
                 fileNames: Any = None, nodeNames: Any = None, checksums: Any = None, loadFiles: Any = None,
                 customDownloader: Callable[[Any], Any] | None = None, thumbnailFileName: str | None = None,
                 loadFileType: Any = None, loadFileProperties: dict[str, Any] | None = None) -> None:
        if isinstance(uris, str):
            uris, fileNames, nodeNames = [uris], [fileNames], [nodeNames]
        if uris is None or fileNames is None or len(uris) != len(fileNames):
            raise ValueError(f"sample data '{sampleName}': uris and fileNames must be given and be equally long, "
                             f"found {uris!r} and {fileNames!r}")
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.uris, self.fileNames, self.nodeNames = uris, fileNames, nodeNames or [None] * len(uris)
        self.checksums, self.loadFiles, self.loadFileType = checksums, loadFiles, loadFileType
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SampleDataSource) and vars(self) == vars(other)

    __hash__ = None


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", sampleName: str | None = None, uris: Any = None,
                                       fileNames: Any = None, nodeNames: Any = None,
                                       customDownloader: Callable[[Any], Any] | None = None,
                                       thumbnailFileName: str | None = None, loadFileType: Any = "VolumeFile",
                                       loadFiles: Any = None, loadFileProperties: dict[str, Any] | None = None,
                                       checksums: Any = None) -> None:
        """Add a source to slicer.modules.sampleDataSources[category].

        Raises:
            FileNotFoundError: the thumbnail does not exist (Slicer would show a button without a picture).
        """
        if thumbnailFileName is not None and not Path(thumbnailFileName).is_file():
            raise FileNotFoundError(f"thumbnail of sample data '{sampleName}': {thumbnailFileName}")
        source = SampleDataSource(sampleName=sampleName, uris=uris, fileNames=fileNames, nodeNames=nodeNames,
                                  checksums=checksums, loadFiles=loadFiles, customDownloader=customDownloader,
                                  thumbnailFileName=thumbnailFileName, loadFileType=loadFileType,
                                  loadFileProperties=loadFileProperties)
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        if source not in sources:
            sources.append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        sources = slicer.modules.sampleDataSources
        return sources if category is None else sources.get(category, [])

    @staticmethod
    def sourceForSampleName(name: str) -> SampleDataSource | None:
        known = [source for sources in slicer.modules.sampleDataSources.values() for source in sources]
        return next((source for source in known if source.sampleName == name), None)


def press(name: str) -> Any:
    """Press the button of a sample: its customDownloader runs (only the button calls it in Slicer, too).

    Raises:
        LookupError: no such sample, or one that would be fetched from the network.
    """
    source = SampleDataLogic.sourceForSampleName(name)
    if source is None or source.customDownloader is None:
        raise LookupError(f"there is no sample '{name}' that makes its own data")
    return source.customDownloader(source)
