"""The command `uncertainty`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Text = str | None


def uncertainty(
    fixed: Annotated[str, typer.Argument(metavar="FIXED", help="Image that stays: a file or a DICOM folder.")],
    moving: Annotated[str, typer.Argument(metavar="MOVING", help="Image that the transform lays on it.")],
    transform: Annotated[
        str, typer.Argument(metavar="TRANSFORM", help="Fixed to moving points: ITK transform or displacement volume.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")],
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Fields drawn to count folds; 0: none.")] = 50,
    write_samples: Annotated[bool, typer.Option("--write-samples", help="Also write each sample as sample_01.h5 ...")] = False,
    fixed_landmarks: Annotated[
        Text, typer.Option("--fixed-landmarks", metavar="A", help="Measure the calibration (RAS mm).")
    ] = None,
    moving_landmarks: Annotated[Text, typer.Option("--moving-landmarks", metavar="B", help="The same points, same order.")] = None,
    recalibrate: Annotated[bool, typer.Option(help="Scale sigma by the factor that fits the landmarks.")] = False,
    method: Annotated[
        str, typer.Option("--method", metavar="M", help="uncertainty-elbo (fitted to the pair) or uncertainty-net (foretold).")
    ] = "uncertainty-elbo",
    preset: Annotated[str, typer.Option("--preset", metavar="P", help="Preview, Default or Best.")] = "Default",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, repeatable.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:0.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the samples.", min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of unexpected errors.")] = False,
) -> None:
    """How far TRANSFORM may be off, in mm: sigma.nrrd (x, y, z), sigma_magnitude.nrrd, report.json, overview.png."""
    from regsuite.cli.display import progress_display

    with progress_display(quiet) as progress:
        from regsuite.pipeline.request import parse_settings
        from regsuite.pipeline.uncertainty import UncertaintyRequest, run_uncertainty

        request = UncertaintyRequest(
            fixed, moving, transform, out, samples, write_samples, fixed_landmarks, moving_landmarks, recalibrate, preset,
            parse_settings(settings or []), device, seed, method,
        )  # fmt: skip
        folder = run_uncertainty(request, progress)
    if not quiet:
        show_uncertainty(folder)


def show_uncertainty(folder: Path) -> None:
    """Sigma, folds of the samples, the calibration where there is one, the warnings, and where the files are."""
    from rich.console import Console
    from rich.markup import escape

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    console, sigma, folds = Console(highlight=False), report["sigma_mm"], report["folding_of_samples"]
    console.print(
        f"Sigma in the body: mean {sigma['mean']:.2f} mm, half below {sigma['p50']:.2f} mm, 95 % below {sigma['p95']:.2f} mm"
    )
    if folds:
        console.print(f"Folding of {folds['samples']} samples: {folds['folding_percent_mean']:.3g} % on average")
    found = report["calibration"]
    if found:
        kept = found.get("recalibrated", found["as_stored"])
        covered = ", ".join(f"{100 * share:.0f} % in the {name} % ellipsoid" for name, share in kept["coverage"].items())
        error, stated = kept["observed_rms_mm"], kept["expected_rms_mm"]
        console.print(f"At {kept['count']} landmarks: error {error:.2f} mm, stated {stated:.2f} mm; {covered}", soft_wrap=True)
        console.print(f"Factor that fits them: {found['scale']:.2f} ({'applied' if found['applied'] else 'not applied'})")
    for warning in report["warnings"]:
        console.print(f"  [yellow]![/] {escape(warning)}", soft_wrap=True)
    console.print(f"\nWritten to {escape(str(folder))}", soft_wrap=True)
