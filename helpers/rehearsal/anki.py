"""The bank as an Anki package: one note a question, a card in each language, the same bytes every time.

A note keeps its identity when its text changes, so importing again makes no duplicate. Anki takes a changed text over
by itself when the question's `rev` was raised; for a smaller change choose "update notes: always" in its import dialog.
"""

from __future__ import annotations

import sqlite3
import tempfile
import zipfile
from collections.abc import Iterable
from html import escape
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.files import replacing
from helpers.rehearsal.questions import Bank
from helpers.rehearsal.schema import LANGUAGES, Question
from helpers.rehearsal.words import word

if TYPE_CHECKING:
    import genanki

MODEL, DECK = 1_732_500_001, 1_732_500_002  # permanent: Anki knows the note type and the deck by these
NAMESPACE = "large-model-interview-lab"
MADE = 1_732_500_000  # seconds since 1970 written into every package: the clock must not change the bytes
FIELDS = ("id", "prompt_en", "answer_en", "prompt_zh", "answer_zh", "references")
STYLE = """
.card { font: 18px/1.5 system-ui, "Noto Sans SC", sans-serif; text-align: left; max-width: 44em; margin: 0 auto }
.prompt, .must { font-weight: bold } .mistake { color: #b03a00 } .small { font-size: 14px }
.nightMode .mistake { color: #ff9966 }
"""


def export(bank: Bank, target: Path) -> int:
    """Write the package to `target` (`.apkg`); how many notes it holds. A second export gives the same bytes.

    Raises ValueError when `target` has another ending, BankError for a faulty question, OSError when it cannot be
    written; what lay there before stays in each case.
    """
    if target.suffix != ".apkg":
        raise ValueError(f"the file must end in .apkg, got {target.name!r}")
    import genanki

    deck = genanki.Deck(DECK, "Large-Model Interview Lab")
    for name in sorted(bank):
        deck.add_note(_note(bank.question(name)))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        _pack(genanki.Package(deck), part)
    return len(deck.notes)


def _pack(package: genanki.Package, target: Path) -> None:
    """As genanki does, but without the clock in the archive and without a compression that differs by version."""
    with tempfile.TemporaryDirectory() as folder:
        collection = Path(folder) / "collection.anki2"
        connection = sqlite3.connect(collection)
        try:
            package.write_to_db(connection.cursor(), MADE, count(MADE * 1000))
            connection.commit()
        finally:
            connection.close()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo("collection.anki2"), collection.read_bytes())
            archive.writestr(zipfile.ZipInfo("media"), "{}")


def _model() -> genanki.Model:
    import genanki

    sides = [(language, "English" if language == "en" else "中文") for language in LANGUAGES]
    templates = [
        {
            "name": name,
            "qfmt": f'<div class="prompt">{{{{prompt_{language}}}}}</div>',
            "afmt": f'{{{{FrontSide}}}}<hr id="answer">{{{{answer_{language}}}}}'
            '<div class="small">{{references}}</div>',
        }
        for language, name in sides
    ]
    return genanki.Model(
        MODEL, "Interview question (en, zh)", fields=[{"name": name} for name in FIELDS], templates=templates, css=STYLE
    )


def _note(question: Question) -> genanki.Note:
    import genanki

    class Note(genanki.Note):
        """Its time of change follows the revision, so that Anki sees a raised one as newer."""

        def write_to_db(self, cursor: Any, timestamp: float, deck_id: int, id_gen: Any) -> None:
            super().write_to_db(cursor, timestamp + question.rev, deck_id, id_gen)

    return Note(
        model=_model(),
        fields=[
            question.id,
            *(
                side
                for language in LANGUAGES
                for side in (_html(question.prompt.in_(language)), _answer(question, language))
            ),
            _references(question),
        ],
        tags=tags(question),
        guid=genanki.guid_for(NAMESPACE, question.id),
        sort_field=question.id,
    )


def tags(question: Question) -> list[str]:
    """Anki's tags: area, kind and levels as a tree, and the question's own."""
    tree = [f"area::{question.area}", f"kind::{question.kind}", *(f"level::{level}" for level in question.levels)]
    return sorted({*tree, *question.tags})


def _answer(question: Question, language: str) -> str:
    points = [
        f'<li class="{"must" if point.must else "point"}">{_html(point.text.in_(language))}</li>'
        for point in question.rubric
    ]
    mistakes = [
        f'<li><span class="mistake">{_html(m.text.in_(language))}</span><br>{_html(m.why.in_(language))}</li>'
        for m in question.mistakes
    ]
    return (
        f"<p>{_html(question.model_answer.in_(language))}</p><ul>{''.join(points)}</ul>"
        f"<p>{escape(word(language, 'mistakes'))}</p><ul>{''.join(mistakes)}</ul>"
    )


def _references(question: Question) -> str:
    return "<br>".join(_lines(f"{one.title} ({one.date}) {one.address}" for one in question.references))


def _lines(texts: Iterable[str]) -> list[str]:
    return [_html(text) for text in texts]


def _html(text: str) -> str:
    return escape(text.strip(), quote=False).replace("\n", "<br>")
