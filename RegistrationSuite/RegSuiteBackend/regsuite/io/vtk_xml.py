"""VTK's XML PolyData (.vtp): ascii, binary and appended arrays, zlib-compressed or plain. No VTK needed."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
import zlib
from typing import Any

import numpy as np

_TYPES = {"Int8": "i1", "UInt8": "u1", "Int16": "i2", "UInt16": "u2", "Int32": "i4", "UInt32": "u4", "Int64": "i8", "UInt64": "u8",
          "Float32": "f4", "Float64": "f8"}  # fmt: skip
_COMPRESSORS = (None, "vtkZLibDataCompressor")


def read_polydata(content: bytes) -> dict[str, Any]:
    """points (N, 3), polygons, strips, lines (lists of index arrays), and space, name, colour from the field data (or None).

    Raises ValueError on what is not a PolyData file or uses another compressor than zlib.
    """
    head, raw = _split_appended(content)
    root = ElementTree.fromstring(head)
    if root.tag != "VTKFile" or root.get("type") != "PolyData":
        raise ValueError("not a VTK PolyData file")
    if root.get("compressor") not in _COMPRESSORS:
        raise ValueError(f"compressor {root.get('compressor')}")
    reader = _Arrays(root, raw)
    polydata = root.find("PolyData")
    pieces = [] if polydata is None else polydata.findall("Piece")
    points: list[np.ndarray] = []
    cells: dict[str, list[np.ndarray]] = {"Polys": [], "Strips": [], "Lines": []}
    count = 0
    for piece in pieces:
        array = piece.find("Points/DataArray")
        if array is None:
            continue
        points.append(reader.numbers(array).reshape(-1, 3).astype(np.float64))
        for kind, found in cells.items():
            section = piece.find(kind)
            if section is not None:
                found += [cell + count for cell in reader.cells(section)]
        count += len(points[-1])
    fields = {} if polydata is None else reader.fields(polydata.find("FieldData"))
    colour = fields.get("Segment_DefaultColor")
    return {
        "points": np.concatenate(points) if points else np.empty((0, 3)),
        "polygons": cells["Polys"],
        "strips": cells["Strips"],
        "lines": cells["Lines"],
        "space": fields.get("SPACE"),
        "name": fields.get("Segment_Name"),
        "colour": None if colour is None else (float(colour[0]), float(colour[1]), float(colour[2])),
    }


def _split_appended(content: bytes) -> tuple[bytes, tuple[str, bytes] | None]:
    """Raw appended data is no XML: cut it out. -> (parsable XML, (encoding, data) or None)."""
    match = re.search(rb'<AppendedData\s+encoding="(\w+)"\s*>', content)
    if match is None:
        return content, None
    end = content.rfind(b"</AppendedData>")
    data = content[content.index(b"_", match.end()) + 1 : end]
    return content[: match.start()] + b"</VTKFile>", (match.group(1).decode(), data)


class _Arrays:
    """Decodes DataArray elements of one file."""

    def __init__(self, root: ElementTree.Element, appended: tuple[str, bytes] | None) -> None:
        self._order = "<" if root.get("byte_order", "LittleEndian") == "LittleEndian" else ">"
        self._header = np.dtype(self._order + _TYPES[root.get("header_type", "UInt32")])
        self._packed = root.get("compressor") is not None
        self._appended = appended

    def numbers(self, element: ElementTree.Element) -> np.ndarray:
        kind = np.dtype(self._order + _TYPES[element.get("type", "")])
        if element.get("format") == "ascii":
            return np.array((element.text or "").split(), dtype=kind)
        return np.frombuffer(self._bytes(element), kind)

    def cells(self, section: ElementTree.Element) -> list[np.ndarray]:
        arrays = {e.get("Name"): e for e in section.findall("DataArray")}
        if "connectivity" not in arrays or "offsets" not in arrays:
            return []
        connectivity = self.numbers(arrays["connectivity"]).astype(np.int64)
        offsets = self.numbers(arrays["offsets"]).astype(np.int64)
        if not len(offsets):
            return []
        start = offsets[:-1]
        return np.split(connectivity[: offsets[-1]], start)

    def fields(self, section: ElementTree.Element | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for element in [] if section is None else list(section):
            name = element.get("Name") or ""
            if element.get("type") == "String":
                data = self._codes(element)
                found[name] = data.split(b"\0")[0].decode("utf-8", "replace")
            elif name == "Segment_DefaultColor":
                found[name] = self.numbers(element)
        return found

    def _codes(self, element: ElementTree.Element) -> bytes:
        if element.get("format") == "ascii":
            return bytes(int(code) for code in (element.text or "").split())
        return self._bytes(element)

    def _bytes(self, element: ElementTree.Element) -> bytes:
        if element.get("format") == "appended":
            if self._appended is None:
                raise ValueError("appended data are missing")
            encoding, data = self._appended
            data = data[int(element.get("offset", "0")) :]
            return self._decode(data, raw=encoding == "raw")
        return self._decode("".join((element.text or "").split()).encode("ascii"), raw=False)

    def _decode(self, data: bytes, raw: bool) -> bytes:
        """One array: a header of sizes, then the (compressed) blocks; base64 unless raw."""
        size = self._header.itemsize
        if not self._packed:
            data = data if raw else _base64(data)
            length = int(np.frombuffer(data[:size], self._header)[0])
            return data[size : size + length]
        first = data if raw else _base64(data[: 4 * -(-3 * size // 3)])
        blocks = int(np.frombuffer(first[:size], self._header)[0])
        head_size = (3 + blocks) * size
        coded = head_size if raw else 4 * -(-head_size // 3)
        head = np.frombuffer((data if raw else _base64(data[:coded]))[:head_size], self._header)
        body = data[coded:] if raw else _base64(data[coded:])
        ends = np.cumsum(head[3:].astype(np.int64))
        starts = ends - head[3:].astype(np.int64)
        return b"".join(zlib.decompress(body[a:b]) for a, b in zip(starts, ends, strict=True))


def _base64(data: bytes) -> bytes:
    """Decode up to the first padding (arrays stand one after the other in appended data)."""
    stop = data.find(b"=")
    if stop >= 0:
        stop = -(-(stop + 1) // 4) * 4
        data = data[:stop]
    return base64.b64decode(data[: len(data) // 4 * 4])
