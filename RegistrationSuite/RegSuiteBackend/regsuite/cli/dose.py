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


def dvh(
    dose: Annotated[str, typer.Argument(metavar="DOSE", help="DICOM RTDOSE, or a volume in Gy.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")],
    structures: Structures = None,
    space: Space = None,
    metrics: Metrics = None,
    unit: Unit = None,
    ends: Ends = "taper",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of unexpected errors.")] = False,
) -> None:
    """Dose-volume histograms of structures: dvh.csv, metrics.csv, dvh.png, report.json."""
    from regsuite.cli.display import progress_display

    with progress_display(quiet) as progress:
        from regsuite.pipeline.dvh import DvhRequest, run_dvh

        request = DvhRequest(dose, tuple(structures or ()), out, space, tuple(metrics or ()), unit, ends)
        folder = run_dvh(request, progress)
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
    band = "" if metric["p05"] is None else f" ({metric['p05']:.2f} - {metric['p95']:.2f})"
    return f"{metric['value']:.2f}{band}"
