"""`regsuite dose`: a dose (or several fractions) carried to the fixed image, with the spread that the deformation's doubt
brings.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from regsuite import check
from regsuite.dose.carry import Fraction, Spread, finer, sampled_maps, total_at_points, total_on_grid
from regsuite.dose.dvh import Histogram, Samples, histogram, structure_samples
from regsuite.dose.metrics import Metric, parse_metrics
from regsuite.dose.structures import Structure
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_transform, write_image
from regsuite.io.atomic import staged_folder
from regsuite.io.rt_dose import Dose, read_dataset, read_dose, write_rt_dose
from regsuite.io.rt_frames import frame_of_reference
from regsuite.ops.sampling import sample_world
from regsuite.pipeline.dvh import Evaluation, outside_notes, read_structures, summarise, write_evaluation
from regsuite.pipeline.report import geometry
from regsuite.pipeline.uncertainty import read_sigma
from regsuite.progress import Progress, ProgressCallback
from regsuite.transforms import Transform, sample_transforms

POINTS = 200_000
"""Places per structure at which every sample is read."""
DEFAULT_SAMPLES = 50
_COLUMNS = ("dose", "transform", "sigma", "weight")
ERRORS = ("independent", "shared")


@dataclass(frozen=True)
class DoseRequest:
    """Paths and choices. structures lie in the space of `like`; contours in that of the dose, and are carried over as
    probabilities. fractions: a csv with columns dose, transform, sigma, weight for all fractions after the first.
    correlation_mm: None takes
    what is written beside the sigma field."""

    dose: str
    transform: str
    like: str
    out: str
    sigma: str | None = None
    samples: int = DEFAULT_SAMPLES
    structures: tuple[str, ...] = ()
    contours: tuple[str, ...] = ()
    space: str | None = None
    metrics: tuple[str, ...] = ()
    dose_unit: str | None = None
    ends: str = "taper"
    correlation_mm: float | None = None
    seed: int = 0
    weight: float = 1.0
    fractions: str | None = None
    errors: str = "independent"
    reference: str | None = None


@dataclass(eq=False)
class _Job:
    """Everything read and checked."""

    grid: Grid
    fractions: list[Fraction]
    structures: list[Structure]
    contours: list[Structure]
    metrics: tuple[Metric, ...]
    samples: int
    notes: list[str] = field(default_factory=list)


def run_dose(request: DoseRequest, progress: ProgressCallback | None = None) -> Path:
    """Read, carry, evaluate, write dose_*.nrrd, probability_NAME.nrrd, dose_nominal.dcm and the files of `dvh`; returns the folder.

    Without a sigma only the nominal dose and curves. Raises InputError or OutputError; then nothing is written.
    """
    stages = Progress(progress)
    with staged_folder(request.out) as folder:
        with stages.stage("Reading", 0.0, 0.15):
            job = _read(request)
        with stages.stage("Nominal dose", 0.15, 0.2):
            nominal_maps = [f.transform for f in job.fractions]
            nominal = total_on_grid(job.fractions, nominal_maps, job.grid, math.nan)
            beyond = nominal.isnan()
            nominal[beyond] = 0.0
            write_image(Image(nominal, job.grid), folder / "dose_nominal.nrrd")
            for structure in job.structures:
                job.notes += outside_notes(structure, _untouched(job, structure))
            tick = partial(stages.step, 0.7)
            curves = [_histogram(job, nominal_maps, _points(s, None), tick) for s in job.structures]
        with stages.stage("Samples", 0.2, 0.85):
            sampled = _sample(job, beyond, folder, stages)
        with stages.stage("Writing", 0.85, 1.0):
            _write(request, job, nominal, curves, sampled, folder, stages)
    return Path(request.out)


def _read(request: DoseRequest) -> _Job:
    check.choice("errors", request.errors, ERRORS)
    if isinstance(request.samples, bool) or not 2 <= request.samples <= 10_000:
        raise InputError(f"The number of samples must lie between 2 and 10000, found {request.samples}.")
    metrics = parse_metrics(request.metrics)
    fixed = read_image(request.like)
    rows = [(request.dose, request.transform, request.sigma, request.weight), *_fraction_rows(request.fractions)]
    notes: list[str] = []
    fractions = [_fraction(request, row, number, notes) for number, row in enumerate(rows)]
    first = Dose(Image(torch.zeros(1, *fixed.grid.shape), fixed.grid))
    frame = frame_of_reference(request.like)
    own = read_dose(request.dose, request.dose_unit)
    structures = read_structures(request.structures, first, request.space, request.ends, frame) if request.structures else []
    contours = read_structures(request.contours, own, request.space, request.ends) if request.contours else []
    count = request.samples if any(f.samples is not None for f in fractions) else 0
    for structure in (*structures, *contours):
        notes += structure.notes
    return _Job(fixed.grid, fractions, structures, contours, metrics, count, notes)


def _fraction_rows(path: str | None) -> list[tuple[str, str, str | None, float]]:
    """The csv of further fractions; paths are relative to it."""
    if path is None:
        return []
    folder = Path(path).parent
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"dose", "transform"} <= set(reader.fieldnames or ()):
                found = ", ".join(reader.fieldnames or ()) or "nothing"
                raise InputError(f"Cannot read '{path}': expected the columns {', '.join(_COLUMNS)}, found {found}.")
            rows = list(reader)
    except OSError as error:
        raise InputError(
            f"Cannot read '{path}': expected a csv of fractions, found {(error.strerror or 'an error').lower()}."
        ) from error
    out = []
    for number, row in enumerate(rows, 2):
        if not row["dose"] or not row["transform"]:
            raise InputError(f"'{path}' line {number}: expected a dose and a transform, found an empty cell.")
        try:
            weight = float(row.get("weight") or 1.0)
        except ValueError:
            raise InputError(f"'{path}' line {number}: expected a number as weight, found '{row['weight']}'.") from None
        sigma = row.get("sigma")
        out.append((str(folder / row["dose"]), str(folder / row["transform"]), str(folder / sigma) if sigma else None, weight))
    return out


def _fraction(request: DoseRequest, row: tuple[str, str, str | None, float], number: int, notes: list[str]) -> Fraction:
    dose_path, transform_path, sigma_path, weight = row
    check.finite_number("weight", weight, 0.0, 1e6)
    dose = read_dose(dose_path, request.dose_unit)
    notes += [note for note in dose.notes if number == 0 or "no unit" not in note]  # said once is enough
    transform = read_transform(transform_path)
    samples = None
    if sigma_path is not None:
        sigma, correlation = read_sigma(sigma_path)
        seed = request.seed if request.errors == "shared" else request.seed + 7919 * number
        samples = sample_transforms(transform, sigma, request.correlation_mm or correlation, request.samples, seed=seed)
    return Fraction(finer(dose.image), transform, weight, samples)


def _points(structure: Structure, most: int | None = POINTS) -> Samples:
    parts = list(structure_samples(structure.occupancy, most))
    return Samples(torch.cat([p.points for p in parts]), torch.cat([p.volumes for p in parts]))


def _histogram(job: _Job, maps: Sequence[Transform], samples: Samples, tick: Callable[[], object]) -> Histogram:
    values = []
    for part in samples.points.split(1_000_000):
        values.append(total_at_points(job.fractions, maps, part))
        tick()
    return histogram(torch.cat(values), samples.volumes)


def _untouched(job: _Job, structure: Structure) -> float:
    """Share of the structure that some fraction's dose grid does not reach."""
    points = _points(structure, 50_000).points
    outside = torch.zeros(len(points), dtype=torch.bool)
    for fraction in job.fractions:
        outside |= ~fraction.dose.grid.contains(fraction.transform.map_points(points))
    return float(outside.double().mean())


@dataclass(eq=False)
class _Sampled:
    """What the stream of samples leaves: volumes by name, DVHs per structure, probabilities per contour."""

    volumes: dict[str, torch.Tensor]
    curves: list[list[Histogram]]
    probabilities: list[torch.Tensor]


def _sample(job: _Job, beyond: torch.Tensor, folder: Path, stages: Progress) -> _Sampled:
    """One pass over the sampled maps; the volumes are kept by Spread, of the rest only sums and histograms.

    beyond (D, H, W): where the nominal dose is not known; there the volumes are 0 as well.
    """
    points = [_points(s) for s in job.structures] if job.samples else []
    curves: list[list[Histogram]] = [[] for _ in job.structures]
    sums = [torch.zeros(job.grid.shape) for _ in job.contours]
    maps_stream = sampled_maps(job.fractions) if job.samples else iter([tuple(f.transform for f in job.fractions)])
    spread = Spread(job.grid.shape, job.samples, folder) if job.samples else None
    try:
        count = 0
        for maps in maps_stream:
            tick = partial(stages.step, 0.85 * (count + 0.5) / max(job.samples, 1), f"{count + 1} of {max(job.samples, 1)}")
            if spread is not None:
                spread.add(total_on_grid(job.fractions, maps, job.grid, math.nan))
                for found, place in zip(curves, points, strict=False):
                    found.append(_histogram(job, maps, place, tick))
            for total, contour in zip(sums, job.contours, strict=True):
                total += _covered(contour, job.grid, maps[0])
            count += 1
            tick()
        volumes = {} if spread is None else spread.statistics(lambda f: stages.step(0.85 + 0.15 * f, "percentiles"))
        for volume in volumes.values():
            volume[beyond] = 0.0
    finally:
        if spread is not None:
            spread.close()
    return _Sampled(volumes, curves, [total / count for total in sums])


def _covered(contour: Structure, grid: Grid, mapping: Transform) -> torch.Tensor:
    """(D, H, W): share of the structure (moving space) at T(x)."""
    occupancy = Image(contour.occupancy.data.float(), contour.occupancy.grid)
    out = torch.zeros(grid.shape)
    for k in range(grid.shape[0]):
        plane = grid.cropped((k, 0, 0), (1, *grid.shape[1:]))
        points = mapping.map_points(plane.world_points(torch.float64).view(-1, 3))
        out[k] = sample_world(occupancy, points, "linear", fill=0.0)[0].view(grid.shape[1:])
    return out


def _write(
    request: DoseRequest,
    job: _Job,
    nominal: torch.Tensor,
    curves: Sequence[Histogram],
    sampled: _Sampled,
    folder: Path,
    stages: Progress,
) -> None:
    for name, volume in sampled.volumes.items():
        write_image(Image(volume, job.grid), folder / f"dose_{name}.nrrd")
    for contour, probability in zip(job.contours, sampled.probabilities, strict=True):
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in contour.name)
        write_image(Image(probability, job.grid), folder / f"probability_{name}.nrrd")
    if request.reference is not None:
        reference = read_dataset(Path(request.reference), "a DICOM object of the fixed study")
        write_rt_dose(Image(nominal, job.grid), folder / "dose_nominal.dcm", reference, "Carried dose (regsuite)")
        if "mean" in sampled.volumes:
            write_rt_dose(Image(sampled.volumes["mean"], job.grid), folder / "dose_mean.dcm", reference, "Expected dose (regsuite)")
    items = [summarise(s, h, job.metrics, more) for s, h, more in zip(job.structures, curves, sampled.curves, strict=True)]
    facts = {
        "kind": "dose",
        "dose": Path(request.dose).name,
        "transform": Path(request.transform).name,
        "sigma": Path(request.sigma).name if request.sigma else None,
        "fractions": len(job.fractions),
        "errors_between_fractions": request.errors,
        "correlation_mm": request.correlation_mm,
        "seed": request.seed,
        "ends_of_contours": request.ends,
        "fixed_grid": geometry(Image(nominal, job.grid)),
    }
    if not job.samples:
        job.notes.append("No sigma was given: nominal dose only, no bands.")
    evaluation = Evaluation(tuple(items), tuple(dict.fromkeys(job.notes)), job.samples, facts)
    write_evaluation(evaluation, folder, stages)
