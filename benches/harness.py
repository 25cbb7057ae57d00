"""What the benchmark scripts share beside `kullback.bench`: plain tables, and a report on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Lay cells out in columns, the first aligned left and the others right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cells[0].ljust(widths[0]),
            *(cell.rjust(size) for cell, size in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    rule = [("-" * widths[0]), *("-" * (size - 1) + ":" for size in widths[1:])]
    return "\n".join([line(header), *([line(rule)] if markdown else []), *map(line, rows)])


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write a report if a path was given."""
    if path is not None:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
