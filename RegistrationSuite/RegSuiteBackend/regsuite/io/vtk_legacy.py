"""VTK's legacy PolyData (.vtk), ASCII and binary, old cells (version 3, 4) and new ones with offsets (5.1). No VTK needed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

_TYPES = {"float": ">f4", "double": ">f8", "int": ">i4", "vtktypeint64": ">i8", "long": ">i8", "vtkidtype": ">i8", "short": ">i2",
          "unsigned_char": ">u1"}  # fmt: skip
_SECTIONS = {"POLYGONS": "polygons", "TRIANGLE_STRIPS": "strips", "LINES": "lines"}


def read_polydata(content: bytes) -> dict[str, Any]:
    """title, points (N, 3), polygons, strips, lines (lists of index arrays). Raises ValueError on anything else."""
    stream = _Stream(content)
    if not stream.line().startswith("# vtk DataFile"):
        raise ValueError("not a legacy VTK file")
    title = stream.line()
    stream.binary = stream.word().upper() == "BINARY"
    if (stream.word().upper(), stream.word().upper()) != ("DATASET", "POLYDATA"):
        raise ValueError("not PolyData")
    found: dict[str, Any] = {"title": title, "points": np.empty((0, 3)), "polygons": [], "strips": [], "lines": []}
    while (word := stream.word().upper()) and word not in ("POINT_DATA", "CELL_DATA"):
        if word == "POINTS":
            count, kind = int(stream.word()), stream.word()
            found["points"] = stream.numbers(3 * count, kind).reshape(-1, 3).astype(np.float64)
        elif word in (*_SECTIONS, "VERTICES"):
            cells = stream.cells(int(stream.word()), int(stream.word()))
            if word in _SECTIONS:
                found[_SECTIONS[word]] = cells
        elif word == "METADATA":
            stream.skip_metadata()
        elif word == "FIELD":
            stream.skip_field()
        else:
            raise ValueError(f"section {word}")
    return found


class _Stream:
    """Words, lines and number blocks, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place, self.binary = content, 0, False

    def line(self) -> str:
        end = self._content.find(b"\n", self._place)
        end = len(self._content) if end < 0 else end
        text = self._content[self._place : end].decode("latin-1").strip()
        self._place = end + 1
        return text

    def word(self) -> str:
        content, place = self._content, self._place
        while place < len(content) and content[place : place + 1].isspace():
            place += 1
        end = place
        while end < len(content) and not content[end : end + 1].isspace():
            end += 1
        self._place = end
        return content[place:end].decode("latin-1")

    def numbers(self, count: int, kind: str) -> np.ndarray:
        dtype = np.dtype(_TYPES[kind.lower()])
        if not self.binary:
            return np.array([self.word() for _ in range(count)], dtype=dtype.newbyteorder("="))
        self.line()  # the rest of the line that announced the block
        size = count * dtype.itemsize
        if self._place + size > len(self._content):
            raise ValueError("the file is cut short")
        block = np.frombuffer(self._content, dtype, count, self._place)
        self._place += size
        return block.astype(dtype.newbyteorder("="))

    def cells(self, first: int, second: int) -> list[np.ndarray]:
        """New layout: `first` offsets and `second` connectivity entries; old: `first` cells in `second` numbers."""
        before = self._place
        if self.word().upper() == "OFFSETS":
            offsets = self.numbers(first, self.word())
            if self.word().upper() != "CONNECTIVITY":
                raise ValueError("cells without connectivity")
            connectivity = self.numbers(second, self.word()).astype(np.int64)
            return [connectivity[a:b] for a, b in itertools.pairwise(offsets)]
        self._place = before
        block = self.numbers(second, "int").astype(np.int64)
        cells, place = [], 0
        for _ in range(first):
            size = int(block[place])
            cells.append(block[place + 1 : place + 1 + size])
            place += 1 + size
        return cells

    def skip_metadata(self) -> None:
        self.line()
        while self.line():
            pass

    def skip_field(self) -> None:
        self.word()
        for _ in range(int(self.word())):
            name, components, tuples, kind = (self.word() for _ in range(4))
            if kind.lower() == "string":
                raise ValueError(f"field {name} of text before the cells")
            self.numbers(int(components) * int(tuples), kind)
