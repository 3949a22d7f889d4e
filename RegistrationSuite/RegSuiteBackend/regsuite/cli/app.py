"""The commands and their options. Each command imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from regsuite.cli import dose as dose_commands
from regsuite.cli import growth as growth_commands
from regsuite.cli import slices as slices_commands
from regsuite.cli import training as training_commands
from regsuite.cli import uncertainty as uncertainty_commands

app = typer.Typer(
    name="regsuite",
    help="Medical image registration. Research use only; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Text = str | None
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of unexpected errors.")]
Out = Annotated[str, typer.Option("--out", "-o", metavar="OUT")]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"expected a whole number, found {text!r}") from None


def _version(wanted: bool) -> None:
    if wanted:
        from regsuite import __version__

        typer.echo(f"regsuite {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Medical image registration. Research use only; not a medical device."""


@app.command()
def register(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Key of the method; see 'regsuite methods'.")],
    fixed: Annotated[str, typer.Argument(metavar="FIXED", help="Image that stays: a file or a DICOM folder.")],
    moving: Annotated[str, typer.Argument(metavar="MOVING", help="Image to be laid on the fixed one.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")],
    fixed_mask: Annotated[Text, typer.Option("--fixed-mask", metavar="F", help="Region that counts in the fixed image.")] = None,
    moving_mask: Annotated[Text, typer.Option("--moving-mask", metavar="M", help="Region that counts in the moving image.")] = None,
    lesion_mask: Annotated[Text, typer.Option("--lesion-mask", metavar="L", help="Lesion without a counterpart.")] = None,
    initial: Annotated[Text, typer.Option("--initial", metavar="T", help="Transform to start from (.h5, .tfm).")] = None,
    preset: Annotated[str, typer.Option("--preset", metavar="P", help="Preview, Default or Best.")] = "Default",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, repeatable.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:0.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", metavar="N", parser=_whole, help="Seed of everything random.")] = 0,
    scene: Annotated[bool, typer.Option("--scene", help="Also write scene.mrb for 3D Slicer.")] = False,
    maps: Annotated[bool, typer.Option("--maps", help="Also write jacobian.nrrd and displacement.nrrd.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Register MOVING to FIXED; OUT gets transform.h5, moved.nrrd, report.json and overview.png."""
    from regsuite.cli import commands
    from regsuite.pipeline.request import RegistrationRequest, parse_settings

    request = RegistrationRequest(
        method=method,
        fixed=fixed,
        moving=moving,
        out=out,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        lesion_mask=lesion_mask,
        initial=initial,
        preset=preset,
        settings=parse_settings(settings or []),
        device=device,
        seed=seed,
        scene=scene,
        maps=maps,
    )
    commands.register(request, quiet)


@app.command("apply")
def apply_transform(
    transform: Annotated[str, typer.Argument(metavar="TRANSFORM", help="transform.h5 of a registration, or .tfm.")],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image or label map in the space of the moving image.")],
    like: Annotated[str, typer.Option("--like", metavar="FIXED", help="Image whose grid the result takes.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="File to write (.nrrd, .nii.gz, .mha).")],
    interpolation: Annotated[str, typer.Option("--interpolation", help="linear, nearest (label maps) or cubic.")] = "linear",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Lay IMAGE on the grid of FIXED with a saved transform."""
    from regsuite.cli import commands
    from regsuite.pipeline.apply import ApplyRequest

    commands.apply(ApplyRequest(transform, image, like, out, interpolation), quiet)


@app.command()
def evaluate(
    out: Annotated[str, typer.Option("--out", "-o", metavar="REPORT", help="Report to write (.json).")],
    transform: Annotated[Text, typer.Option("--transform", metavar="T", help="Default: none, the data as they lie.")] = None,
    fixed_landmarks: Annotated[Text, typer.Option("--fixed-landmarks", metavar="A", help=".mrk.json, .fcsv, csv (RAS mm).")] = None,
    moving_landmarks: Annotated[Text, typer.Option("--moving-landmarks", metavar="B", help="The same points, same order.")] = None,
    fixed_labels: Annotated[Text, typer.Option("--fixed-labels", metavar="A", help="Label map on the fixed image.")] = None,
    moving_labels: Annotated[Text, typer.Option("--moving-labels", metavar="B", help="Label map on the moving image.")] = None,
    fixed: Annotated[Text, typer.Option("--fixed", metavar="F", help="Fixed image: similarity, Jacobian.")] = None,
    moving: Annotated[Text, typer.Option("--moving", metavar="M", help="Moving image: similarity.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a registration with landmarks, label maps, images."""
    from regsuite.cli import commands
    from regsuite.pipeline.evaluate import EvaluationRequest

    request = EvaluationRequest(
        out, transform, fixed_landmarks, moving_landmarks, fixed_labels, moving_labels, fixed, moving
    )
    commands.evaluate(request, quiet)


@app.command()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with presets and all settings.")] = False,
    verbose: Verbose = False,
) -> None:
    """List the methods."""
    from regsuite.cli import commands

    commands.methods(as_json)


@app.command()
def phantom(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For example thorax.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the data.")],
    seed: Annotated[int, typer.Option("--seed", metavar="N", parser=_whole, help="Another seed, another patient.")] = 0,
    size: Annotated[tuple[int, int, int] | None, typer.Option("--size", metavar="I J K", help="Voxels along i, j, k.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a pair of images with known truth: fields, masks, labels, landmarks."""
    from regsuite.cli import commands

    commands.phantom(name, out, seed, size, quiet)


@app.command()
def demo(
    area: Annotated[str, typer.Argument(metavar="[AREA]", help="Body region.")] = "lung",
    out: Annotated[str, typer.Option("--out", "-o", metavar="OUT", help="Folder for data and results.")] = "regsuite-demo",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a phantom, register it, and compare with the truth."""
    from regsuite.cli import commands

    commands.demo(area, out, quiet)


app.command()(dose_commands.dvh)
app.command()(slices_commands.slices)
app.command()(uncertainty_commands.uncertainty)
app.command()(growth_commands.longitudinal)
app.command()(dose_commands.dose)
app.command()(training_commands.train)
