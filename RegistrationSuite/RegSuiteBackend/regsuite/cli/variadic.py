"""Options that take several values in a row, `--structures A=a.nrrd B=b.nrrd`: click wants the option before each value."""

from __future__ import annotations

from collections.abc import Sequence

SEVERAL: dict[str, tuple[str, ...]] = {
    "dvh": ("--structures", "--metrics"),
    "slices": ("--slice-masks", "--values"),
    "longitudinal": ("--ages", "--masks"),
    "dose": ("--structures", "--contours", "--metrics"),
}
"""Command -> options of this kind."""


def spread(arguments: Sequence[str]) -> list[str]:
    """Repeat such an option before every value up to the next option; everything else stays."""
    options = SEVERAL.get(next((a for a in arguments if not a.startswith("-")), ""), ())
    out: list[str] = []
    current = ""
    for word in arguments:
        if word.startswith("-"):
            name, equals, _ = word.partition("=")
            current = name if name in options and not equals else ""
            if current:
                continue
            out.append(word)
        elif current:
            out += [current, word]
        else:
            out.append(word)
    return out
