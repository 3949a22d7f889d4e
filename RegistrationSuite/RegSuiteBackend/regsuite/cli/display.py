"""What the terminal shows: progress on stderr while working, a table on stdout at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from regsuite.progress import ProgressCallback

LEVEL_STYLES = {"good": "green", "check": "yellow", "poor": "red"}
_LINE_EVERY_S = 5.0


@contextmanager
def progress_display(quiet: bool) -> Iterator[ProgressCallback | None]:
    """A progress callback: a bar with stage and time left on a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as callback:
            yield callback
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[ProgressCallback]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("[bold]{task.description:<22}"),
        BarColumn(bar_width=32),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("Starting", total=1.0, detail="")

        def update(fraction: float, stage: str, detail: str) -> None:
            bars.update(task, completed=fraction, description=escape(stage or "Working"), detail=escape(detail))

        yield update


def _lines() -> Callable[[float, str, str], None]:
    """The first stage, which reads and checks, stays silent: of bad input there is then exactly one line to read."""
    first, shown, when = "", "", 0.0

    def update(fraction: float, stage: str, detail: str) -> None:
        nonlocal first, shown, when
        now = time.monotonic()
        first = first or stage
        if stage not in ("", first) and (stage != shown or now - when >= _LINE_EVERY_S):
            shown, when = stage, now
            print(f"[{100 * fraction:3.0f} %] {stage}{': ' + detail if detail else ''}", file=sys.stderr, flush=True)

    return update


def show_report(report: Mapping[str, Any], where: str) -> None:
    """Print the numbers before and after, the verdict, the warnings and where the files are."""
    console = Console(highlight=False)
    before, after = report["metrics"]["before"], report["metrics"]["after"]
    table = Table("", "before", "after", box=None, pad_edge=False, header_style="dim")
    for name, old, new in _rows(before, after):
        table.add_row(name, old, new)
    console.print(table)
    verdict = report["verdict"]
    console.print(f"\n[bold {LEVEL_STYLES[verdict['level']]}]{verdict['headline']}[/]")
    for reason in verdict["reasons"]:
        console.print(f"  [{LEVEL_STYLES[reason['level']]}]●[/] {escape(reason['text'])}")
    for warning in report.get("warnings", ()):
        console.print(f"  [yellow]![/] {escape(warning)}")
    console.print(f"\nWritten to {escape(where)}", soft_wrap=True)


def _rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    def number(metrics: Mapping[str, Any], *path: str, digits: int = 3) -> str:
        value: Any = metrics
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return "-" if value is None else f"{value:.{digits}f}"

    wanted: tuple[tuple[str, tuple[str, ...], int], ...] = (
        ("Correlation", ("similarity", "ncc"), 3),
        ("Mutual information (nats)", ("similarity", "mutual_information"), 3),
        ("Landmarks, mean (mm)", ("landmarks_tre_mm", "mean"), 2),
        ("Landmarks, 95 % (mm)", ("landmarks_tre_mm", "p95"), 2),
        ("Dice, mean", ("dice_mean",), 3),
        ("Folding (%)", ("folding_percent",), 4),
        ("Volume factor, least", ("jacobian", "min"), 2),
        ("Volume factor, most", ("jacobian", "max"), 2),
        ("Displacement, mean (mm)", ("displacement_mm", "mean"), 2),
        ("Displacement, most (mm)", ("displacement_mm", "max"), 2),
    )
    for name, path, digits in wanted:
        old, new = (number(metrics, *path, digits=digits) for metrics in (before, after))
        if (old, new) != ("-", "-"):
            yield name, old, new
