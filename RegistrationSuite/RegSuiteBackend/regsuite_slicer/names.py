"""What the worker says of its files, said of the nodes that they were written from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_AS_THEY_ARE = "files"  # the report's list of what lay in the folder


class NodeNames:
    """Paths of files written for the worker, and the names of the nodes that they hold."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, path: str | Path, node: Any) -> None:
        """`path` was written from `node`; a node without a name stays unknown."""
        if node.GetName():
            self._names[str(path)] = str(node.GetName())

    def in_text(self, text: str) -> str:
        """The text with the nodes' names instead of the files', whether these come with their folder or not."""
        known = self._names | {Path(path).name: name for path, name in self._names.items()}
        if not known:
            return text
        longest_first = sorted(known, key=len, reverse=True)
        pattern = "|".join(re.escape(path) for path in longest_first)
        return re.sub(rf"(?<![\w.])(?:{pattern})(?!\w)", lambda found: known[found.group()], text)

    def in_report(self, path: Path) -> None:
        """The same for every text of a report.json, in place; a file that is no report is left to whoever reads it."""
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        path.write_text(json.dumps(self._in_value(report), indent=2) + "\n", encoding="utf-8")

    def _in_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key == _AS_THEY_ARE else self._in_value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._in_value(item) for item in value]
        return self.in_text(value) if isinstance(value, str) else value
