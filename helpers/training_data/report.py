"""What an audit found: shown in a notebook, as text, as one HTML file, as data for a machine.

The HTML has its style and pictures in it and no script, so it can be mailed and opened without a network. Its colours
are half-transparent or taken from the page around it: readable in the light and in the dark theme of JupyterLab.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from helpers.files import replacing

if TYPE_CHECKING:
    from jinja2 import Template

Severity = Literal["severe", "warning", "note"]
Dimension = Literal["consistency", "accuracy", "diversity", "imbalance", "leakage", "duplicates"]

SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "note")
DIMENSIONS: tuple[Dimension, ...] = ("leakage", "duplicates", "accuracy", "consistency", "imbalance", "diversity")
ROWS_NAMED = 20
"""A finding names this many rows at most; `count` says how many there are."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    `rows` are positions (for `.iloc`), the first 20 of `count`. `evidence` holds the numbers, plain Python values.
    """

    code: str
    dimension: Dimension
    severity: Severity
    message: str
    consequence: str
    remedy: str
    columns: tuple[Hashable, ...] = ()
    rows: tuple[int, ...] = ()
    count: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {SEVERITIES}, got {self.severity!r}")
        if self.dimension not in DIMENSIONS:
            raise ValueError(f"dimension must be one of {DIMENSIONS}, got {self.dimension!r}")
        object.__setattr__(self, "rows", tuple(int(row) for row in self.rows[:ROWS_NAMED]))
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "evidence", {key: plain(value) for key, value in self.evidence.items()})


@dataclass(frozen=True)
class Picture:
    """Numbers behind the three pictures; any may be empty."""

    missing: tuple[tuple[str, tuple[float, ...]], ...] = ()  # column, share missing in each slice of rows
    classes: tuple[tuple[str, int], ...] = ()
    scores: tuple[tuple[str, float], ...] = ()
    score_name: str = "AUC"
    score_floor: float = 0.5
    suspects: tuple[str, ...] = ()  # columns that are drawn in the warning colour


@dataclass(frozen=True)
class AuditReport:
    """The findings of one audit, most severe first, and a summary of the table."""

    findings: tuple[Finding, ...]
    table_summary: Mapping[str, Any]
    picture: Picture = field(default_factory=Picture, repr=False)

    def select(
        self, *, severity: Severity | None = None, dimension: Dimension | None = None, code: str | None = None
    ) -> tuple[Finding, ...]:
        """The findings of one severity, dimension or code (or of all that are given together)."""
        if severity is not None and severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {SEVERITIES}, got {severity!r}")
        if dimension is not None and dimension not in DIMENSIONS:
            raise ValueError(f"dimension must be one of {DIMENSIONS}, got {dimension!r}")
        return tuple(
            f
            for f in self.findings
            if severity in (None, f.severity) and dimension in (None, f.dimension) and code in (None, f.code)
        )

    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        return {severity: len(self.select(severity=severity)) for severity in SEVERITIES}

    def __repr__(self) -> str:
        lines = [headline(self)]
        for finding in self.findings:
            lines += ["", *finding_lines(finding)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values alone, ready for json."""
        return {
            "schema": 1,
            "table": plain(dict(self.table_summary)),
            "counts": self.counts(),
            "findings": [plain(asdict(finding)) for finding in self.findings],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON text; with `path` it is also written there, whole or not at all."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        if path is not None:
            write_atomically(path, text)
        return text

    def to_html(self, path: str | os.PathLike[str], *, title: str | None = None) -> Path:
        """Write one self-contained HTML file, whole or not at all; returns its path."""
        page = template("page.html.j2").render(
            title=title or f"Audit of {self.table_summary.get('source') or 'a table'}", body=self._repr_html_()
        )
        return write_atomically(path, page)

    def _repr_html_(self) -> str:
        from helpers.training_data.pictures import class_bars, missing_map, score_bars

        pictures = [missing_map(self.picture), class_bars(self.picture), score_bars(self.picture)]
        return template("report.html.j2").render(
            headline=headline(self),
            counts=self.counts(),
            severities=SEVERITIES,
            summary=summary_lines(self.table_summary),
            pictures=[p for p in pictures if p],
            findings=self.findings,
            evidence_text=evidence_text,
            rows_text=rows_text,
        )


def headline(report: AuditReport) -> str:
    """One line: size, target, and how many findings of each severity."""
    summary = report.table_summary
    counts = report.counts()
    about = f", target {summary['target']!r}" if summary.get("target") is not None else ""
    found = f"{counts['severe']} severe, {plural(counts['warning'], 'warning')}, {plural(counts['note'], 'note')}"
    return f"{summary['rows']:,} rows × {summary['columns']:,} columns{about}: {found}"


def finding_lines(finding: Finding) -> list[str]:
    """A finding as text, at most 110 characters a line."""
    lines = textwrap.wrap(
        f"{finding.severity.upper():7} {finding.dimension}: {finding.message}", 110, break_on_hyphens=False
    )
    body = [("effect", finding.consequence), ("do", finding.remedy), ("rows", rows_text(finding))]
    for name, text in body:
        if text:
            lines += textwrap.wrap(
                f"{name:6} {text}", 110, initial_indent="  ", subsequent_indent=" " * 9, break_on_hyphens=False
            )
    return lines


def plural(count: int, word: str) -> str:
    """'1 row', '2,000 rows'"""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def rows_text(finding: Finding) -> str:
    """'3, 17, 20 … (41 in all)'"""
    if not finding.rows:
        return ""
    shown = ", ".join(f"{row}" for row in finding.rows[:10])
    return shown + (f" … ({finding.count:,} in all)" if finding.count > min(10, len(finding.rows)) else "")


def evidence_text(finding: Finding) -> str:
    """The evidence in one line."""
    return "; ".join(f"{key.replace('_', ' ')}: {_short(value)}" for key, value in finding.evidence.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        shown = [f"{key} {_short(item)}" for key, item in list(value.items())[:6]]
        return ", ".join(shown) + (" …" if len(value) > 6 else "")
    if isinstance(value, list):
        return ", ".join(_short(item) for item in value[:6]) + (" …" if len(value) > 6 else "")
    text = str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def summary_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the report says about the table besides the findings."""
    skip = {"rows", "columns", "target", "best_single_columns"}
    return [(key.replace("_", " "), _short(plain(value))) for key, value in summary.items() if key not in skip]


def plain(value: Any) -> Any:
    """`value` made of dict, list, str, int, float, bool and None alone; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return [plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


@lru_cache
def template(name: str) -> Template:
    """A template of this package; everything put into it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("helpers.training_data", "templates")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)


def check_writable(path: str | os.PathLike[str]) -> Path:
    """The path; ValueError when it is a folder, or its folder does not exist or cannot be written to."""
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"cannot write {str(target)!r}: it is a folder")
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {str(target)!r}: there is no folder {str(target.parent)!r}")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"cannot write {str(target)!r}: no permission to write into {str(target.parent)!r}")
    return target


def write_atomically(path: str | os.PathLike[str], text: str) -> Path:
    """Write under a temporary name in the same folder, then rename: a reader sees the old file or the new one.

    Raises ValueError when the folder does not exist or `path` is a folder.
    """
    target = check_writable(path)
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return target
