"""Is a volume file complete? ITK returns zeros for a NIfTI file that is cut short and for NaN in it, and ignores MetaImage's
checksums; so this file looks at the bytes itself.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from regsuite.io.itk import extension, unreadable

DISPLACEMENT_INTENT = 1006
_INTENT_OFFSET = 68
_NIFTI_HEADER = 540
_NIFTI_FLOATS = {16: "f4", 64: "f8"}  # datatype codes; complex and integers need no look
_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_ANY_WRAPPER = 47  # zlib: accept gzip or zlib wrappers, and compare their checksums
_NRRD_BLANK = re.compile(rb"\r?\n\r?\n")
_LONGEST_NAME = 255
_META_DATA = re.compile(rb"^ElementDataFile\s*=\s*(.*?)\s*?\r?\n", re.MULTILINE)


def require_complete(path: Path, finite: bool = True) -> None:
    """Raise InputError when the file is cut short or its compressed data damaged (NIfTI, NRRD, MetaImage), and, with `finite`,
    when a NIfTI file holds NaN or infinite voxels. Other kinds of file pass: the reader judges them.
    """
    kind = extension(path)
    try:
        if kind in (".nii", ".nii.gz"):
            _require_nifti(path, finite)
        elif kind == ".nrrd":
            _require_nrrd(path)
        elif kind in (".mha", ".mhd"):
            _require_meta(path)
    except (EOFError, zlib.error) as error:
        raise unreadable(path, "a complete file", "damaged compressed data or a file cut short") from error
    except OSError as error:
        raise unreadable(path, "a readable file", (error.strerror or "an error").lower()) from error


def set_intent(path: Path, code: int) -> None:
    """Set the intent code in the header of an uncompressed little-endian .nii file."""
    with path.open("r+b") as stream:
        stream.seek(_INTENT_OFFSET)
        stream.write(struct.pack("<h", code))


def _inflate(stream: BinaryIO) -> Iterator[bytes]:
    """Decompressed pieces of at most 1 MiB, over all gzip members; zlib.error for damage, EOFError for a cut."""
    engine = zlib.decompressobj(_ANY_WRAPPER)
    waiting = b""
    while True:
        if engine.eof:
            waiting = engine.unused_data or stream.read(2)
            if waiting[:2] != _GZIP:
                return
            engine = zlib.decompressobj(_ANY_WRAPPER)
        waiting = waiting or stream.read(_BLOCK)
        if not waiting:
            raise EOFError
        yield engine.decompress(waiting, _BLOCK)
        waiting = engine.unconsumed_tail


@dataclass(frozen=True)
class _NiftiLayout:
    """Where the voxels lie in a single-file NIfTI: first byte, number of bytes, and their type if it is floating."""

    start: int
    size: int
    floating: np.dtype | None


def _require_nifti(path: Path, finite: bool) -> None:
    """Compare the size the header promises with the bytes that are there, and look for NaN: the library reads it as 0."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == _GZIP
        stream.seek(0)
        pieces = _inflate(stream) if zipped else iter(lambda: stream.read(_BLOCK), b"")
        head = b""
        while len(head) < _NIFTI_HEADER and (piece := next(pieces, None)) is not None:
            head += piece
        layout = _nifti_layout(head)
        if layout is None:
            raise unreadable(path, "a NIfTI file", "another kind of file or a damaged header")
        found, spoiled = _scan(itertools.chain([head], pieces), layout)
    if found < layout.start + layout.size:
        raise unreadable(path, f"{layout.start + layout.size} bytes of NIfTI data", f"{found}; the file is cut short")
    if spoiled and finite:
        raise unreadable(path, "finite numbers everywhere", f"{spoiled} NaN or infinite voxels")


def _scan(pieces: Iterator[bytes], layout: _NiftiLayout) -> tuple[int, int]:
    """(number of bytes, number of voxels that are NaN or infinite)."""
    found, spoiled, rest = 0, 0, b""
    for piece in pieces:
        if layout.floating is not None:
            first = max(0, layout.start - found)
            rest += piece[first : max(first, layout.start + layout.size - found)]
            whole = len(rest) - len(rest) % layout.floating.itemsize
            spoiled += int(np.count_nonzero(~np.isfinite(np.frombuffer(rest[:whole], layout.floating))))
            rest = rest[whole:]
        found += len(piece)
    return found, spoiled


def _nifti_layout(header: bytes) -> _NiftiLayout | None:
    """The layout in a NIfTI-1 or NIfTI-2 header (empty when the voxels are in a detached .img); None for no such header."""
    if len(header) < 348:
        return None
    for order in "<>":
        size = struct.unpack(order + "i", header[:4])[0]
        if size == 348:
            dims = struct.unpack(order + "8h", header[40:56])
            code, bits = struct.unpack(order + "2h", header[70:74])
            start = struct.unpack(order + "f", header[108:112])[0]
            single = header[344:347] == b"n+1"
        elif size == 540 and len(header) >= 540:
            dims = struct.unpack(order + "8q", header[16:80])
            code, bits = struct.unpack(order + "2h", header[12:16])
            start = struct.unpack(order + "q", header[168:176])[0]
            single = header[4:7] == b"n+2"
        else:
            continue
        if not 1 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1 or bits < 1 or not 0 <= start < 2**31:
            return None
        if not single:
            return _NiftiLayout(0, 0, None)
        floating = np.dtype(order + _NIFTI_FLOATS[code]) if code in _NIFTI_FLOATS else None
        return _NiftiLayout(int(start), math.prod(dims[1 : dims[0] + 1]) * bits // 8, floating)
    return None


def _require_nrrd(path: Path) -> None:
    """Run through attached gzip data, so that its checksum is compared."""
    with path.open("rb") as stream:
        head = stream.read(_BLOCK)
        blank = _NRRD_BLANK.search(head)
        if not blank:
            return
        fields = head[: blank.start()].lower()
        if not re.search(rb"^encoding:\s*(gzip|gz)\s*$", fields, re.MULTILINE):
            return
        if re.search(rb"^(data ?file|byte ?skip|line ?skip):", fields, re.MULTILINE):
            return
        stream.seek(blank.end())
        for _ in _inflate(stream):
            pass


def _require_meta(path: Path) -> None:
    """Run through compressed data, attached (LOCAL) or in one file beside the header.

    A data file name that is missing or no text is refused: the reader would overrun its memory.
    """
    with path.open("rb") as stream:
        head = stream.read(_BLOCK)
        found = _META_DATA.search(head)
        name = found.group(1).decode("utf-8", "replace") if found else ""
        if found is None or len(name) > _LONGEST_NAME or not name.isprintable() or "\ufffd" in name:
            raise unreadable(path, "a MetaImage header that ends with ElementDataFile", "another kind of file or a damaged header")
        if not re.search(rb"^CompressedData\s*=\s*True", head[: found.start()], re.MULTILINE | re.IGNORECASE):
            return
        if name == "LOCAL":
            stream.seek(found.end())
            for _ in _inflate(stream):
                pass
            return
    beside = path.parent / name
    if beside.is_file():  # LIST and numbered patterns are left to the reader
        with beside.open("rb") as stream:
            for _ in _inflate(stream):
                pass
