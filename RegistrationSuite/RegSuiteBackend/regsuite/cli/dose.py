"""The commands about dose: `dvh` and `dose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_SOURCES = "Label image, .seg.nrrd, RTSTRUCT, closed surface. PATH alone: all of a file. PATH?name=N or PATH?label=3: one of it."
Structures = Annotated[list[str] | None, typer.Option("--structures", metavar="NAME=PATH...", help=_SOURCES)]
Space = Annotated[
    str | None, typer.Option("--space", metavar="LPS|RAS", help="Of surfaces whose file does not say it. Default LPS.")
]
Metrics = Annotated[list[str] | None, typer.Option("--metrics", metavar="M...", help="More metrics: D99, D0.1cc, V12, V12cc.")]
Unit = Annotated[str | None, typer.Option("--dose-unit", metavar="Gy|cGy", help="Of doses in files that do not say it.")]
Ends = Annotated[
    str, typer.Option("--ends", metavar="E", help="Beyond the last contours: taper (1/4 slice), slab (1/2 slice) or plane (none).")
]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of unexpected errors.")]


def dvh(
    dose: Annotated[str, typer.Argument(metavar="DOSE", help="DICOM RTDOSE, or a volume in Gy.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")],
    structures: Structures = None,
    space: Space = None,
    metrics: Metrics = None,
    unit: Unit = None,
    ends: Ends = "taper",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Dose-volume histograms of structures: dvh.csv, metrics.csv, dvh.png, report.json."""
    from regsuite.cli.display import progress_display

    with progress_display(quiet) as progress:
        from regsuite.pipeline.dvh import DvhRequest, run_dvh

        request = DvhRequest(dose, tuple(structures or ()), out, space, tuple(metrics or ()), unit, ends)
        folder = run_dvh(request, progress)
    if not quiet:
        show_metrics(folder)


def dose(
    dose: Annotated[str, typer.Argument(metavar="DOSE", help="DICOM RTDOSE, or a volume in Gy, in the space of the moving image.")],
    transform: Annotated[
        str, typer.Argument(metavar="TRANSFORM", help="Fixed -> moving: .h5, .tfm, displacement volume, DICOM REG.")
    ],
    like: Annotated[str, typer.Option("--like", metavar="FIXED", help="Fixed image: its grid is the grid of the results.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")],
    sigma: Annotated[
        str | None, typer.Option("--sigma", metavar="SIGMA", help="Standard deviation of the transform, 3 x mm.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Sampled deformations.")] = 50,
    structures: Structures = None,
    contours: Annotated[
        list[str] | None,
        typer.Option("--contours", metavar="NAME=PATH...", help="In the space of DOSE: carried over as probability maps."),
    ] = None,
    space: Space = None,
    metrics: Metrics = None,
    unit: Unit = None,
    ends: Ends = "taper",
    correlation: Annotated[
        float | None, typer.Option("--correlation", metavar="MM", help="Smoothness of the errors. Default: as the sigma was made.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the samples.")] = 0,
    weight: Annotated[float, typer.Option("--weight", metavar="W", help="Of DOSE, when there are more fractions.")] = 1.0,
    fractions: Annotated[
        str | None, typer.Option("--fractions", metavar="CSV", help="More fractions: columns dose, transform, sigma, weight.")
    ] = None,
    errors: Annotated[str, typer.Option("--errors", metavar="E", help="Between fractions: independent or shared.")] = "independent",
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="DCM", help="DICOM object of the fixed study: also write RTDOSE.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Carry a dose to FIXED, with the spread that the deformation's uncertainty brings, and DVHs with bands."""
    from regsuite.cli.display import progress_display

    with progress_display(quiet) as progress:
        from regsuite.pipeline.dose import DoseRequest, run_dose

        request = DoseRequest(
            dose, transform, like, out, sigma, samples, tuple(structures or ()), tuple(contours or ()), space, tuple(metrics or ()),
            unit, ends, correlation, seed, weight, fractions, errors, reference,
        )  # fmt: skip
        folder = run_dose(request, progress)
    if not quiet:
        show_metrics(folder)


def show_metrics(folder: Path) -> None:
    """The most used numbers of each structure, the warnings, and where the files are."""
    import json

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    columns = (("volume", "cc"), ("mean", "Gy"), ("D95", "Gy"), ("D50", "Gy"), ("D2cc", "Gy"), ("V20", "%"))
    table = Table("structure", *(f"{name} ({unit})" for name, unit in columns), box=None, pad_edge=False, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for item in report["structures"]:
        cells = [_cell(item["metrics"][name]) for name, _ in columns]
        table.add_row(escape(item["name"]), *cells)
    console = Console(highlight=False)
    if report["structures"]:
        console.print(table)
    for warning in report["warnings"]:
        console.print(f"  [yellow]![/] {escape(warning)}", soft_wrap=True)
    console.print(f"\nWritten to {escape(str(folder))}", soft_wrap=True)


def _cell(metric: dict) -> str:
    if metric["value"] is None:
        return "-"
    band = "" if metric["p05"] is None else f"\n{metric['p05']:.2f} – {metric['p95']:.2f}"
    return f"{metric['value']:.2f}{band}"
