"""The command `slices`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Text = str | None


def slices(
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="The volume: a file or a DICOM folder.")],
    slice_files: Annotated[list[str], typer.Argument(metavar="SLICE...", help="Slices, or files of several parallel slices.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")],
    volume_mask: Annotated[Text, typer.Option("--volume-mask", metavar="V", help="Bone labels of the volume.")] = None,
    slice_masks: Annotated[
        list[str] | None, typer.Option("--slice-masks", metavar="M...", help="Bone labels of the slices, in their order.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--values", metavar="Q...", help="What is brought into the volume; default: the slices themselves."),
    ] = None,
    labels: Annotated[Text, typer.Option("--labels", metavar="L", help="Segmentation of the volume, for the table.")] = None,
    localiser: Annotated[
        Text, typer.Option("--localiser", metavar="F", help="Image whose centre and normal are the axis of radial slices.")
    ] = None,
    upright: Annotated[str, typer.Option("--upright", help="Picture axis along that normal: j (downwards), -j, i or -i.")] = "j",
    thickness: Annotated[float, typer.Option("--thickness", metavar="MM", help="Of slices with a localiser.")] = 0.0,
    preset: Annotated[str, typer.Option("--preset", metavar="P", help="Preview, Default or Best.")] = "Default",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, repeatable.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:0.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of everything random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of unexpected errors.")] = False,
) -> None:
    """Find where 2D slices lie in VOLUME; OUT gets slice_01.h5 ... (given to true position), the values in the volume, a report."""
    from regsuite.cli.display import progress_display

    with progress_display(quiet) as progress:
        from regsuite.pipeline.request import parse_settings
        from regsuite.pipeline.slices import run_slices
        from regsuite.pipeline.slices_inputs import SlicesRequest

        request = SlicesRequest(
            volume=volume,
            slices=slice_files,
            out=out,
            volume_mask=volume_mask,
            slice_masks=slice_masks or [], values=values or [],
            labels=labels,
            localiser=localiser, upright=upright, thickness_mm=thickness,
            preset=preset,
            settings=parse_settings(settings or []),
            device=device,
            seed=seed,
        )  # fmt: skip
        folder = run_slices(request, progress)
    if not quiet:
        show_slices(folder)


def show_slices(folder: Path) -> None:
    """The table of slices, the verdict, the warnings and where the files are."""
    import json

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from regsuite.cli.display import LEVEL_STYLES

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    table = Table("slice", "file", "place", "turned", "moved", "information", "confidence", box=None, pad_edge=False)
    for row in report["slices"]:
        place = f"{row['slot']}{' from behind' if row['reversed'] else ''}"
        style = LEVEL_STYLES[row["level"]]
        table.add_row(
            str(row["slice"]),
            escape(row["file"]),
            place,
            f"{row['turn_deg']:.1f} deg",
            f"{row['shift_mm']:.1f} mm",
            f"{row['information_before']:.3f} -> {row['information_after']:.3f}",
            f"[{style}]{row['confidence']:.2f}[/]",
        )
    console = Console(highlight=False)
    console.print(table)
    verdict = report["verdict"]
    console.print(f"\n[bold {LEVEL_STYLES[verdict['level']]}]{verdict['headline']}[/]")
    for reason in verdict["reasons"]:
        console.print(f"  [{LEVEL_STYLES[reason['level']]}]●[/] {escape(reason['text'])}")
    for warning in report["warnings"]:
        console.print(f"  [yellow]![/] {escape(warning)}")
    console.print(f"\nWritten to {escape(str(folder))}", soft_wrap=True)
