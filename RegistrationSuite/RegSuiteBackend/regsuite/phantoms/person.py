"""A person's chest that breathes: drawn at any state of breathing, for the phantoms `thorax` and `dose`.

The anatomy is given once, at inhale, by surfaces and tubes. Each image is drawn from these shapes at its own voxels, through the
same blur, so none is an interpolated copy of another; noise is drawn for each on its own. Lung tissue keeps its mass: density =
density at inhale times the Jacobian of the map to inhale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image, frames
from regsuite.ops.sampling import sample_world
from regsuite.phantoms.breathing import BreathingTransform, random_motion
from regsuite.phantoms.chest import Chest, Plumbing, cloud_in, random_chest, random_plumbing
from regsuite.phantoms.shapes import cover, paint
from regsuite.phantoms.tubes import Tubes, coverage
from regsuite.phantoms.wall import Wall, random_wall, ribs

FIELD_OF_VIEW_MM = (340.0, 260.0, 300.0)
LABELS = {1: "right lung", 2: "left lung", 3: "heart", 4: "liver", 5: "tumour", 6: "bones", 7: "body"}
LUNG_LABELS = (1, 2, 5)
LANDMARKS = 200
TEXTURE_MM = 3.0
CENTRE_MM = (0.0, -14.0, 0.0)
SLAB_VOXELS = 3_000_000  # drawn at once: bounds the memory
CHUNK = 32_000  # points worked on at once: temporaries stay in the cache


PlacedTubes = dict[str, tuple[Tubes, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Person:
    """Everything about one seed's anatomy at inhale."""

    chest: Chest
    wall: Wall
    plumbing: Plumbing
    bone: Tubes
    cartilage: Tubes
    tumour: np.ndarray
    tumour_radius_mm: float
    texture: Image


@contextmanager
def one_thread() -> Iterator[None]:
    """The work is thousands of short steps: handing each to several threads costs more than it gains."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def checked_options(
    size: object, oblique: object, noise_hu: object, motion_mm: object
) -> tuple[tuple[int, int, int], float, float]:
    """The options of a phantom of a chest (size, noise_hu, motion_mm), checked; InputError for what is out of range."""
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 3:
        raise InputError(f"'size' must be three whole numbers (i, j, k), found {size!r}.")
    for n in size:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 24 <= n <= 512:
            raise InputError(f"'size' must hold whole numbers from 24 to 512, found {size!r}.")
    if not isinstance(oblique, bool):
        raise InputError(f"'oblique' must be true or false, found {oblique!r}.")
    i, j, k = (int(n) for n in size)
    return (i, j, k), check.finite_number("noise_hu", noise_hu, 0, 200), check.finite_number("motion_mm", motion_mm, 2, 18)


def random_person(rng: np.random.Generator, trees: np.random.Generator) -> Person:
    """The anatomy of one seed at inhale."""
    chest = random_chest(rng)
    wall = random_wall(chest.cavity, rng)
    bone, cartilage = ribs(wall, rng)
    radius = rng.uniform(6.0, 12.0)
    box = np.array([[-115.0, 115.0], [-90.0, 85.0], [-100.0, 100.0]])
    tumour = cloud_in(chest.lungs, rng, 1, box, radius + 5.0)[0]
    grid_shape = _lattice_shape(TEXTURE_MM)
    layers = [ndimage.gaussian_filter(rng.standard_normal(grid_shape), s, mode="wrap") for s in (1.0, 2.5)]
    data = torch.from_numpy(np.stack([n / n.std() for n in layers])).float()
    affine = np.diag([TEXTURE_MM, TEXTURE_MM, TEXTURE_MM, 1.0])
    affine[:3, 3] = (np.array(grid_shape[::-1]) - 1) * (-TEXTURE_MM / 2.0)
    return Person(
        chest, wall, random_plumbing(chest, trees), bone, cartilage, tumour, radius, Image(data, Grid(grid_shape, affine))
    )


def random_breath(chest: Chest, rng: np.random.Generator, motion_mm: float) -> BreathingTransform:
    """A breath whose mean displacement over the lungs of exhale is `motion_mm` (to 0.02 mm on an 8 mm lattice)."""
    thin = {"thin_width": rng.uniform(0.02, 0.035), "thin_depth": rng.uniform(0.035, 0.055)}
    state = rng.bit_generator.state
    axes = [np.arange(-f / 2, f / 2, 8.0) for f in FIELD_OF_VIEW_MM]
    points = torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))
    scale = motion_mm / 14.0
    for _ in range(12):
        rng.bit_generator.state = state
        share = min(scale, 1.3)
        exhale = replace(chest.cavity, **{key: value * share for key, value in thin.items()})
        breath = BreathingTransform(exhale, chest.cavity, random_motion(rng, scale))
        inside = breath.exhale.distance(points) < 0
        there = breath.map_region(points[inside], True)
        lung = chest.lungs(there.float()) < 0
        mean = float((there - points[inside])[lung].norm(dim=1).mean())
        if abs(mean - motion_mm) < 0.02:
            return breath
        scale *= motion_mm / mean
    raise AssertionError(f"the breath did not reach a mean motion of {motion_mm} mm")


def scan_grids(size: tuple[int, int, int], oblique: bool, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Grids of fixed and moving over the field of view, i to the left and j to the back as scanners write them."""
    straight = np.diag([-1.0, -1.0, 1.0])
    if not oblique:
        grid = _grid(size, straight, np.array(CENTRE_MM))
        return grid, grid
    other = (round(size[0] * 0.93), round(size[1] * 1.06), round(size[2] * 0.9))
    first = _rotation(rng.uniform(4, 9, 3) * rng.choice([-1, 1], 3)) @ straight
    second = _rotation(rng.uniform(4, 9, 3) * rng.choice([-1, 1], 3)) @ straight
    return _grid(size, first, np.array([3.0, -12.0, 2.0])), _grid(other, second, np.array([-4.0, -15.0, -3.0]))


def _lattice_shape(spacing_mm: float) -> tuple[int, int, int]:
    """(D, H, W) of a lattice that covers the field of view and 30 mm around it."""
    w, h, d = (int(np.ceil((f + 60.0) / spacing_mm)) for f in FIELD_OF_VIEW_MM)
    return d, h, w


def _grid(size: tuple[int, int, int], direction: np.ndarray, centre: np.ndarray) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = direction * (np.array(FIELD_OF_VIEW_MM) / np.array(size))
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(size) - 1) / 2.0)
    return Grid(frames.shape_from_size(size), affine)


def _rotation(degrees: np.ndarray) -> np.ndarray:
    """(3, 3) rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        u, v = (axis + 1) % 3, (axis + 2) % 3
        turn[u, u], turn[u, v], turn[v, u], turn[v, v] = c, -s, s, c
        out = turn @ out
    return out


def draw(person: Person, grid: Grid, breath: BreathingTransform | None) -> tuple[torch.Tensor, Image]:
    """HU (D, H, W) without noise and the labels of one image; `breath` maps its points to inhale (None: it is inhale)."""
    blur = 0.45 * float(np.prod(grid.spacing)) ** (1 / 3)
    density = None if breath is None else _density(breath)
    tubes = {inside: _placed_tubes(person, breath, inside) for inside in (False, True)}
    hu = torch.full(grid.shape, -1000.0)
    labels = torch.zeros(grid.shape, dtype=torch.int16)
    slab = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], slab):
        rows = slice(start, min(start + slab, grid.shape[0]))
        part = grid.cropped((start, 0, 0), (rows.stop - start, *grid.shape[1:]))
        _draw_slab(person, part, breath, density, tubes, blur, hu[rows].view(-1), labels[rows].view(-1))
    return hu, Image(labels, grid)


def _draw_slab(
    person: Person, grid: Grid, breath: BreathingTransform | None, density: Image | None, tubes: dict[bool, PlacedTubes],
    blur: float, hu: torch.Tensor, labels: torch.Tensor,
) -> None:  # fmt: skip
    """Fill hu and labels (V,) of the voxels of `grid`: first the wall, then what lies inside the pleura over it."""
    points = grid.world_points().view(-1, 3)
    cavity = person.chest.cavity if breath is None else breath.exhale
    pleura = torch.cat([cavity.distance(part) for part in points.split(CHUNK)])
    for inside in (False, True):
        index = torch.nonzero(pleura < 3.5 * blur if inside else pleura > -3.5 * blur)[:, 0]
        there = torch.full((grid.voxels, 3), 1e6)
        for part in index.split(CHUNK):
            there[part] = points[part] if breath is None else breath.map_region(points[part], inside)
        drawn = {name: coverage(pipes, start, grid, there, blur) for name, (pipes, start) in tubes[inside].items()}
        for part in index.split(CHUNK):
            shares = {name: share[part] for name, share in drawn.items()}
            if inside:
                gain = None if density is None else sample_world(density, points[part])[0]
                values, numbers = _inside(person, there[part], shares, blur, gain)
            else:
                values, numbers = _wall(person, there[part], shares, blur)
            share = cover(pleura[part], blur) if inside else torch.ones(len(part))
            hu[part] = paint(hu[part], values, share)
            labels[part] = torch.where(share > 0.5, numbers, labels[part])


def _placed_tubes(person: Person, breath: BreathingTransform | None, inside: bool) -> PlacedTubes:
    """Every kind of tube on one side of the pleura, given at inhale, and where the image shows its centres (N, 3) mm."""
    pipes = person.plumbing
    kinds = {"blood": pipes.blood, "bronchi": pipes.airway.thicker(0.9), "air": pipes.airway, "hepatic": pipes.hepatic}
    if not inside:
        kinds = {"cartilage": person.cartilage, "cortex": person.bone, "marrow": person.bone.thicker(-1.5)}
    out = {}
    for name, tubes in kinds.items():
        start = torch.from_numpy(tubes.centre)
        out[name] = (tubes, (start if breath is None else breath.inverse_region(start, inside)).numpy())
    return out


def _density(breath: BreathingTransform) -> Image:
    """det dT/dx of the inside's map on a lattice fine against the motion (6 mm), by central differences of 1 mm."""
    shape = _lattice_shape(6.0)
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = (np.array(shape[::-1]) - 1) * -3.0 + np.array(CENTRE_MM)
    grid = Grid(shape, affine)
    points = grid.world_points().view(-1, 3)
    steps = 0.5 * torch.eye(3, dtype=points.dtype)
    columns = [breath.map_region(points + s, True) - breath.map_region(points - s, True) for s in steps]
    determinant = (columns[0] * torch.linalg.cross(columns[1], columns[2])).sum(1)
    return Image(determinant.view(shape), grid)


def _inside(
    person: Person, p: torch.Tensor, tubes: dict[str, torch.Tensor], blur: float, density: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """HU and labels inside the pleura at the inhale points p (N, 3); density: the lung's gain in density, or None."""
    chest = person.chest
    fine, coarse = sample_world(person.texture, p)
    lung, liver, heart, above = chest.lungs(p), chest.liver(p), chest.heart_surface(p), chest.diaphragm(p)
    hu = _organs(chest, p, above, liver, heart, fine, coarse, blur)
    hu = paint(hu, 34.0, tubes["hepatic"] * cover(liver, blur))
    tissue = -848.0 + 16.0 * fine + 10.0 * coarse - 0.22 * (p[:, 1] + 10.0)
    tissue = paint(tissue, -640.0, 0.4 * torch.exp(-((chest.fissures(p) / (1.2 * blur)) ** 2)))
    if density is not None:
        tissue = (tissue + 1000.0) * density - 1000.0
    hu = paint(hu, tissue, cover(lung, blur))
    for name, value in (("blood", 42.0), ("bronchi", 20.0), ("air", -985.0)):
        hu = paint(hu, value, tubes[name])
    q = p - torch.from_numpy(person.tumour).float()
    lobes = torch.sin(q[:, 0] * 0.5 + 1) + torch.sin(q[:, 1] * 0.6) + torch.sin(q[:, 2] * 0.55 - 1)
    tumour = q.norm(dim=1) - person.tumour_radius_mm * (1.0 + 0.08 * lobes)
    hu = paint(hu, 38.0 + 6.0 * fine, cover(tumour, blur))
    hu, bone = person.wall.spine(p, hu, blur)
    labels = torch.full((len(p),), 7, dtype=torch.int16)
    right = p[:, 0] > 0
    for number, where in ((4, liver < 0), (3, (heart < 0) & (above > 0)), (1, (lung < 0) & right), (2, (lung < 0) & ~right)):
        labels[where] = number
    labels[tumour < 0] = 5
    labels[bone > 0.5] = 6
    return hu, labels


def _organs(
    chest: Chest, p: torch.Tensor, above: torch.Tensor, liver: torch.Tensor, heart: torch.Tensor,
    fine: torch.Tensor, coarse: torch.Tensor, blur: float,
) -> torch.Tensor:  # fmt: skip
    """HU inside the pleura without lungs: fat, muscle, heart, diaphragm, liver, stomach, spleen."""
    hu = -92.0 + 10.0 * coarse + 60.0 * torch.sigmoid((p[:, 2] - 105.0) / 10.0)
    hu = paint(hu, 42.0 + 6.0 * coarse, cover(heart, blur) * cover(-above, blur))
    sheet = cover(above, blur) * cover(-above - 3.5, blur)
    hu = paint(hu, 45.0, sheet)
    spleen, stomach = chest.spleen(p), chest.stomach(p)
    hu = paint(hu, 52.0 + 5.0 * fine, cover(spleen, blur))
    hu = paint(hu, 45.0, cover(stomach, blur))
    content = torch.where(p[:, 1] > 22.0, -950.0, 15.0 + 20.0 * fine)
    hu = paint(hu, content, cover(stomach + 4.0, blur))
    return paint(hu, 60.0 + 5.0 * fine + 3.0 * coarse, cover(liver, blur))


def _wall(person: Person, p: torch.Tensor, tubes: dict[str, torch.Tensor], blur: float) -> tuple[torch.Tensor, torch.Tensor]:
    """HU and labels of air, skin, fat, muscle and bones at the inhale points p (N, 3)."""
    wall = person.wall
    hu, labels = torch.full((len(p),), -1000.0), torch.zeros(len(p), dtype=torch.int16)
    skin = wall.skin(p)
    body = torch.nonzero(skin < 4.0 * blur)[:, 0]  # the rest is air
    p, skin, tubes = p[body], skin[body], {name: share[body] for name, share in tubes.items()}
    fine, coarse = sample_world(person.texture, p)
    sternum, blades = wall.sternum(p), wall.blades(p)
    inner = paint(hu[body], 10.0, cover(skin, blur))
    inner = paint(inner, -105.0 + 6.0 * coarse + 4.0 * fine, cover(skin + 2.0, blur))
    streaks = torch.sigmoid(3.0 * (coarse - 1.4)) + 0.85 * wall.fat_planes(p)
    muscle = 54.0 + 6.0 * fine - 150.0 * streaks.clamp(max=1.0)
    inner = paint(inner, muscle, cover(wall.muscle(p), blur))
    inner = paint(inner, 95.0, tubes["cartilage"])
    inner = paint(paint(inner, 620.0, tubes["cortex"]), 190.0 + 30.0 * fine, tubes["marrow"])
    plates = torch.minimum(sternum, blades)
    inner = paint(paint(inner, 480.0, cover(plates, blur)), 180.0 + 30.0 * fine, cover(sternum + 1.8, blur))
    inner, spine = wall.spine(p, inner, blur)
    numbers = torch.where(skin < 0, 7, 0).to(torch.int16)
    numbers[(tubes["cortex"] > 0.5) | (plates < 0) | (spine > 0.5)] = 6
    hu[body], labels[body] = inner, numbers
    return hu, labels


def noisy(hu: torch.Tensor, grid: Grid, noise_hu: float, rng: np.random.Generator) -> Image:
    """Whole HU with correlated noise, float32, within a scanner's range."""
    noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), 0.6)
    noise *= noise_hu / noise.std()
    data = (hu + torch.from_numpy(noise)).round().clamp(-1024.0, 3071.0)
    return Image(data, grid)


def lung_mask(labels: Image) -> Image:
    """Both lungs with the tumour."""
    return labels.with_data(torch.isin(labels.data, torch.tensor(LUNG_LABELS, dtype=labels.data.dtype)).to(torch.uint8))


def spread_out(points: np.ndarray, count: int) -> np.ndarray:
    """`count` of the points (N, 3), each the farthest from those already taken."""
    chosen = [0]
    distance = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]
