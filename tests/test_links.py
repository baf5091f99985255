"""A reader who follows a link in the README or in a notebook arrives somewhere."""

import json
from pathlib import Path

import pytest

from tools.check_links import broken_links

ROOT = Path(__file__).parents[1]


def test_every_link_of_the_course_leads_somewhere():
    assert broken_links(ROOT) == []


@pytest.fixture
def checkout(tmp_path):
    """A small checkout whose README and notebook can be linked to."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "Guide.md").write_text(
        "# The guide\n\n## What it costs, per hour\n\n## Twice\n\n## Twice\n\n"
        '<a id="by-hand"></a>\n\n[up](../README.md)\n'
    )
    cells = [{"cell_type": "markdown", "id": "why", "metadata": {}, "source": ["# Why this\n", "\n", "## Part *two*"]}]
    (tmp_path / "a b.ipynb").write_text(
        json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})
    )
    (tmp_path / "README.md").write_text("# Start\n")
    return tmp_path


def found(checkout, text):
    (checkout / "README.md").write_text("# Start\n\n" + text)
    return broken_links(checkout)


@pytest.mark.parametrize(
    "text",
    [
        "[a](docs/Guide.md) [b](docs/Guide.md#what-it-costs-per-hour) [c](#start) [d](docs) [e](docs/Guide.md#by-hand)",
        "[a](docs/Guide.md#twice) [b](docs/Guide.md#twice-1)",
        "[a](a%20b.ipynb#Why-this) [b](a%20b.ipynb#Part-two)",
        "[a](https://example.org/nowhere#at-all) <mailto:a@example.org>",
        "`[a](missing.md)`\n\n```\n[a](missing.md)\n```\n",
        "[a][1]\n\n[1]: docs/Guide.md\n",
    ],
)
def test_good_links_pass(checkout, text):
    assert found(checkout, text) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a](missing.md)", "README.md:3: missing.md does not exist"),
        ("![a](docs/picture.png)", "docs/picture.png does not exist"),
        ("[a](docs/guide.md)", "docs/guide.md does not exist"),
        ("[a](docs/Guide.md#nothing)", "has no heading or anchor 'nothing'"),
        ("[a](docs/Guide.md#twice-2)", "has no heading or anchor 'twice-2'"),
        ("[a](#Start)", "has no heading or anchor 'Start'"),
        ("[a](a%20b.ipynb#why-this)", "has no heading or anchor 'why-this'"),
        ("[a](../elsewhere.md)", "leads out of the repository"),
        ("[a](/docs/Guide.md)", "is absolute"),
        ("[a](file:" + "///docs/Guide.md)", "names a file of one machine"),
        ('<p><img src="docs/picture.png"></p>', "docs/picture.png does not exist"),
        ('text <img src="docs/picture.png"> text', "docs/picture.png does not exist"),
        ("[a][1]\n\n[1]: missing.md\n", "missing.md does not exist"),
        ("| a |\n|---|\n| [a](missing.md) |\n", "missing.md does not exist"),
    ],
)
def test_a_broken_link_is_named_with_its_line(checkout, text, message):
    (line,) = found(checkout, text)
    assert message in line


def test_a_broken_link_in_a_notebook_is_named_with_its_cell(checkout):
    path = checkout / "a b.ipynb"
    path.write_text(path.read_text().replace("## Part *two*", "[x](gone.md)"))
    assert broken_links(checkout) == ["a b.ipynb:cell 'why' line 3: gone.md does not exist"]
