"""Compare the outputs of two runs of a notebook: text, HTML, errors, streams, missing and extra outputs, pictures.

Text is compared to the letter, after the replacements of `tests/nbval_sanitise.cfg`. Pictures are compared by their
grey levels: a few levels of anti-aliasing pass, a missing line does not. A cell tagged `nbval-ignore-output` only has
to give outputs of the same kinds. What this does not catch: a wrong result that was wrong when it was committed.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from nbformat import NotebookNode
from PIL import Image

from tools.build_notebooks import clean_outputs, code_cells
from tools.notebook_source import IGNORE

ROOT = Path(__file__).resolve().parents[1]
MEAN_GREY = 2.0  # of 255, over the whole picture
BLOCK_GREY = 16.0  # of 255, over any block of BLOCK x BLOCK pixels: a vanished label is small in the mean
BLOCK = 32


def sanitise_rules(path: Path = ROOT / "tests" / "nbval_sanitise.cfg") -> list[tuple[re.Pattern[str], str]]:
    """The replacements in nbval's file at `path`, as (pattern, replacement)."""
    found = re.findall(r"^regex: (.*)$\n^replace: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [(re.compile(pattern), replacement) for pattern, replacement in found]


def compare(wanted: NotebookNode, got: NotebookNode) -> list[str]:
    """The differences between the committed notebook and a fresh run of it, one line each; empty when equal."""
    rules = sanitise_rules()
    found: list[str] = []
    for first, second in zip_longest(code_cells(wanted), code_cells(got)):
        if first is None or second is None or first.id != second.id:
            return [*found, f"the cells differ: {first and first.id!r} is committed, {second and second.id!r} was run"]
        ignore = IGNORE in first.metadata.get("tags", [])
        found += [
            f"cell {first.id!r}: {text}" for text in compare_outputs(first.outputs, second.outputs, rules, ignore)
        ]
        if first.execution_count != second.execution_count:
            found.append(
                f"cell {first.id!r}: number [{first.execution_count}] is committed, not [{second.execution_count}]"
            )
    return found


def compare_outputs(
    wanted: Sequence[NotebookNode],
    got: Sequence[NotebookNode],
    rules: Sequence[tuple[re.Pattern[str], str]] = (),
    ignore: bool = False,
) -> list[str]:
    """The differences between the outputs of one cell; with `ignore` only their kinds are compared."""
    first, second = clean_outputs(wanted), clean_outputs(got)
    if [kind(output) for output in first] != [kind(output) for output in second]:
        return [_told(first, second)]
    found = [f"error {o.ename}: {o.evalue}" for o in second if o.output_type == "error"]
    if not ignore:
        for a, b in zip(first, second, strict=True):
            found += _compare_output(a, b, rules)
    return found


def kind(output: NotebookNode) -> str:
    """What an output is, apart from its content: "stderr", "display_data text/html text/plain"."""
    if output.output_type == "stream":
        return str(output.name)
    return " ".join([output.output_type, *sorted(output.get("data", {}))])


def _told(first: Sequence[NotebookNode], second: Sequence[NotebookNode]) -> str:
    wanted, got = [kind(o) for o in first], [kind(o) for o in second]
    if len(wanted) == len(got):
        return f"outputs of another kind: {wanted} committed, {got} now"
    word = "missing" if len(got) < len(wanted) else "extra"
    longer, shorter = (wanted, list(got)) if word == "missing" else (got, list(wanted))
    left = [name for name in longer if not (name in shorter and shorter.remove(name) is None)]  # type: ignore[func-returns-value]
    text = next((o.text.strip()[:200] for o in second if kind(o) == "stderr"), "")
    return f"{word} output: {', '.join(left)} ({len(wanted)} committed, {len(got)} now){': ' + text if text else ''}"


def _compare_output(a: NotebookNode, b: NotebookNode, rules: Sequence[tuple[re.Pattern[str], str]]) -> list[str]:
    if a.output_type == "stream":
        return _compare_text(a.name, a.text, b.text, rules)
    found = []
    for mime, value in a.get("data", {}).items():
        other = b["data"][mime]
        if mime in ("image/png", "image/jpeg"):
            difference = compare_pictures(_decode(value), _decode(other))
            found += [f"{mime}: {difference}"] if difference else []
        else:
            found += _compare_text(mime, _as_text(value), _as_text(other), rules)
    return found


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _compare_text(what: str, wanted: str, got: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> list[str]:
    for pattern, replacement in rules:
        wanted, got = pattern.sub(replacement, wanted), pattern.sub(replacement, got)
    if wanted == got:
        return []
    for n, (a, b) in enumerate(zip_longest(wanted.split("\n"), got.split("\n")), 1):
        if a != b:
            return [f"{what} differs in line {n}: {_around(a, b)!r} committed, {_around(b, a)!r} now"]
    return []


def _around(text: str | None, other: str | None) -> str:
    """The part of a line in which it differs from the other one, with a little before it."""
    if text is None:
        return "(no line)"
    same = next((n for n, (a, b) in enumerate(zip(text, other or "", strict=False)) if a != b), len(other or ""))
    return text[max(0, same - 30) : same + 50]


def _decode(value: str) -> bytes:
    return base64.b64decode(value)


def compare_pictures(wanted: bytes, got: bytes) -> str | None:
    """How two encoded pictures differ to the eye, or None; transparent parts count as white."""
    if wanted == got:
        return None
    first, second = _grey(wanted), _grey(got)
    if first.shape != second.shape:
        (h, w), (h2, w2) = first.shape, second.shape
        return f"{w}×{h} pixels committed, {w2}×{h2} now"
    difference = np.abs(first - second)
    mean, worst = float(difference.mean()), _worst_block(difference)
    if mean <= MEAN_GREY and worst <= BLOCK_GREY:
        return None
    return f"the picture differs by {mean:.1f} grey levels (at most {MEAN_GREY}), {worst:.0f} in one place"


def _grey(encoded: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(encoded)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("L"), dtype=float)


def _worst_block(difference: np.ndarray) -> float:
    """The largest mean over blocks that overlap by half, so that no small change is cut into pieces."""
    sums = np.pad(difference.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    h, w = (min(BLOCK, n) for n in difference.shape)
    rows = np.unique([*range(0, difference.shape[0] - h + 1, max(1, h // 2)), difference.shape[0] - h])
    columns = np.unique([*range(0, difference.shape[1] - w + 1, max(1, w // 2)), difference.shape[1] - w])
    ends = sums[np.ix_(rows + h, columns + w)] - sums[np.ix_(rows, columns + w)]
    blocks = ends - sums[np.ix_(rows + h, columns)] + sums[np.ix_(rows, columns)]
    return float(blocks.max() / (h * w))


_STATE = re.compile(r"^[✓○✗] (\d+\.\d+) (passed|not attempted yet|not yet)", re.MULTILINE)


def exercise_states(notebook: NotebookNode) -> dict[str, str]:
    """What the check cards in a notebook say, by exercise: "passed", "not attempted yet" or "not yet"."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    texts = [o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs]
    return dict(found for text in texts for found in _STATE.findall(text))
