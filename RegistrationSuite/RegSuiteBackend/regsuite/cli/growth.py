"""`regsuite longitudinal`: one child from its scans, or a cohort from a BIDS folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regsuite.errors import InputError

Text = str | None


def longitudinal(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE... | BIDS_DIR", help="Scans of one child, or a BIDS folder.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results (BIDS derivatives).")],
    ages: Annotated[list[float] | None, typer.Option("--ages", metavar="A...", help="Age in years of each scan.")] = None,
    masks: Annotated[list[str] | None, typer.Option("--masks", metavar="M...", help="Brain mask of each scan.")] = None,
    labels: Annotated[Text, typer.Option("--labels", metavar="L", help="Regions at one time point, carried to all.")] = None,
    labels_at: Annotated[int, typer.Option("--labels-at", metavar="N", help="Number of the scan the regions belong to.")] = 1,
    align: Annotated[str, typer.Option("--align", help="Linear start: none, rigid or affine.")] = "affine",
    start: Annotated[str, typer.Option("--start", help="Where it begins: auto (a shift), or csngf (from anywhere), ...")] = "auto",
    bias: Annotated[bool, typer.Option("--bias/--no-bias", help="N4 bias correction.")] = True,
    brightness: Annotated[bool, typer.Option("--brightness/--no-brightness", help="Match the brightness of the scans.")] = True,
    contrast: Annotated[str, typer.Option("--contrast", help="same, or any (tissues exchange brightness).")] = "same",
    preset: Annotated[str, typer.Option("--preset", metavar="P", help="Preview, Default or Best.")] = "Default",
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="Pictures of growth to play; single scans only.")] = 0,
    scheduler: Annotated[Text, typer.Option("--scheduler", metavar="ADDRESS", help="dask scheduler (BIDS only).")] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Local processes (BIDS only); 0: one per core.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of unexpected errors.")] = False,
) -> None:
    """Where a brain grew and by how much per year: scans of one child, or every child of a BIDS folder."""
    from regsuite.cli.display import progress_display
    from regsuite.pipeline.longitudinal import LongitudinalRequest, run_longitudinal

    steps = {"align": align, "start": start, "bias": bias, "brightness": brightness, "contrast": contrast, "preset": preset}
    if len(images) == 1 and Path(images[0]).is_dir():
        if ages or masks or labels is not None or frames:
            raise InputError("A BIDS folder brings its own ages; --ages, --masks, --labels and --frames belong to single scans.")
        from regsuite.pipeline.bids import subjects_of
        from regsuite.pipeline.cohort import CohortRequest, run_cohort

        with progress_display(quiet) as progress:
            failed = run_cohort(CohortRequest(images[0], out, scheduler=scheduler, workers=workers, steps=steps), progress)
        for subject, reason in failed.items():
            print(f"{subject} failed: {reason}")
        if len(failed) == len(subjects_of(Path(images[0]))):
            raise InputError(f"No subject of '{Path(images[0]).name}' has a result; the first one: {next(iter(failed.values()))}")
        if not quiet:
            print(f"Written to {out}; open {Path(out) / 'summary.html'} first.")
        return
    if scheduler or workers:
        raise InputError("--scheduler and --workers belong to a BIDS folder; found single scans.")
    extra = {"masks": masks, "labels": labels, "labels_at": labels_at, "frames": frames}
    request = LongitudinalRequest(images, list(ages or []), out, **extra, **steps)  # type: ignore[arg-type]
    with progress_display(quiet) as progress:
        folder = run_longitudinal(request, progress)
    if not quiet:
        print((folder / "volumes.tsv").read_text(encoding="utf-8"))
        print(f"Written to {folder}; look at overview.png and curves.png first.")
