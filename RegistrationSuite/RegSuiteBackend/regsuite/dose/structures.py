"""The structures of a dose evaluation: what the user names, read from whatever file holds it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regsuite import check
from regsuite.dose.occupancy import ENDS, contour_occupancy, crossing_contours, surface_occupancy
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.io.rt_dose import is_dicom
from regsuite.io.rt_structures import ContourSet, read_structure_set
from regsuite.io.segmentation import Segment, read_segments
from regsuite.io.surfaces import SURFACE_EXTENSIONS, read_surface

_SELECT = re.compile(r"^(?P<path>.*)\?(?P<key>name|label)=(?P<value>.+)$")
_PALETTE = ((0.90, 0.30, 0.24), (0.20, 0.60, 0.86), (0.18, 0.70, 0.44), (0.95, 0.61, 0.07), (0.61, 0.35, 0.71), (0.10, 0.74, 0.71),
            (0.55, 0.43, 0.36), (0.91, 0.46, 0.66), (0.50, 0.55, 0.55), (0.74, 0.76, 0.15))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Structure:
    """occupancy: (1, D, H, W) share 0..1 of each cell of a grid of its own. colour RGB 0..1. notes: what the user should know."""

    name: str
    occupancy: Image
    colour: tuple[float, float, float]
    frame_of_reference: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def volume_cc(self) -> float:
        """cm^3."""
        return float(self.occupancy.data.double().sum()) * self.occupancy.grid.voxel_volume / 1000.0


@dataclass(frozen=True)
class Source:
    """One NAME=PATH of the user, taken apart. name None: everything in the file under its own name."""

    name: str | None
    path: Path
    inner_name: str | None = None
    label: int | None = None


def parse_source(text: str) -> Source:
    """'NAME=PATH', or 'PATH' for all structures of a file; PATH?name=REGION or PATH?label=3 picks one of a file with several."""
    name, found, path = text.partition("=")
    if not found or Path(text.split("?")[0]).exists() or "?" in name:
        name, path = "", text
    if found and not (name or path == text):
        raise InputError(f"Cannot use '{text}' as structure: expected NAME=PATH, found no name.")
    match = _SELECT.match(path)
    if match is None:
        return Source(name or None, Path(path))
    value = match["value"]
    if match["key"] == "name":
        return Source(name or None, Path(match["path"]), inner_name=value)
    if not value.isdigit():
        raise InputError(f"Cannot use '{text}': a label is a whole number, found '{value}'.")
    return Source(name or None, Path(match["path"]), label=int(value))


def load_structures(
    sources: Sequence[str], finest_dose_mm: float, space: str | None = None, ends: str = "taper"
) -> list[Structure]:
    """Read NAME=PATH... -> structures in the order given; finest_dose_mm is the smallest spacing of the dose.

    PATH: label image, volume of shares, .seg.nrrd, RTSTRUCT, .vtp, .vtk, .stl (LPS unless the file or `space` says RAS). A name
    given twice, a region that is empty, without volume or not in the file raises InputError.
    """
    check.choice("ends", ends, tuple(ENDS))
    if not sources:
        raise InputError("No structures are given; expected NAME=PATH at least once.")
    found: list[Structure] = []
    for text in sources:
        source = parse_source(text)
        kind = source.path.suffix.lower()
        if kind in SURFACE_EXTENSIONS:
            found.append(_from_surface(source, finest_dose_mm, space, ends))
        elif is_dicom(source.path):
            found += _from_rtstruct(source, finest_dose_mm, ends)
        else:
            found += _from_labels(source)
    names = [s.name for s in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"The structure name '{twice[0]}' is used {names.count(twice[0])} times; give each its own (NAME=PATH).")
    return [replace(s, colour=s.colour if s.colour != _PALETTE[0] else _PALETTE[n % len(_PALETTE)]) for n, s in enumerate(found)]


def _structure(
    name: str, occupancy: Image | None, path: Path, colour: tuple[float, float, float] | None, **more: object
) -> Structure:
    if occupancy is None or not bool((occupancy.data > 0).any()):
        raise InputError(f"The structure '{name}' of '{path}' has no volume: nothing is marked.")
    return Structure(name, occupancy, colour or _PALETTE[0], **more)  # type: ignore[arg-type]


def _from_surface(source: Source, finest: float, space: str | None, ends: str) -> Structure:
    surface = read_surface(source.path, space)
    name = source.name or surface.name or source.path.stem
    try:
        if len(surface.triangles):
            occupancy = surface_occupancy(surface.points, surface.triangles, finest)
        else:
            closed = [line for line in surface.loops if len(line) > 3 and line[0] == line[-1]]
            if len(closed) < len(surface.loops):
                raise InputError(
                    f"{len(surface.loops) - len(closed)} of its {len(surface.loops)} contours are open and enclose nothing"
                )
            occupancy = contour_occupancy([surface.points[line[:-1]] for line in closed], finest, None, ends)
    except InputError as error:
        raise InputError(f"The structure '{name}' of '{source.path}' cannot be used: {error}.") from error
    return _structure(name, occupancy, source.path, surface.colour)


def _from_rtstruct(source: Source, finest: float, ends: str) -> list[Structure]:
    content = read_structure_set(source.path)
    regions = {region.name: region for region in content.regions}
    if source.label is not None:
        raise InputError(f"'{source.path}' is an RTSTRUCT; pick a region by ?name=REGION, not by label.")
    levels = np.unique(np.round([c[:, 2].mean() for r in content.regions for c in r.contours], 2))
    thickness = float(np.median(np.diff(levels))) if len(levels) > 1 else None
    chosen: list[tuple[str, ContourSet]]
    wanted = source.inner_name or source.name
    if wanted in regions:
        chosen = [(source.name or str(wanted), regions[str(wanted)])]
    elif wanted is None:
        chosen = [(name, region) for name, region in regions.items() if region.contours]
    elif source.inner_name is None and len(regions) == 1:
        chosen = [(wanted, next(iter(regions.values())))]
    else:
        raise InputError(f"The RTSTRUCT '{source.path}' has no region '{wanted}'; it holds {', '.join(regions)}.")
    if not chosen:
        raise InputError(f"The RTSTRUCT '{source.path}' holds no region with closed contours.")
    shape = (finest, thickness, ends)
    return [_from_contours(name, region, source.path, shape, content.frame_of_reference) for name, region in chosen]


def _from_contours(
    name: str, region: ContourSet, path: Path, shape: tuple[float, float | None, str], frame: str | None
) -> Structure:
    finest, usual_mm, ends = shape
    others = ", ".join(f"{count} {kind}" for kind, count in region.other.items())
    if not region.contours:
        what = f"only contours that enclose nothing ({others})" if others else "no contours"
        raise InputError(f"The structure '{name}' of '{path}' has no volume: it holds {what}.")
    notes = [f"'{name}' has contours that enclose nothing and are left out: {others}."] if others else []
    try:
        occupancy = contour_occupancy(list(region.contours), finest, region.thickness_mm or usual_mm, ends)
        crossing = crossing_contours(list(region.contours))
    except InputError as error:
        raise InputError(f"The structure '{name}' of '{path}' cannot be used: {error}.") from error
    if crossing:
        notes.append(
            f"'{name}': {crossing} pairs of contours cut through each other; what both enclose counts as outside (DICOM's XOR)."
        )
    return _structure(name, occupancy, path, region.colour, frame_of_reference=frame, notes=tuple(notes))


def _from_labels(source: Source) -> list[Structure]:
    segments = read_segments(source.path)
    if not segments:
        raise InputError(f"The structure '{source.name or source.path.name}' of '{source.path}' has no volume: every voxel is 0.")
    named = {segment.name: segment for segment in segments}
    if source.label is not None:
        picked = [s for s in segments if s.label == source.label]
    elif source.inner_name is not None:
        picked = [s for s in segments if s.name == source.inner_name]
    elif source.name is None:
        return [_structure(s.name, s.occupancy, source.path, s.colour) for s in segments]
    else:
        picked = [named[source.name]] if source.name in named else (segments if len(segments) == 1 else [])
    if not picked:
        held = f"{len(segments)} structures ({_listed(segments)})"
        raise InputError(f"'{source.path}' holds {held}; pick one with NAME=PATH?label=N or NAME=PATH?name=REGION.")
    segment = picked[0]
    return [_structure(source.name or segment.name, segment.occupancy, source.path, segment.colour)]


def _listed(segments: list[Segment]) -> str:
    words = [s.name if s.label is None or s.name == f"label_{s.label}" else f"{s.name} ({s.label})" for s in segments]
    return ", ".join(words[:12]) + (", ..." if len(words) > 12 else "")
