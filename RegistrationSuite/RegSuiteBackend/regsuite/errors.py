"""Every exception that regsuite raises on purpose. Anything else that escapes is a bug."""

from __future__ import annotations


class RegSuiteError(Exception):
    """Base of all deliberate errors; its text is one clear sentence fit for a user."""


class InputError(RegSuiteError, ValueError):
    """The caller gave something unusable: what, where, expected, found. Exit code 2 at the command line."""


class OutputError(RegSuiteError, OSError):
    """A result cannot be written (no permission, no space, not a folder)."""


class Cancelled(RegSuiteError):
    """The progress callback asked to stop; nothing is left behind."""


class NotInvertibleError(RegSuiteError, ArithmeticError):
    """A transform has no inverse, or the iterative inverse did not reach its tolerance."""


class MissingDependencyError(RegSuiteError, ImportError):
    """An optional library is needed for this and is not installed; the text names it and how to get it."""
