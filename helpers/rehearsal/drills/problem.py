"""A drill draws a problem; a problem judges an answer and shows how it is worked out."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers.rehearsal.checks import arithmetic
from helpers.rehearsal.quantities import UNITS, QuantityError, parse_quantity
from helpers.rehearsal.text import LANGUAGES, Text

__all__ = ["Drill", "Judgement", "Problem", "Step", "number", "short", "step"]


def number(value: float) -> str:
    """A number as it is written in arithmetic: 16, 0.45, 7e9, 1.38e10; six digits, read again by `arithmetic`."""
    if float(value).is_integer() and abs(value) < 1e6:
        return str(int(value))
    text = f"{value:.6g}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


UNITS_ZH: Mapping[str, str] = {
    "s": "秒",
    "h": "小时",
    "days": "天",
    "months": "个月",
    "GPU-hours": "卡时",
    "tokens": "个 token",
    "tokens/s": "token/s",
    "parameters": "个参数",
    "sequences": "条序列",
    "calls": "次",
    "×": "倍",
}


def short(value: float, unit: str = "", language: str = "en") -> str:
    """A result with three digits and its unit: 112 GB, 1.38e22 FLOP, $1,690, 23.5 %, and in Chinese 4.8 天."""
    digits = f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"
    if "e" in digits or abs(value) >= 1e6:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        digits = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if unit == "$":
        return f"${digits}"
    return f"{digits} {UNITS_ZH.get(unit, unit) if language == 'zh' else unit}".strip()


@dataclass(frozen=True)
class Step:
    """One line of a derivation: what is computed, in words, and the arithmetic itself."""

    why: Text
    sum: str
    unit: str = ""

    @property
    def value(self) -> float:
        """What the arithmetic gives."""
        return arithmetic(self.sum)

    @property
    def line(self) -> Text:
        """The line as it is shown: `16 bytes a parameter: 16 × 7e9 / 1e9 = 112 GB`."""
        shown = self.sum.replace("**", "^").replace("*", "×").replace(" / ", " ÷ ") + " = "
        if not re.search(r"[^\d.e]", self.sum):  # a number alone is its own result
            shown = ""
        en, zh = (short(self.value, self.unit, language) for language in ("en", "zh"))
        return Text(f"{self.why.en}: {shown}{en}", f"{self.why.zh}：{shown}{zh}")


def step(en: str, zh: str, sum: str, unit: str = "") -> Step:
    """A `Step` whose words are given in both languages."""
    return Step(Text(en, zh), sum, unit)


@dataclass(frozen=True)
class Judgement:
    """Whether an answer is near enough, by which factor it is off (above 1: too high), and what to say."""

    holds: bool
    factor: float
    message: Text


@dataclass(frozen=True)
class Problem:
    """A question with one number as its answer.

    Attributes:
        drill: name of the drill that drew it.
        prompt: the question, in both languages; it names the unit.
        answer: the number, in `unit`.
        unit: one of `quantities.UNITS`, or empty for a plain number.
        tolerance: factor by which an answer may be off: 1.05 for what is exact, 2 for an order of magnitude.
        steps: the derivation, whose last step gives the answer.
        parameters: what was drawn, for a log.
    """

    drill: str
    prompt: Text
    answer: float
    unit: str
    tolerance: float
    steps: tuple[Step, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def derivation(self) -> tuple[Text, ...]:
        """The derivation, line by line."""
        return tuple(one.line for one in self.steps)

    def read(self, text: str) -> float:
        """What was typed, in the problem's unit. A number alone is in that unit, or in its base unit where that fits.

        Raises TypeError or QuantityError, as `parse_quantity`.
        """
        quantity = parse_quantity(text)
        typed = quantity.to(self.unit)
        base = quantity.value / (UNITS[self.unit].factor if self.unit else 1.0)
        # 1.12e11 for 112 GB, or 0.4 for 40 %: meant in bytes, and as a share
        if quantity.unit is None and not self._near(typed) and self._near(base):
            return base
        return typed

    def judge(self, text: str) -> Judgement:
        """How near an answer is. Raises TypeError or QuantityError for what is no quantity of the asked kind."""
        typed = self.read(text)
        factor = typed / self.answer
        if not 1e-300 < factor < 1e300:
            raise QuantityError(f"that is no sensible number here: {text!r}", f"这个数太离谱了：{text!r}")
        holds = self._near(typed)
        answer, given = (
            Text(*(short(value, self.unit, language) for language in LANGUAGES)) for value in (self.answer, typed)
        )
        how = _off(factor)
        within = _within(self.tolerance)
        if holds:
            en = f"{given.en} holds: it is {answer.en}, and you were {how.en} (accepted: {within.en})."
            zh = f"{given.zh}，对：答案是 {answer.zh}，你{how.zh}（允许{within.zh}）。"
        else:
            en = f"{given.en} is {how.en}: it is {answer.en} (accepted: {within.en})."
            zh = f"{given.zh}，{how.zh}：答案是 {answer.zh}（允许{within.zh}）。"
        return Judgement(holds, factor, Text(en, zh))

    def _near(self, typed: float) -> bool:
        return max(typed / self.answer, self.answer / typed if typed else float("inf")) <= self.tolerance * (1 + 1e-9)


def _within(tolerance: float) -> Text:
    if tolerance < 1.5:
        return Text(f"within {(tolerance - 1) * 100:.3g} %", f"误差 {(tolerance - 1) * 100:.3g} % 以内")
    return Text(f"within a factor of {tolerance:g}", f"{tolerance:g} 倍以内")


def _off(factor: float) -> Text:
    far = max(factor, 1 / factor)
    if far < 1.005:
        return Text("right on it", "正好")
    high = factor > 1
    if far < 1.5:
        by = f"{abs(factor - 1) * 100:.0f} %"
        return Text(f"{by} too {'high' if high else 'low'}", f"{'高' if high else '低'}了 {by}")
    times = short(far)
    return Text(
        f"a factor of {times} too {'high' if high else 'low'}",
        f"高了，是答案的 {times} 倍" if high else f"低了，差 {times} 倍",
    )


@dataclass(frozen=True)
class Drill:
    """A kind of problem with parameters that are drawn anew each time.

    Attributes:
        name: as it is typed: `rehearse drill kv-cache`.
        area: data, efficiency, overfitting, inference, interpretability or start-up.
        title: what it asks for.
        make: draws a problem from a random generator.
    """

    name: str
    area: str
    title: Text
    make: Callable[[random.Random], Problem]

    def draw(self, rng: random.Random) -> Problem:
        """A problem; the same generator state gives the same one. Raises TypeError for another kind of generator."""
        if not isinstance(rng, random.Random):
            raise TypeError(f"rng must be a random.Random, got {type(rng).__name__}")
        return self.make(rng)
