"""What share of each cell a structure fills: closed surfaces by ray crossings, stacks of contours by scan lines.

Along x the crossings are exact; across, RAYS x RAYS rays per cell (contours: RAYS lines) are averaged. A cell between an odd and
an even crossing is inside: nested surfaces and contours are therefore holes (DICOM's XOR).
"""

from __future__ import annotations

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry import Grid, Image

RAYS = 3
CELLS = 2_000_000
MOST_CELLS = 12_000_000
_PAIRS = 3_000_000
ENDS = {"taper": 0.25, "slab": 0.5, "plane": 0.0}
_GAP = 1.5  # of the usual step between contours: wider, and the structure is interrupted


def cell_size(extent_mm: np.ndarray, finest_dose_mm: float) -> float:
    """mm: about CELLS cells fill the box, but never more than half a dose voxel, nor so fine that MOST_CELLS are passed."""
    volume = float(np.prod(np.maximum(extent_mm, 0.5)))
    return max(min((volume / CELLS) ** (1 / 3), 0.5 * finest_dose_mm), (volume / MOST_CELLS) ** (1 / 3))


def coverage_from_crossings(
    shape: tuple[int, int, int], cell_row: np.ndarray, ray: np.ndarray, x: np.ndarray, rays: int
) -> np.ndarray:
    """(D, H, W) float32 in 0..1 from crossings: `x` in cells (cell c spans c to c + 1), `ray` any id unique to a ray, `cell_row`
    the row k * H + j that the ray belongs to, `rays` the number of rays per row. Raises ValueError when a ray crosses an odd
    number of times.
    """
    order = np.lexsort((x, ray))
    ray, x, cell_row = ray[order], x[order], cell_row[order]
    first = np.ones(len(ray), dtype=bool)
    first[1:] = ray[1:] != ray[:-1]
    starts = np.flatnonzero(first)
    counts = np.diff(np.append(starts, len(ray)))
    if (counts % 2).any():
        raise ValueError(f"{int((counts % 2).sum())} of {len(counts)} rays leave the surface without entering it")
    place = np.arange(len(ray)) - np.repeat(starts, counts)
    sign = 1.0 - 2.0 * (place & 1)
    depth, height, width = shape
    x = np.clip(x, 0.0, width)
    cell = np.minimum(x.astype(np.int64), width - 1)
    part = cell + 1 - x
    size = depth * height * (width + 1)
    at = cell_row * (width + 1) + cell
    steps = np.bincount(at, sign * part, size) + np.bincount(at + 1, sign * (1.0 - part), size)
    share = np.cumsum(steps.reshape(depth, height, width + 1), axis=2)[:, :, :width] / rays
    return np.clip(share, 0.0, 1.0).astype(np.float32)


def surface_occupancy(points: np.ndarray, triangles: np.ndarray, finest_dose_mm: float) -> Image:
    """Closed triangle mesh, points (N, 3) RAS mm -> occupancy (1, D, H, W) in 0..1 on cubic cells along RAS.

    Raises InputError when the mesh is open (an edge with an odd number of triangles).
    """
    points, index = np.unique(points, axis=0, return_inverse=True)  # files repeat points to give each face its own normal
    triangles = index.reshape(-1)[triangles]
    triangles = triangles[
        (triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2]) & (triangles[:, 2] != triangles[:, 0])
    ]
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    if (uses % 2).any():
        raise InputError(f"the surface is open: {int((uses % 2).sum())} edges border a hole; expected a closed surface")
    low, high = points[triangles].min((0, 1)), points[triangles].max((0, 1))
    size = cell_size(high - low, finest_dose_mm)
    shape = tuple(int(n) for n in np.ceil((high - low) / size)[::-1] + 2)
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = low - 0.5 * size  # the first cell is empty
    cells = (points - (low - size)) / size  # cell c spans c to c + 1
    row, ray, x = _mesh_crossings(cells, triangles, shape)
    try:
        share = coverage_from_crossings(shape, row, ray, x, RAYS * RAYS)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"the surface is open: {error}") from error
    return Image(torch.from_numpy(share), Grid(shape, affine))  # type: ignore[arg-type]


def _mesh_crossings(cells: np.ndarray, triangles: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crossings of all rays along x: (row, ray, x in cells). Rays stand at (n + 0.5) / RAYS cells, a little off to miss corners."""
    lines = (cells[:, 1:] * RAYS) - np.array([0.5 + 1.3e-6, 0.5 + 2.9e-6])  # y, z in rays
    corner = lines[triangles]
    low = np.ceil(corner.min(1)).astype(np.int64)
    high = np.floor(corner.max(1)).astype(np.int64)
    span = np.maximum(high - low + 1, 0)
    counts = span[:, 0] * span[:, 1]
    ends = np.cumsum(counts)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    start = 0
    while start < len(triangles):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
        part = slice(start, stop)
        which = np.repeat(np.arange(start, stop), counts[part])
        place = np.arange(len(which)) - np.repeat(ends[part] - counts[part] - before, counts[part])
        y, z = low[which, 0] + place % np.maximum(span[which, 0], 1), low[which, 1] + place // np.maximum(span[which, 0], 1)
        found.append(_hits(cells, lines, triangles[which], y, z, shape))
        start = stop
    row, ray, x = (np.concatenate(column) for column in zip(*found, strict=True))
    return row, ray, x


def _hits(
    cells: np.ndarray, lines: np.ndarray, corners: np.ndarray, y: np.ndarray, z: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of the pairs (triangle, ray) meet, and where. An edge is judged the same from both its triangles: no ray slips
    through.
    """
    areas, sides = [], []
    for a, b in ((1, 2), (2, 0), (0, 1)):
        p, q = corners[:, a], corners[:, b]
        swap = p > q
        first, second = np.where(swap, q, p), np.where(swap, p, q)
        u, v = lines[second] - lines[first], np.stack([y, z], axis=1) - lines[first]
        cross = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        sides.append((cross >= 0) ^ swap)
        areas.append(np.where(swap, -cross, cross))
    meet = (sides[0] == sides[1]) & (sides[1] == sides[2])
    weights = np.stack(areas, axis=1)[meet]
    total = weights.sum(1, keepdims=True)
    weights = np.where(total == 0.0, 1 / 3, weights / np.where(total == 0.0, 1.0, total))
    x = (weights * cells[corners[meet], 0]).sum(1)
    y, z = y[meet], z[meet]
    row = (z // RAYS) * shape[1] + y // RAYS
    return row, z * (shape[1] * RAYS) + y, x


def contour_occupancy(contours: list[np.ndarray], finest_dose_mm: float, thickness_mm: float | None, ends: str = "taper") -> Image:
    """Closed planar contours, each (n, 3) RAS mm, all in parallel planes -> occupancy (1, D, H, W) in 0..1.

    Each plane stands for a slab that reaches half-way to its neighbours. Beyond the first and last plane, and beside a gap of
    more than 1.5 usual steps, it reaches ENDS[ends] of a usual step: taper = 1/4, what planning systems that round the ends off
    come to; slab = 1/2, every plane counts with its full thickness; plane = 0. A structure on one plane needs `thickness_mm`,
    which it fills. Raises InputError for contours that are not planar or parallel.
    """
    frame, polygons, levels = _planes(contours)
    heights, number = np.unique(np.round(levels, 2), return_inverse=True)
    if len(heights) == 1 and thickness_mm is None:
        raise InputError("all contours lie in one plane and the file gives no slice thickness: they enclose no volume")
    step = float(np.median(np.diff(heights))) if len(heights) > 1 else float(thickness_mm or 0.0)
    bottoms, tops = _slabs(heights, step, ENDS[ends] if len(heights) > 1 else 0.5)
    flat = np.concatenate(polygons)
    low = np.array([*flat.min(0), bottoms[0]])
    high = np.array([*flat.max(0), tops[-1]])
    size = cell_size(high - low, finest_dose_mm)
    along = step / (4 * max(1, round(0.25 * step / size)))  # cells end where slabs end
    width, height = (int(np.ceil(e / size)) + 2 for e in (high - low)[:2])
    depth = max(1, round((high[2] - low[2]) / along))
    affine = np.eye(4)
    affine[:3, :3] = frame * np.array([size, size, along])
    affine[:3, 3] = frame @ np.array([low[0] - 0.5 * size, low[1] - 0.5 * size, low[2] + 0.5 * along])
    planes = [
        _fill([p for p, n in zip(polygons, number, strict=True) if n == level], low, size, (height, width))
        for level in range(len(heights))
    ]
    out = np.zeros((depth, height, width), dtype=np.float32)
    for k in range(depth):
        middle = low[2] + (k + 0.5) * along
        level = int(np.searchsorted(tops, middle))
        if level < len(heights) and middle >= bottoms[level]:
            out[k] = planes[level]
    return Image(torch.from_numpy(out), Grid((depth, height, width), affine))


def _planes(contours: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """(3, 3) frame with columns u, v, normal; the contours as (n, 2) in it; and their heights."""
    if all(np.ptp(c[:, 2]) < 0.01 for c in contours):
        frame = np.eye(3)  # axial planes, as nearly always
    else:
        largest = max(contours, key=lambda c: float(np.ptp(c, axis=0).sum()))
        frame = np.linalg.svd(largest - largest.mean(0), full_matrices=False)[2].T
        frame[:, 2] = np.cross(frame[:, 0], frame[:, 1])
    local = [c @ frame for c in contours]
    thick = max(float(np.ptp(c[:, 2])) for c in local)
    if thick > 0.1:
        raise InputError(f"its contours do not lie in parallel planes (one leaves its plane by {thick:.2g} mm)")
    return frame, [c[:, :2] for c in local], np.array([c[:, 2].mean() for c in local])


def _slabs(heights: np.ndarray, step: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Bottom and top of the slab of each plane; an end reaches `end` steps (not quite nothing, so that no slab is empty)."""
    gaps = np.diff(heights)
    last = max(end, 1e-6) * step
    reach = np.where(gaps > _GAP * step, last, 0.5 * gaps)
    return heights - np.insert(reach, 0, last), heights + np.append(reach, last)


def _fill(polygons: list[np.ndarray], low: np.ndarray, size: float, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) covered share of one plane, even-odd over all its contours."""
    rows, rays, crossings = [], [], []
    height, width = shape
    for polygon in polygons:
        p = (polygon - low[:2]) / size + 1.0
        q = np.roll(p, -1, axis=0)
        line_p, line_q = p[:, 1] * RAYS - (0.5 + 1.3e-6), q[:, 1] * RAYS - (0.5 + 1.3e-6)
        first, last = np.ceil(np.minimum(line_p, line_q)).astype(np.int64), np.ceil(np.maximum(line_p, line_q)).astype(np.int64)
        count = last - first  # half-open: a corner on a line belongs to one of its edges
        edge = np.repeat(np.arange(len(p)), count)
        line = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
        share = (line - line_p[edge]) / (line_q - line_p)[edge]
        crossings.append(p[edge, 0] + share * (q - p)[edge, 0])
        rays.append(line)
        rows.append(line // RAYS)
    ray, row, x = (np.concatenate(parts) for parts in (rays, rows, crossings))
    return coverage_from_crossings((1, height, width), row, ray, x, RAYS)[0]


def crossing_contours(contours: list[np.ndarray]) -> int:
    """How many pairs of contours of one plane cut through each other (neither nested nor apart): XOR drops what they share."""
    _, polygons, levels = _planes(contours)
    count = 0
    for level in np.unique(np.round(levels, 2)):
        here = [p for p, n in zip(polygons, np.round(levels, 2), strict=True) if n == level]
        for a in range(len(here)):
            for b in range(a + 1, len(here)):
                if (here[a].max(0) < here[b].min(0)).any() or (here[b].max(0) < here[a].min(0)).any():
                    continue
                inside = [inside_outline(one, two) for one, two in ((here[a], here[b]), (here[b], here[a]))]
                count += any(0.02 < float(share.mean()) < 0.98 for share in inside)
    return count


def inside_outline(outline: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which of `points` (m, 2) lie inside the closed polygon `outline` (n, 2), even-odd; on the outline either may be said."""
    p, q = outline[:, None], np.roll(outline, -1, axis=0)[:, None]
    spans = (p[..., 1] > points[:, 1]) != (q[..., 1] > points[:, 1])
    rise = np.where(spans, q[..., 1] - p[..., 1], 1.0)
    crossing = p[..., 0] + (points[:, 1] - p[..., 1]) / rise * (q[..., 0] - p[..., 0])
    return (spans & (points[:, 0] < crossing)).sum(axis=0) % 2 == 1
