"""Read a notebook's script, and refuse one that would give a learner a broken or a leaking notebook.

A script is in jupytext's percent format. Every cell carries `id="…"`; the answers of an exercise stand between
`### BEGIN SOLUTION` and `### END SOLUTION`. `read_source` gives the cells with every rule checked;
`solved` and `stub` give what the two notebooks show.

What this does not catch: an answer that is paraphrased elsewhere in the notebook, or given away in prose.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
NOT_WRITTEN = "raise NotImplementedError"
IGNORE = "nbval-ignore-output"  # the output depends on the machine: shown, not compared
TAGS = frozenset({"parameters", "exercise", "solution", IGNORE})
MAX_LINES = 25
MAX_LINES_EXERCISE = 60
SHORTEST_LEAK = 24  # characters without blanks; shorter expressions are no answer but idiom

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EXERCISE_ID = re.compile(r"exercise-(\d+)-(\d+)")
_ANY_MARKER = re.compile(r"^\s*#+\s*(BEGIN|END)[\s_-]*SOLUTIONS?\b.*$", re.IGNORECASE)
_MAGIC = re.compile(r"^(\s*)([%!])")
# one call that every script of its kind has, and that the lesson itself has to show
_IDIOM = re.compile(
    r"^(np\.(asarray|array)\([\w.,=]*\)|np\.random\.default_rng\(\w*\)"
    r"|sampler\.set_epoch\(\w+\)|F\.cross_entropy\(model\(x\),y\))$"
)


class SourceError(ValueError):
    """A script breaks a rule; the message names the file, the line and the cell."""


@dataclass(frozen=True)
class Cell:
    """One cell of a script. `line` is the 1-based line of its `# %%` marker."""

    path: Path
    line: int
    id: str
    kind: str  # "code" or "markdown"
    tags: tuple[str, ...]
    source: str

    @property
    def exercise(self) -> str | None:
        """`"1.4"` for the exercise cell `exercise-1-4`, otherwise None."""
        found = _EXERCISE_ID.fullmatch(self.id)
        return ".".join(found.groups()) if found and "exercise" in self.tags else None

    def error(self, text: str, offset: int = -1) -> SourceError:
        """The error to raise about this cell; `offset` is a 0-based line of its source."""
        return SourceError(f"{self.path}:{self.line + 1 + offset}: cell {self.id or '(no id)'!r}: {text}")


def read_source(path: Path, *, max_lines: int = MAX_LINES) -> list[Cell]:
    """The cells of the script at `path`, all rules checked (SourceError names the first one that is broken)."""
    text = path.read_text(encoding="utf-8")
    notebook = jupytext.reads(_without_header(text), fmt="py:percent")
    lines = _marker_lines(text, len(notebook.cells))
    cells = [_cell(path, line, raw) for line, raw in zip(lines, notebook.cells, strict=True)]
    if not cells:
        raise SourceError(f"{path}:1: no cell: a script in percent format starts its cells with '# %%'")
    _check_ids(cells)
    for cell in cells:
        _check_tags(cell)
        _check_regions(cell)
        _check_size(cell, max_lines)
        if cell.kind == "code":
            _check_code(cell)
    _check_exercises(cells)
    _check_leaks(cells)
    return cells


def solved(cell: Cell) -> str:
    """What the solved notebook shows: the code without the marker lines."""
    kept = (line for line in cell.source.splitlines() if line.strip() not in (BEGIN, END))
    return "\n".join(kept)


def stub(cell: Cell) -> str | None:
    """What the learner gets: each region replaced by `raise NotImplementedError`; None for a cell tagged `solution`."""
    if "solution" in cell.tags:
        return None
    kept: list[str] = []
    inside = False
    for line in cell.source.splitlines():
        if line.strip() == BEGIN:
            kept.append(line[: len(line) - len(line.lstrip())] + NOT_WRITTEN)
            inside = True
        elif line.strip() == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def exercises(cells: list[Cell]) -> list[str]:
    """The ids of the exercises in the order of the notebook, as `["1.1", "1.2"]`."""
    return [cell.exercise for cell in cells if cell.exercise]


# --- reading -------------------------------------------------------------------------------------------------


def _without_header(text: str) -> str:
    """The YAML block that jupytext writes on top is not ours: what it says is the same for every notebook."""
    header = re.match(r"# ---\n(?:#.*\n)*?# ---\n", text)
    return text if header is None else text[header.end() :].lstrip("\n")


def _marker_lines(text: str, count: int) -> list[int]:
    found = [n for n, line in enumerate(text.splitlines(), 1) if re.match(r"# ?%%", line)]
    if len(found) == count - 1:  # code before the first marker is a cell of its own
        found.insert(0, 0)
    # a '# %%' inside a string makes no cell, and then the lines cannot be told apart: better none than wrong ones
    return found if len(found) == count else [0] * count


def _cell(path: Path, line: int, raw: dict) -> Cell:
    metadata = dict(raw["metadata"])
    metadata.pop("lines_to_next_cell", None)
    tags = metadata.pop("tags", [])
    kind = "markdown" if raw["cell_type"] == "markdown" else "code"
    cell = Cell(path, line, str(metadata.pop("id", "")), kind, tuple(tags), raw["source"])
    if raw["cell_type"] not in ("code", "markdown"):
        raise cell.error(f"a {raw['cell_type']} cell: only code and [markdown] are known")
    if metadata:
        raise cell.error(f"unknown cell metadata {', '.join(sorted(metadata))}: only id and tags are kept")
    return cell


# --- rules ---------------------------------------------------------------------------------------------------


def _check_ids(cells: list[Cell]) -> None:
    first: dict[str, Cell] = {}
    for cell in cells:
        if not cell.id:
            start = cell.source.strip().splitlines()[:1] or ["(empty)"]
            raise cell.error(f'missing id: write `# %% id="a-name"` above {start[0][:60]!r}')
        if not _ID.fullmatch(cell.id):
            raise cell.error("an id is 1 to 64 letters, digits, '-' and '_'")
        if cell.id in first:
            raise cell.error(f"duplicate id: the cell at line {first[cell.id].line} has it already")
        first[cell.id] = cell


def _check_tags(cell: Cell) -> None:
    for tag in cell.tags:
        if tag not in TAGS:
            raise cell.error(f"unknown tag {tag!r}: known are {', '.join(sorted(TAGS))}")
    if len(set(cell.tags)) < len(cell.tags):
        raise cell.error("the same tag twice")
    if {"exercise", "solution"} <= set(cell.tags):
        raise cell.error("tagged both exercise and solution: an exercise is in both notebooks")
    if cell.kind == "markdown" and set(cell.tags) - {"solution"}:
        raise cell.error(f"a markdown cell can only be tagged solution, not {', '.join(cell.tags)}")
    if "exercise" in cell.tags and not _EXERCISE_ID.fullmatch(cell.id):
        raise cell.error('an exercise cell is called exercise-N-M (exercise 1.4: id="exercise-1-4")')
    if _EXERCISE_ID.fullmatch(cell.id) and "exercise" not in cell.tags:
        raise cell.error('this id needs tags=["exercise"]')


def _check_regions(cell: Cell) -> None:
    opened: int | None = None
    regions = 0
    for n, line in enumerate(cell.source.splitlines()):
        mark = line.strip()
        if mark not in (BEGIN, END):
            if _ANY_MARKER.match(line):
                raise cell.error(f"misspelt marker {mark!r}: write {BEGIN!r} or {END!r}", n)
        elif cell.kind == "markdown" or "exercise" not in cell.tags:
            raise cell.error('region outside an exercise cell: it needs tags=["exercise"]', n)
        elif mark == BEGIN:
            if opened is not None:
                raise cell.error(f"nested region: the one opened at line {cell.line + 1 + opened} is not closed", n)
            opened, regions = n, regions + 1
        elif opened is None:
            raise cell.error(f"{END!r} without {BEGIN!r}", n)
        else:
            _check_filled(cell, opened, n)
            opened = None
    if opened is not None:
        raise cell.error(f"unclosed region: {END!r} is missing before the cell ends", opened)
    if "exercise" in cell.tags and not regions:
        raise cell.error(f"an exercise cell needs a region: put the answer between {BEGIN!r} and {END!r}")


def _check_filled(cell: Cell, begin: int, end: int) -> None:
    body = [line.strip() for line in cell.source.splitlines()[begin + 1 : end]]
    code = [line for line in body if line and not line.startswith("#")]
    if not code or set(code) <= {"pass", "...", NOT_WRITTEN}:
        raise cell.error("empty region: there is no answer in it", begin)


def _check_size(cell: Cell, max_lines: int) -> None:
    if cell.kind == "markdown":
        if not cell.source.strip():
            raise cell.error("empty cell")
        return
    count = sum(1 for line in solved(cell).splitlines() if line.strip() and not line.strip().startswith("#"))
    allowed = MAX_LINES_EXERCISE if "exercise" in cell.tags else max_lines
    if count == 0:
        raise cell.error("empty cell")
    if count > allowed:
        raise cell.error(f"{count} lines of code, at most {allowed} fit on a screen: move machinery to helpers")


def _parse(cell: Cell, source: str) -> ast.Module:
    plain = "\n".join(_MAGIC.sub(r"\1pass  # \2", line) for line in source.splitlines())
    try:
        return ast.parse(plain)
    except SyntaxError as problem:
        raise cell.error(f"not Python: {problem.msg}", (problem.lineno or 1) - 1) from None


def _check_code(cell: Cell) -> None:
    _parse(cell, cell.source)
    if "exercise" not in cell.tags:
        return
    for node in _parse(cell, stub(cell) or "").body:
        _check_given(cell, node)


def _line_in_source(cell: Cell, node: ast.AST) -> int:
    """Where a node of the stub stands in the cell's own source (0-based): the stub is shorter by its regions."""
    wanted = (stub(cell) or "").splitlines()[getattr(node, "lineno", 1) - 1]
    lines = cell.source.splitlines()
    return lines.index(wanted) if wanted in lines else 0


def _check_given(cell: Cell, node: ast.stmt) -> None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        _check_function(cell, node)
    elif isinstance(node, ast.ClassDef):
        _check_class(cell, node)
    elif not isinstance(node, ast.Import | ast.ImportFrom) and not _is_constant(node):
        raise cell.error(
            "code outside a region that leaks the answer: an exercise cell gives imports, constants and "
            f"functions with a docstring and one region, not {ast.unparse(node).splitlines()[0][:60]!r}",
            _line_in_source(cell, node),
        )


def _check_function(cell: Cell, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    where = _line_in_source(cell, node)
    if ast.get_docstring(node) is None:
        raise cell.error(f"{node.name} has no docstring: the learner gets nothing else", where)
    body = node.body[1:]
    extra = [child for child in body if ast.unparse(child) != NOT_WRITTEN]
    if extra:
        raise cell.error(
            f"code outside a region that leaks the answer: {node.name} keeps "
            f"{ast.unparse(extra[0]).splitlines()[0][:60]!r} in the stub",
            _line_in_source(cell, extra[0]),
        )
    if len(body) != 1:
        raise cell.error(f"{node.name} has {len(body)} regions, it needs one", where)


def _check_class(cell: Cell, node: ast.ClassDef) -> None:
    for child in node.body:
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if not is_docstring and not (isinstance(child, ast.AnnAssign) and child.value is None):
            _check_given(cell, child)


def _is_constant(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return False
    parts = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.BinOp, ast.UnaryOp, ast.operator,
             ast.unaryop, ast.Load)  # fmt: skip
    return all(isinstance(part, parts) for part in ast.walk(node.value))


def _check_exercises(cells: list[Cell]) -> None:
    for n, cell in enumerate(cells):
        number = cell.exercise
        if number:
            _check_surroundings(cell, number, cells[:n], cells[n + 1 :])
    known = set(exercises(cells))
    for cell in cells:
        if cell.kind == "code":
            for number in _checked(cell.source):
                if number not in known:
                    raise cell.error(
                        f'check("{number}", …) without an exercise cell exercise-{number.replace(".", "-")}'
                    )


def _check_surroundings(cell: Cell, number: str, before: list[Cell], after: list[Cell]) -> None:
    leading = re.match(r"(\d+)_", cell.path.name)
    if leading and int(leading[1]) != int(number.split(".")[0]):
        raise cell.error(f"exercise {number} in notebook {leading[1]}")
    heading = re.compile(rf"^### Exercise {re.escape(number)} · \S", re.MULTILINE)
    found = [c for c in before if c.kind == "markdown" and "solution" not in c.tags and heading.search(c.source)]
    if not found:
        raise cell.error(f"no heading '### Exercise {number} · Title' in a cell above")
    if not re.search(r"^difficulty [1-5]/5 · \d+ min · asked as: \S", found[-1].source, re.MULTILINE):
        raise found[-1].error(f"exercise {number} needs the line 'difficulty 3/5 · 15 min · asked as: \"…\"'")
    if not any(c.kind == "code" and "solution" not in c.tags and number in _checked(c.source) for c in after):
        raise cell.error(f'no check cell below: add one with check("{number}", …)')


def _checked(source: str) -> list[str]:
    return re.findall(r"""^check\(\s*["'](\d+\.\d+)["']""", source, re.MULTILINE)


# --- leaks ---------------------------------------------------------------------------------------------------


def _squeeze(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _check_leaks(cells: list[Cell]) -> None:
    visible = [(cell, _squeeze(stub(cell) or "")) for cell in cells]
    for answer in cells:
        for offset, text in _answers(answer):
            for cell, shown in visible:
                if _squeeze(text) in shown and not _is_broken_version(cell, answer):
                    raise cell.error(
                        f"leaks the answer of exercise {answer.exercise}: it repeats {text[:70]!r} "
                        f"from line {answer.line + 1 + offset}"
                    )


def _is_broken_version(cell: Cell, answer: Cell) -> bool:
    """A *fix this code* exercise shows the broken code, and most of its lines are right: its cell is `broken-1-10`."""
    return cell.id == answer.id.replace("exercise-", "broken-", 1)


def _answers(cell: Cell) -> Iterator[tuple[int, str]]:
    """Each distinctive expression of a cell's regions with its 0-based line: what no visible cell may repeat."""
    if not cell.exercise:
        return
    inside = _lines_inside(cell.source)
    for node in ast.walk(_parse(cell, cell.source)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return | ast.Expr) and node.value:
            if isinstance(node.value, ast.Constant):
                continue
            text = _without_comments(ast.get_source_segment(cell.source, node.value) or "")
            squeezed = _squeeze(text)
            if node.lineno - 1 in inside and len(squeezed) >= SHORTEST_LEAK and not _IDIOM.match(squeezed):
                yield node.lineno - 1, " ".join(text.split())


def _lines_inside(source: str) -> set[int]:
    inside, opened = set(), False
    for n, line in enumerate(source.splitlines()):
        if line.strip() in (BEGIN, END):
            opened = line.strip() == BEGIN
        elif opened:
            inside.add(n)
    return inside


def _without_comments(text: str) -> str:
    wrapped = f"({text})"
    tokens = tokenize.generate_tokens(io.StringIO(wrapped).readline)
    lines = wrapped.splitlines()
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(lines)[1:-1]
