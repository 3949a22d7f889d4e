"""Closed surfaces and planar contours of one structure, from .vtp, legacy .vtk and .stl.

Why a reader of our own: VTK must not be imported here (Slicer bundles its own), and the libraries that could stand in (meshio,
trimesh) read neither .vtp nor legacy PolyData.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry import frames
from regsuite.io import vtk_legacy, vtk_xml
from regsuite.io.itk import extension, readable_file, unreadable

SURFACE_EXTENSIONS = (".vtp", ".vtk", ".stl")
SPACES = ("LPS", "RAS")
_EXPECTED = "a closed surface or planar contours (.vtp, .vtk, .stl)"


@dataclass(frozen=True, eq=False)
class Surface:
    """points (N, 3) float64 RAS mm; triangles (M, 3) indices; loops: index arrays of closed planar contours. name, colour (RGB
    0..1) as the file says, or None."""

    points: np.ndarray
    triangles: np.ndarray
    loops: tuple[np.ndarray, ...] = ()
    name: str | None = None
    colour: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class PolyData:
    """What the file formats share: cells are index arrays; `space` is LPS, RAS or None as the file says."""

    points: np.ndarray
    polygons: list[np.ndarray]
    strips: list[np.ndarray]
    lines: list[np.ndarray]
    space: str | None = None
    name: str | None = None
    colour: tuple[float, float, float] | None = None


def read_surface(path: str | os.PathLike[str], space: str | None = None) -> Surface:
    """Read one structure. The points are LPS unless the file says otherwise (SPACE=RAS, as Slicer writes) or `space` does, which
    wins.

    Raises InputError for a file that is missing, damaged or of another kind, holds no cells, or has coordinates that are not
    finite.
    """
    name = Path(path)
    readable_file(name, _EXPECTED)
    kind = extension(name)
    if kind not in _READERS:
        raise unreadable(name, _EXPECTED, f"the extension '{kind}'")
    if space is not None and space not in SPACES:
        raise InputError(f"'space' must be LPS or RAS, found {space!r}.")
    try:
        data = _READERS[kind](name.read_bytes())
        triangles = _triangles(data)
    except InputError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, OSError, UnicodeDecodeError, SyntaxError) as error:
        raise unreadable(
            name, _EXPECTED, f"a damaged or unknown file ({str(error).splitlines()[0] if str(error) else 'no data'})"
        ) from error
    points = np.asarray(data.points, dtype=np.float64).reshape(-1, 3)
    if not len(points) or not (len(triangles) or data.lines):
        raise unreadable(name, _EXPECTED, "no polygons and no lines")
    if not np.isfinite(points).all():
        raise unreadable(name, _EXPECTED, "coordinates that are not finite")
    largest = max([int(triangles.max(initial=0)), *(int(line.max(initial=0)) for line in data.lines)])
    if largest >= len(points):
        raise unreadable(name, _EXPECTED, f"a cell with point {largest} of {len(points)}")
    if (space or data.space or "LPS") == "LPS":
        points = frames.flip_points(torch.from_numpy(points)).numpy()
    return Surface(points, triangles, tuple(data.lines), data.name, data.colour)


def _triangles(data: PolyData) -> np.ndarray:
    """Polygons fanned out, strips unrolled -> (M, 3)."""
    found = [np.empty((0, 3), dtype=np.int64)]
    sizes = np.array([len(p) for p in data.polygons])
    for size in np.unique(sizes):
        if size < 3:
            continue
        block = np.stack([p for p, n in zip(data.polygons, sizes, strict=True) if n == size])
        found += [block[:, [0, k, k + 1]] for k in range(1, int(size) - 1)]
    for strip in data.strips:
        rows = np.stack([strip[:-2], strip[1:-1], strip[2:]], axis=1)
        rows[1::2] = rows[1::2, ::-1]
        found.append(rows)
    return np.concatenate(found).astype(np.int64)


def _read_stl(content: bytes) -> PolyData:
    """Binary or ASCII STL; corners at the same place become one point."""
    count = int(np.frombuffer(content[80:84], "<u4")[0]) if len(content) >= 84 else -1
    if len(content) == 84 + 50 * count:
        header = content[:80].decode("latin-1")
        record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
        corners = np.frombuffer(content, record, count, 84)["corners"].reshape(-1, 3).astype(np.float64)
    else:
        text = content.decode("latin-1")
        if not text.lstrip().lower().startswith("solid"):
            raise ValueError("neither binary nor ASCII STL")
        header = text.splitlines()[0]
        lines = [line.split()[1:4] for line in text.splitlines() if line.strip().lower().startswith("vertex")]
        corners = np.array(lines, dtype=np.float64).reshape(-1, 3)
    points, index = np.unique(corners, axis=0, return_inverse=True)
    return PolyData(points, list(index.reshape(-1, 3)), [], [], space_in_text(header))


def space_in_text(text: str) -> str | None:
    """Slicer notes the space in a comment: SPACE=LPS or SPACE=RAS."""
    for space in SPACES:
        if f"SPACE={space}" in text.upper():
            return space
    return None


def _read_vtp(content: bytes) -> PolyData:
    found = vtk_xml.read_polydata(content)
    return PolyData(**found)


def _read_vtk(content: bytes) -> PolyData:
    found = vtk_legacy.read_polydata(content)
    title = found.pop("title")
    return PolyData(**found, space=space_in_text(title))


_READERS = {".vtp": _read_vtp, ".vtk": _read_vtk, ".stl": _read_stl}
