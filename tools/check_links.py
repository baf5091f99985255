"""Check that relative links and anchors in *.md files and notebooks lead somewhere: `python tools/check_links.py`.

What this does not catch: a link to another site that is gone.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
_PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
# by itself it takes a link that a browser would refuse (file:) for plain text
_PARSER.validateLink = lambda url: True  # type: ignore[method-assign]
_HTML_LINK = re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["']([^"']+)["']""", re.IGNORECASE)
_HTML_ANCHOR = re.compile(r"""<\w+\b[^>]*?\b(?:id|name)=["']([^"']+)["']""", re.IGNORECASE)


def documents(root: Path) -> list[Path]:
    """The Markdown files and notebooks of the checkout at `root`, ignored ones left out."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
        files = [root / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        files = [path for path in root.rglob("*") if not any(p.startswith(".") for p in path.parts)]
    return sorted(p for p in set(files) if p.suffix in (".md", ".ipynb") and p.is_file())


def texts(path: Path) -> list[tuple[str, str]]:
    """The Markdown texts in a file, each with a name for messages: the file itself, or a notebook's cells."""
    if path.suffix == ".md":
        return [("", path.read_text(encoding="utf-8"))]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        (f"cell {cell.get('id', n)!r}", "".join(cell["source"]))
        for n, cell in enumerate(cells)
        if cell["cell_type"] == "markdown"
    ]


def links(text: str) -> Iterator[tuple[int, str]]:
    """Each link or picture in a Markdown text with its 1-based line, code left out."""
    for token in _PARSER.parse(text):
        line = (token.map or [0])[0] + 1
        if token.type == "html_block":
            yield from ((line, found) for found in _HTML_LINK.findall(token.content))
        for child in token.children or []:
            target = child.attrs.get("href") or child.attrs.get("src")
            if target:
                yield line, str(target)
            if child.type == "html_inline":
                yield from ((line, found) for found in _HTML_LINK.findall(child.content))


@cache
def anchors(path: Path) -> frozenset[str]:
    """What may stand after `#` in a link to the file."""
    slug = _jupyter_slug if path.suffix == ".ipynb" else _github_slug
    found: set[str] = set()
    for _, text in texts(path):
        tokens = _PARSER.parse(text)
        for before, inline in pairwise(tokens):
            if before.type == "heading_open":
                name = slug(_plain(inline))
                number = sum(1 for other in found if re.fullmatch(re.escape(name) + r"(-\d+)?", other))
                found.add(f"{name}-{number}" if number and name in found else name)
        found.update(_HTML_ANCHOR.findall(text))
    return frozenset(found)


def _plain(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [] if child.type in ("text", "code_inline"))


def _github_slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _jupyter_slug(heading: str) -> str:
    return heading.strip().replace(" ", "-")


def problem(root: Path, path: Path, target: str) -> str | None:
    """Why the link `target` in the file `path` leads nowhere, or None."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return "names a file of one machine" if parts.scheme == "file" else None
    if parts.path.startswith("/"):
        return "is absolute: write it relative to this file"
    there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not there.is_relative_to(root):
        return "leads out of the repository"
    if not there.exists() or not _same_case(there, root):
        return "does not exist"
    fragment = unquote(parts.fragment)
    if fragment and there.suffix in (".md", ".ipynb") and fragment not in anchors(there):
        return f"has no heading or anchor {fragment!r}"
    return None


def _same_case(path: Path, root: Path) -> bool:
    """A link that is wrong in upper and lower case works on some machines only."""
    relative = path.relative_to(root).parts
    folders = [root.joinpath(*relative[:n]) for n in range(len(relative))]
    return all(name in {p.name for p in folder.iterdir()} for folder, name in zip(folders, relative, strict=True))


def broken_links(root: Path) -> list[str]:
    """One line for each link that leads nowhere."""
    root = root.resolve()
    anchors.cache_clear()
    found = []
    for path in documents(root):
        for name, text in texts(path):
            for line, target in links(text):
                reason = problem(root, path, target)
                if reason:
                    where = f"{path.relative_to(root)}:{name + ' line ' if name else ''}{line}"
                    found.append(f"{where}: {target} {reason}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to look at")
    found = broken_links(parser.parse_args(argv).root)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
