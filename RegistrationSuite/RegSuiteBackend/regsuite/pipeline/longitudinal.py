"""N scans of one child: where the brain grew, by how much per year, and the volumes of its regions over time."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_labels, write_image, write_transform
from regsuite.io.atomic import staged_folder
from regsuite.ops.filters import box_sum
from regsuite.ops.sampling import resample, sample_world
from regsuite.pipeline.bids import check_names
from regsuite.pipeline.inputs import check_image, match_mask
from regsuite.pipeline.playback import write_frames
from regsuite.pipeline.preparation import correct_bias, find_brain, match_brightness, without_slopes
from regsuite.pipeline.report import INTENDED_USE, clean, geometry, versions
from regsuite.pipeline.request import from_mapping
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers.frame import lattice_shape
from regsuite.solvers.groupwise import Group, GroupSettings, mid_grid, register_group, unbiased_starts
from regsuite.solvers.intake import scaled
from regsuite.solvers.prealign import KINDS, STARTS, prealign
from regsuite.transforms import AffineTransform, Transform, compose

REPORT, TEMPLATE, VOLUMES, GROWTH, CURVES, OVERVIEW, FRAMES = (
    "report.json", "template.nrrd", "volumes.tsv", "growth_total.nrrd", "curves.png", "overview.png", "frames",
)  # fmt: skip
_FIELD_MM = 3.0  # nodes of a displacement volume on a scan's box
_RIM_MM = 4.0  # ours: around the brain, so that its edge counts and not the masks', which each scan draws anew
_ALIKE = 0.75  # ours: mean square of the local correlation; scans of one head reached 0.78 to 0.99, of two 0.46 to 0.72
# Intra-subject growth is smooth: stronger smoothness than between subjects. No level coarser than twice the finest: in its wide
# windows the slow change of white matter with age looks like growth, and takes many sweeps to go away. Ours, by the phantom.
PRESETS = {
    "Preview": GroupSettings(finest_mm=3.0, levels=2, smoothness=20.0, steep_gradient=1.0),
    "Default": GroupSettings(finest_mm=1.5, levels=2, sweeps=4, smoothness=20.0, steep_gradient=1.0),
    "Best": GroupSettings(finest_mm=1.0, levels=2, sweeps=5, smoothness=20.0, steep_gradient=1.0),
}


@dataclass(frozen=True)
class LongitudinalRequest:
    """images: paths of one subject's scans; ages: years, one each. Everything else is optional.

    masks: one brain mask per image. labels: a label map of scan number `labels_at` (from 1), propagated to all. align: the linear
    alignment (none, rigid, affine; the paper's NR, RR, RAR); start: where it begins (solvers.prealign). bias: N4. brightness:
    quantile matching. contrast: same, or any where white and grey matter exchange their brightness. fields: transforms as
    displacement volumes (.nrrd) instead of .h5, which carry the time they were written: every run gives the same bytes. frames:
    pictures of growth to play, 0 or 2 to 200.
    """

    images: list[str]
    ages: list[float]
    out: str
    masks: list[str] | None = None
    labels: str | None = None
    labels_at: int = 1
    align: str = "affine"
    start: str = "auto"
    bias: bool = True
    brightness: bool = True
    contrast: str = "same"
    preset: str = "Default"
    fields: bool = False
    frames: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LongitudinalRequest:
        """The request held by a JSON object; raises InputError for an unknown or missing entry."""
        return from_mapping(cls, values)

    def checked(self) -> LongitudinalRequest:
        """Itself, or InputError that names what is wrong with ages, masks, labels or choices."""
        count = len(self.images)
        if count < 2:
            raise InputError(f"Growth needs two or more scans, found {count}.")
        if len(self.ages) != count:
            raise InputError(f"Expected one age (years) for each of the {count} scans, found {len(self.ages)}.")
        for path, age in zip(self.images, self.ages, strict=True):
            check.finite_number(f"age of {Path(path).name}", age, -1.0, 120.0)
        for a, first in enumerate(self.ages):
            for b in range(a + 1, count):
                if first == self.ages[b]:
                    names = f"'{Path(self.images[a]).name}' and '{Path(self.images[b]).name}'"
                    raise InputError(f"{names} have the same age ({first:g} years); growth per year needs different ages.")
        if len({str(Path(path).resolve()) for path in self.images}) < count:
            raise InputError("The same file is given twice among the scans; expected one file per time point.")
        check_names([Path(path).name for path in self.images])
        if self.masks is not None and len(self.masks) != count:
            raise InputError(f"Expected one mask for each of the {count} scans, found {len(self.masks)}.")
        if not 1 <= self.labels_at <= count:
            raise InputError(f"'labels_at' must be the number of a scan, 1 to {count}; found {self.labels_at}.")
        check.choice("align", self.align, KINDS)
        check.choice("start", self.start, STARTS)
        check.choice("contrast", self.contrast, ("same", "any"))
        check.choice("preset", self.preset, tuple(PRESETS))
        if self.frames and not 2 <= self.frames <= 200:
            raise InputError(f"'frames' must be 0 (none) or 2 to 200, found {self.frames}.")
        return self


@dataclass(frozen=True)
class Growth:
    """A finished series, in order of age. Transforms map mid-space points to points of scan n (RAS mm)."""

    ages: tuple[float, ...]
    names: tuple[str, ...]
    scans: tuple[Image, ...]
    masks: tuple[Image, ...]
    grid: Grid
    group: Group
    mask: Image  # the brain in mid-space
    template: Image
    warnings: tuple[str, ...]

    def between(self, a: int, b: int) -> Transform:
        """T: points of scan `a` -> points of scan `b`, through mid-space; transitive and inverse consistent."""
        return compose(self.group.transforms[b], self.group.transforms[a].inverse())

    def log_jacobian(self, a: int, b: int) -> Image:
        """log of the volume ratio of scan b to scan a at each mid-space lattice node."""
        return Image((self.group.log_jacobians[b] - self.group.log_jacobians[a]).float()[None], self.group.lattice)

    def percent_per_year(self, a: int, b: int) -> Image:
        """100 (ratio^(1 / years) - 1) in the brain on the mid-space grid, 0 outside."""
        rate = self.log_jacobian(a, b)
        rate = resample(rate.with_data(rate.data / (self.ages[b] - self.ages[a])), self.grid)
        return rate.with_data(100.0 * rate.data.expm1() * (self.mask.data > 0))


def run_longitudinal(request: LongitudinalRequest, progress: ProgressCallback | None = None) -> Path:
    """Do the job; `out` gets template, growth maps, transforms, moved scans, volumes.tsv, pictures and report.json, or nothing.

    Raises InputError naming the file, OutputError when `out` cannot be written, Cancelled when `progress` returned False.
    """
    request = request.checked()
    stages = Progress(progress)
    with staged_folder(Path(request.out)) as folder:
        with stages.stage("Reading", 0.0, 0.05):
            scans, masks, labels = _read(request)
        growth = grow(request, scans, masks, stages)
        with stages.stage("Measuring", 0.85, 0.9):
            rows = volumes(growth, labels, _place(request))
            stages.step(0.5)
        with stages.stage("Writing", 0.9, 1.0):
            _write(folder, request, growth, labels, rows, stages)
    stages.step(1.0)
    return Path(request.out)


def grow(request: LongitudinalRequest, scans: list[Image], masks: list[Image | None], stages: Progress) -> Growth:
    """Prepare, align and register scans that were read in the order of the request; the result is in order of age."""
    order = sorted(range(len(scans)), key=lambda n: request.ages[n])
    names = tuple(Path(request.images[n]).name for n in order)
    warnings: list[str] = []
    with torch.no_grad():
        with stages.stage("Preparing", 0.05, 0.25):
            brains: list[Image] = []
            ready: list[Image] = []
            for number, n in enumerate(order):
                given = masks[n]
                brain = given if given is not None else find_brain(scans[n], f"'{names[number]}'", warnings)
                brains.append(brain)
                ready.append(correct_bias(scans[n], brain) if request.bias else scans[n].with_data(scans[n].data.float()))
                stages.step((number + 1) / len(order), names[number])
            ready = [scaled(image, f"'{name}'") for image, name in zip(ready, names, strict=True)]
            if request.brightness:
                ready = match_brightness(ready, brains)
        with stages.stage("Aligning", 0.25, 0.35):
            starts = _starts(ready, request, warnings, stages)
        settings = dataclasses.replace(PRESETS[request.preset], any_contrast=request.contrast == "any")
        grid = mid_grid(ready, starts, _mid_spacing(ready, settings))
        grid = _around_brain(grid, brains, starts)
        weights = [_with_rim(brain) for brain in brains]
        with stages.stage("Registering", 0.35, 0.85):
            group = register_group([without_slopes(image) for image in ready], starts, weights, grid, settings, stages)
        warnings += _strangers(names, group.agreement)
    moved = [resample(image, grid, t, fill=0.0).data for image, t in zip(ready, group.transforms, strict=True)]
    inside = [
        resample(b.with_data((b.data > 0).float()), grid, t, fill=0.0).data for b, t in zip(brains, group.transforms, strict=True)
    ]
    mask = Image((torch.stack(inside).mean(dim=0) > 0.5).to(torch.uint8), grid)
    ages = tuple(float(request.ages[n]) for n in order)
    template = Image(torch.stack(moved).mean(dim=0), grid)
    return Growth(ages, names, tuple(ready), tuple(brains), grid, group, mask, template, tuple(warnings))


def _starts(scans: list[Image], request: LongitudinalRequest, warnings: list[str], stages: Progress) -> list[np.ndarray]:
    middle = len(scans) // 2
    metric = "mi" if request.contrast == "any" else "ncc"
    found = []
    for n, scan in enumerate(scans):
        matrix = np.eye(4)
        if n != middle:
            with stages.part(n / len(scans), (n + 1) / len(scans)):
                matrix, said = prealign(scans[middle], scan, request.align, stages, metric=metric, policy=request.start)
            warnings.extend(said)
        found.append(matrix)
    return unbiased_starts(found)


def _mid_spacing(scans: Sequence[Image], settings: GroupSettings) -> float:
    return max(settings.finest_mm, float(min(scan.grid.spacing.min() for scan in scans)))


def _strangers(names: Sequence[str], agreement: Sequence[float]) -> list[str]:
    """A sentence when a scan does not look like the others: names say nothing of another child, the pictures do."""
    n = int(np.argmin(agreement))
    if agreement[n] >= _ALIKE:
        return []
    others = f"'{names[1 - n]}'" if len(names) == 2 else "the other scans"
    found = f"agreement {agreement[n]:.2f} after registration, scans of one child reach {_ALIKE:g}"
    return [f"'{names[n]}' hardly looks like {others} ({found}): is it the same child, and the same kind of scan?"]


def _around_brain(grid: Grid, brains: Sequence[Image], starts: Sequence[np.ndarray], margin_mm: float = 12.0) -> Grid:
    """The part of the mid-space grid around all brains."""
    inside = torch.zeros(1, *grid.shape)
    for brain, matrix in zip(brains, starts, strict=True):
        inside += resample(brain.with_data((brain.data > 0).float()), grid, AffineTransform(matrix), fill=0.0).data
    index = torch.nonzero(inside[0] > 0.5)
    if not len(index):
        raise InputError("The brain masks have no place in common after the linear alignment; do the scans show the same head?")
    margin = [math.ceil(margin_mm / h) for h in grid.spacing[::-1]]
    low = [max(0, int(a) - m) for a, m in zip(index.amin(dim=0), margin, strict=True)]
    high = [min(n, int(b) + 1 + m) for n, b, m in zip(grid.shape, index.amax(dim=0), margin, strict=True)]
    return grid.cropped((low[0], low[1], low[2]), (high[0] - low[0], high[1] - low[1], high[2] - low[2]))


def _with_rim(brain: Image) -> Image:
    """1 in the brain and up to about _RIM_MM around it, 0 elsewhere."""
    radius = [round(_RIM_MM / h) for h in brain.grid.spacing[::-1]]
    return brain.with_data((box_sum((brain.data > 0).float(), radius) > 0.5).float())


def volumes(growth: Growth, labels: Image | None, at: int) -> list[dict[str, Any]]:
    """Rows (region, age, ml, percent of the first, percent per year since the scan before) for the whole brain and each label.

    Volume of a region at scan n: the integral of |J_n / J_at| over the region drawn at scan `at`, so that no edge is drawn twice.
    """
    source = labels if labels is not None else growth.masks[at]
    back = growth.group.transforms[at].inverse()
    index = (source.data[0] > 0).nonzero()
    values = source.data[0][tuple(index.T)]
    y = back.map_points(source.grid.index_to_world(index.flip(1).double()))
    regions: dict[str, torch.Tensor] = {"brain": torch.ones(len(values), dtype=torch.bool)}
    if labels is not None:
        regions |= {f"label {int(n)}": values == n for n in values.unique()}
    rows = []
    ratios = [sample_world(growth.log_jacobian(at, n), y)[0].double().exp() for n in range(len(growth.ages))]
    for region, inside in regions.items():
        ml = [float(r[inside].sum()) * source.grid.voxel_volume / 1000.0 for r in ratios]
        for n, age in enumerate(growth.ages):
            rate = math.nan if n == 0 else 100.0 * ((ml[n] / ml[n - 1]) ** (1.0 / (age - growth.ages[n - 1])) - 1.0)
            rows.append(
                {
                    "region": region,
                    "time_point": n + 1,
                    "age_years": age,
                    "volume_ml": ml[n],
                    "percent_of_first": 100.0 * ml[n] / ml[0],
                    "percent_per_year": rate,
                }
            )
    return rows


def _read(request: LongitudinalRequest) -> tuple[list[Image], list[Image | None], Image | None]:
    scans = []
    for path in request.images:
        image = read_image(path)
        check_image(f"'{Path(path).name}'", image)
        if min(image.grid.shape) < 8:
            thin = min(image.grid.shape)
            raise InputError(f"'{Path(path).name}' has {thin} slices along one axis; expected a volume of at least 8.")
        scans.append(image)
    notes: list[str] = []
    masks: list[Image | None] = [None] * len(scans)
    if request.masks is not None:
        for n, (path, scan) in enumerate(zip(request.masks, scans, strict=True)):
            name = f"'{Path(path).name}'"
            masks[n] = match_mask(name, read_labels(path), f"'{Path(request.images[n]).name}'", scan.grid, notes)
    labels = read_labels(request.labels) if request.labels else None
    if labels is not None and not bool((labels.data > 0).any()):
        raise InputError(f"'{Path(str(request.labels)).name}' holds no label above 0.")
    return scans, masks, labels


def _place(request: LongitudinalRequest) -> int:
    """Number of the labelled scan in order of age, from 0."""
    order = sorted(range(len(request.ages)), key=lambda n: request.ages[n])
    return order.index(request.labels_at - 1)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tab separated values with a header; n/a where there is no number (BIDS)."""
    columns = list(rows[0])
    lines = ["\t".join(columns)]
    for row in rows:
        lines.append("\t".join(_cell(row[column]) for column in columns))
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def _write(
    folder: Path, request: LongitudinalRequest, growth: Growth, labels: Image | None, rows: list[dict[str, Any]], stages: Progress
) -> None:
    at, count = _place(request), len(growth.ages)
    write_image(growth.template, folder / TEMPLATE)
    write_image(growth.percent_per_year(0, count - 1), folder / GROWTH)
    for n in range(count):
        part = folder / f"time_{n + 1:02d}"
        part.mkdir()
        _write_transform(growth.group.transforms[n], part / "transform", growth.group.lattice, request.fields)
        write_image(resample(growth.scans[n], growth.grid, growth.group.transforms[n], fill=0.0), part / "moved.nrrd")
        if n:
            write_image(growth.percent_per_year(n - 1, n), folder / f"growth_{n:02d}_{n + 1:02d}.nrrd")
            near = growth.scans[0].grid.resized(lattice_shape(growth.scans[0].grid, _FIELD_MM))
            _write_transform(growth.between(0, n), folder / f"from_01_to_{n + 1:02d}", near, request.fields)
        if labels is not None:
            carried = labels if n == at else resample(labels, growth.scans[n].grid, growth.between(n, at), "nearest", 0)
            write_image(carried.with_data(carried.data.to(torch.int16)), part / "labels.nrrd")
        stages.step(0.7 * (n + 1) / count, growth.names[n])
    (folder / VOLUMES).write_text(table(rows), encoding="utf-8")
    report = _report(request, growth, rows)
    if request.frames:
        stages.step(0.75, "pictures to play")
        report["frames_age_years"] = write_frames(growth, request.frames, folder / FRAMES)
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is not None:
        from regsuite.pipeline.growth_figures import draw_curves, draw_growth

        draw_curves(rows, folder / CURVES)
        draw_growth(growth, folder / OVERVIEW)


def _write_transform(transform: Transform, stem: Path, grid: Grid, as_field: bool) -> None:
    if as_field:
        write_transform(transform, stem.with_suffix(".nrrd"), grid)
    else:
        write_transform(transform, stem.with_suffix(".h5"))


def _report(request: LongitudinalRequest, growth: Growth, rows: list[dict[str, Any]]) -> dict[str, Any]:
    inside = resample(growth.mask.with_data(growth.mask.data.float()), growth.group.lattice).data[0] > 0.5
    lowest = min(float(log[inside].exp().min()) for log in growth.group.log_jacobians)
    return clean(
        {
            "schema_version": "1.0",
            "kind": "longitudinal",
            "intended_use": INTENDED_USE,
            "time_points": [
                {"number": n + 1, "file": name, "age_years": age, "agreement": alike, "geometry": geometry(scan)}
                for n, (name, age, alike, scan) in enumerate(
                    zip(growth.names, growth.ages, growth.group.agreement, growth.scans, strict=True)
                )
            ],
            "settings": {"align": request.align, "start": request.start, "bias": request.bias, "brightness": request.brightness}
            | {"contrast": request.contrast, "preset": request.preset},
            "mid_space": geometry(growth.template),
            "jacobian_min": lowest,
            "volumes": [row for row in rows if row["region"] == "brain"],
            "warnings": list(growth.warnings),
            "versions": versions(),
        }
    )
