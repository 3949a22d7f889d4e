"""Mistakes in the command line itself, told in one line with the valid names."""

from __future__ import annotations

from typing import Any

import typer

from regsuite.pipeline.request import unknown

# Typer carries its own copy of click from 0.21 on; its classes are reached through the one it exports.
ClickException: type[Exception] = typer.BadParameter.__mro__[2]


def usage_line(error: Any) -> str:
    """One sentence for a click error: unknown options and commands come with the list of known ones."""
    context = getattr(error, "ctx", None)
    where = f" (see '{context.command_path} --help')" if context is not None else ""
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and context is not None and option:
        return f"Unknown option {unknown(option, _options(context))}{where}."
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    commands = getattr(getattr(context, "command", None), "commands", None)
    if commands and message.startswith("No such command"):
        return f"Unknown command {unknown(message.split(chr(39))[1], commands)}."
    return f"{message}{where}."


def _options(context: Any) -> list[str]:
    return [name for parameter in context.command.get_params(context) for name in parameter.opts if name.startswith("--")]
