"""Owns what a figure is: runs, their median, and a reference from the same run."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Figure(NamedTuple):
    """A measured figure. `runs` and `references` alternate in one run of the program; `target` as published, in words."""

    name: str
    unit: str
    runs: Sequence[float]
    reference: str = ""
    references: Sequence[float] = ()
    target: str = ""

    @property
    def value(self) -> float:
        """The median run."""
        return statistics.median(self.runs)

    @property
    def ratio(self) -> float | None:
        """The median over pairs of run and reference; None without a reference."""
        return statistics.median(run / ref for run, ref in zip(self.runs, self.references, strict=True)) if self.references else None

    def record(self) -> dict[str, object]:
        """As it stands in bench.json."""
        return {
            "name": self.name, "value": round(self.value, 3), "unit": self.unit, "reference": self.reference,
            "ratio": None if self.ratio is None else round(self.ratio, 3), "runs": [round(run, 3) for run in self.runs],
        }  # fmt: skip


def publish(figures: Sequence[Figure], path: Path) -> None:
    """A table for people, and bench.json, where figures that were not measured now stay as they were."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("figure", "median", "unit", "least", "most", "ratio", "of", "target"):
        table.add_column(name, justify="right" if name in ("median", "least", "most", "ratio") else "left")
    for f in figures:
        ratio = "" if f.ratio is None else f"{f.ratio:.2f}"
        table.add_row(f.name, f"{f.value:,.1f}", f.unit, f"{min(f.runs):,.1f}", f"{max(f.runs):,.1f}", ratio, f.reference, f.target)
    Console(width=200).print(table)
    before = json.loads(path.read_text()) if path.exists() else []
    known = {record["name"]: record for record in before} | {f.name: f.record() for f in figures}
    path.write_text(json.dumps(list(known.values()), indent=1) + "\n")
