"""What the commands do once their options are read: call the pipeline, show the outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from regsuite.cli.display import progress_display, show_report

if TYPE_CHECKING:
    from regsuite.pipeline.apply import ApplyRequest
    from regsuite.pipeline.evaluate import EvaluationRequest
    from regsuite.pipeline.request import RegistrationRequest


def register(request: RegistrationRequest, quiet: bool) -> None:
    """Run one registration and show its report."""
    with progress_display(quiet) as progress:
        from regsuite.pipeline.register import REPORT, run_registration

        out = run_registration(request, progress)
    if not quiet:
        show_report(json.loads((out / REPORT).read_text(encoding="utf-8")), str(out))


def apply(request: ApplyRequest, quiet: bool) -> None:
    """Write the moved image."""
    from regsuite.pipeline.apply import run_apply

    with progress_display(quiet) as progress:
        out = run_apply(request, progress)
    if not quiet:
        print(f"Written to {out}")


def evaluate(request: EvaluationRequest, quiet: bool) -> None:
    """Write and show the evaluation report."""
    from regsuite.pipeline.evaluate import run_evaluation

    with progress_display(quiet) as progress:
        report = run_evaluation(request, progress)
    if not quiet:
        show_report(report, request.out)


def methods(as_json: bool) -> None:
    """Print the registry."""
    from regsuite.methods.registry import METHODS

    if as_json:
        from regsuite.pipeline.describe import describe_methods

        print(json.dumps(describe_methods(), indent=2))
        return
    table = Table("key", "title", "area", "takes also", "summary", box=None, pad_edge=False, header_style="bold")
    for row in METHODS.values():
        table.add_row(*(escape(text) for text in (row.key, row.title, row.area, ", ".join(row.takes), row.summary)))
    Console(highlight=False).print(table)


def phantom(name: str, out: str, seed: int, size: tuple[int, int, int] | None, quiet: bool) -> None:
    """Make a phantom and write it."""
    from regsuite.pipeline.phantom import run_phantom

    with progress_display(quiet) as progress:
        folder = run_phantom(name, Path(out), seed, size, progress)
    if not quiet:
        print(f"Written to {folder}")


def demo(area: str, out: str, quiet: bool) -> None:
    """Phantom, registration, comparison with the truth."""
    with progress_display(quiet) as progress:
        from regsuite.pipeline.demo import run_demo

        report, truth, folder = run_demo(area, Path(out), progress)
    if quiet:
        return
    show_report(report, str(folder))
    old, new = truth["before_mm"], truth["after_mm"]
    words = "{} {mean:.2f} mm on average, 95 % within {p95:.2f} mm".format
    print(f"\nError against the true motion, in the {truth['region']}: {words('before', **old)}; {words('after', **new)}.")
    print(f"Look at {folder / 'result' / 'overview.png'} first; what the files mean is in README.md.")
