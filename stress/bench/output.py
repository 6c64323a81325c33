"""The results in files: figures as JSON, tables as Markdown, and pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from .plot import draw_all
from .report import tables
from .run import Results


def write(results: Results, folder: Path) -> None:
    """Write everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    lines: list[str] = []
    for table in tables(results):
        lines += ["", f"## {table.title}", "", _row(table.head), _row(["---"] * len(table.head))]
        lines += [_row(row) for row in table.rows]
    (folder / "tables.md").write_text("\n".join(["# Figures of the benchmark", *lines, ""]))
    draw_all(results, folder)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
