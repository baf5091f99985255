"""A text in the two languages of the rehearsal."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LANGUAGES", "Text"]

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Text:
    """The same in English and in Chinese: `text.en`, `text["zh"]`; `str(text)` is the English one."""

    en: str
    zh: str

    def __getitem__(self, language: str) -> str:
        if language not in LANGUAGES:
            raise KeyError(f"language must be one of {', '.join(map(repr, LANGUAGES))}, got {language!r}")
        return str(getattr(self, language))

    def __str__(self) -> str:
        return self.en
