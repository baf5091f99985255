"""Read a quantity as people type it: `16 GiB`, `1.2e21`, `about 3 weeks`, `$1.2M`, `1,200`, `约 70 亿`.

    parse_quantity("about 3 weeks").to("days")    # 21.0

What it does not read: numbers in words, ranges, currencies other than the dollar, sums of unlike things. Each of them
gets an error that says what to type instead.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType

from helpers.rehearsal.text import Text

__all__ = ["UNITS", "Quantity", "QuantityError", "Unit", "parse_quantity"]

LONGEST = 80


class QuantityError(ValueError):
    """What was typed is no quantity, or not one of the asked kind. `.text` says why in both languages."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.text = Text(en, zh)


@dataclass(frozen=True)
class Unit:
    """How a unit is written, what it measures, and how many base units it is (bytes, seconds, dollars, ...)."""

    name: str
    dimension: str
    factor: float


# ----------------------------------------------------------------------------------------------------- the units

DECIMAL = {"": 1e0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "Y": 1e24}
BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
MONTH = 365.25 / 12 * 86400

TIMES: Mapping[str, tuple[float, str]] = {
    "ns": (1e-9, "nanosecond nanoseconds 纳秒"),
    "µs": (1e-6, "us μs microsecond microseconds 微秒"),
    "ms": (1e-3, "msec millisecond milliseconds 毫秒"),
    "s": (1.0, "sec secs second seconds 秒 秒钟"),
    "min": (60.0, "mins minute minutes 分 分钟"),
    "h": (3600.0, "hr hrs hour hours 小时 个小时 钟头"),
    "days": (86400.0, "d day 天 日"),
    "weeks": (7 * 86400.0, "w wk wks week 周 星期 个星期 礼拜"),
    "months": (MONTH, "mo mos mth month 月 个月"),
    "years": (12 * MONTH, "y yr yrs year 年"),
}

COUNTS: Mapping[str, str] = {
    "tokens": "token tok toks 个token 个tokens 词元 个词元",
    "parameters": "parameter params param weights 参数 个参数",
    "sequences": "sequence seqs seq requests request users 条 条序列 个序列 序列 个请求 请求 路",
    "calls": "call evaluations evaluation passes pass 次 次前向 次调用 次推理",
}


def _all_units() -> dict[str, Unit]:
    units: dict[str, Unit] = {}

    def add(name: str, dimension: str, factor: float, also: str = "") -> None:
        unit = Unit(name, dimension, factor)
        for spelling in (name, *also.split()):
            units[spelling] = unit

    for prefix, size in {**DECIMAL, **BINARY}.items():
        shown = "k" if prefix == "K" else prefix
        add(f"{shown}B", "bytes", size, f"{prefix}B {prefix}byte {prefix}bytes {prefix}Byte {prefix}Bytes {prefix}字节")
        add(f"{shown}bit", "bytes", size / 8, f"{prefix}bit {prefix}bits" + (f" {prefix}b" if prefix else " 比特"))
        add(f"{shown}B/s", "bytes per second", size, f"{prefix}B/s {prefix}Bps {prefix}B/秒")
        add(f"{shown}bit/s", "bytes per second", size / 8, f"{prefix}bit/s {prefix}bps {prefix}b/s")
    for prefix, size in DECIMAL.items():
        shown = "k" if prefix == "K" else prefix
        add(f"{shown}FLOP", "FLOP", size, f"{prefix}FLOPs {prefix}FLOPS {prefix}flop {prefix}flops")
        add(
            f"{shown}FLOP/s", "FLOP per second", size, f"{prefix}FLOPs/s {prefix}FLOPS/s {prefix}flops/s {prefix}flop/s"
        )
    for name, (seconds, also) in TIMES.items():
        add(name, "time", seconds, also)
        gpu = [f"GPU-{one}" for one in (name, *also.split())] + [f"GPU{one}" for one in (name, *also.split())]
        add(f"GPU-{'hours' if name == 'h' else name}", "GPU time", seconds, " ".join(gpu))
    units |= dict.fromkeys(("卡时", "GPU卡时", "卡小时"), units["GPU-hours"])
    units |= dict.fromkeys(("卡天", "卡日"), units["GPU-days"])
    add("$", "dollars", 1.0, "dollar dollars USD usd US$ bucks 美元 美金 刀")
    add("%", "share", 0.01, "percent pct 个百分点")
    add("×", "times", 1.0, "x X times 倍 fold -fold")
    for name, also in COUNTS.items():
        add(name, name, 1.0, also)
    add(
        "tokens/s",
        "tokens per second",
        1.0,
        "token/s tok/s toks/s t/s tps token/秒 tokens/秒 个token/秒 词元/秒 个token/s",
    )
    return units


UNITS: Mapping[str, Unit] = MappingProxyType(_all_units())
_LOWER: Mapping[str, Unit] = MappingProxyType(
    # 40 gb is meant as bytes; only Gb, written so, is bits
    {spelling.lower(): unit for spelling, unit in reversed(list(UNITS.items())) if not spelling.endswith("b")}
)

SCALES: Mapping[str, float] = MappingProxyType(
    {
        "hundred": 1e2,
        "thousand": 1e3,
        "million": 1e6,
        "billion": 1e9,
        "trillion": 1e12,
        "mn": 1e6,
        "mio": 1e6,
        "bn": 1e9,
        "tn": 1e12,
        "万亿": 1e12,
        "千亿": 1e11,
        "百亿": 1e10,
        "十亿": 1e9,
        "千万": 1e7,
        "百万": 1e6,
        "亿": 1e8,
        "万": 1e4,
        "千": 1e3,
        "B": 1e9,
        "b": 1e9,
        **{prefix: size for prefix, size in DECIMAL.items() if prefix},
    }
)

NAMES_ZH: Mapping[str, str] = {
    "bytes": "字节（存储）",
    "bytes per second": "带宽",
    "FLOP": "计算量",
    "FLOP per second": "算力",
    "time": "时间",
    "GPU time": "GPU 时（卡时）",
    "dollars": "美元",
    "share": "百分比",
    "times": "倍数",
    "tokens": "token 数",
    "parameters": "参数量",
    "sequences": "序列数",
    "calls": "次数",
    "tokens per second": "每秒 token 数",
    "number": "纯数字",
}


# ------------------------------------------------------------------------------------------------- the quantity


@dataclass(frozen=True)
class Quantity:
    """A number with its unit as it was typed. `unit` is None for a number alone."""

    number: float
    unit: Unit | None
    ambiguous_b: bool = False  # "7B" is seven billion of something, or seven bytes

    @property
    def value(self) -> float:
        """In base units: bytes, seconds, dollars, ...; the number itself when it has no unit."""
        return self.number * (self.unit.factor if self.unit else 1.0)

    def to(self, unit: str) -> float:
        """The number in another unit; one without a unit is taken to be in that unit already.

        Raises QuantityError when the two measure different things, ValueError for an unknown `unit`.
        """
        if not unit:
            return self.plain()
        if unit not in UNITS:
            raise ValueError(f"unit must be one that UNITS lists, got {unit!r}")
        wanted = UNITS[unit]
        if self.unit is None:
            return self.number
        if self.ambiguous_b and wanted.dimension != "bytes":
            return self.number * 1e9
        if self.unit.dimension == wanted.dimension:
            return self.value / wanted.factor
        if {self.unit.dimension, wanted.dimension} == {"share", "times"}:
            return self.value / wanted.factor
        raise _other_kind(self.unit, wanted)

    def plain(self) -> float:
        """The number where none of the units is asked for; a percentage or a multiple counts as a number."""
        if self.ambiguous_b:
            return self.number * 1e9
        if self.unit is None or self.unit.dimension in ("share", "times"):
            return self.value
        raise _other_kind(self.unit, Unit("", "number", 1.0))


def _other_kind(found: Unit, wanted: Unit) -> QuantityError:
    en = f"the answer is asked in {wanted.name or 'plain numbers'} ({wanted.dimension}), got {found.name}"
    zh = f"要的是{NAMES_ZH[wanted.dimension]}"
    zh += f"（{wanted.name}）" if wanted.name else ""
    zh += f"，你给的是{NAMES_ZH[found.dimension]}（{found.name}）"
    if {found.dimension, wanted.dimension} == {"time", "GPU time"}:
        en += ": hours on the clock are not GPU-hours, which are summed over all GPUs"
        zh += "：墙上时间不是卡时，卡时是所有 GPU 加起来的"
    if wanted.dimension + " per second" == found.dimension:
        en += ", a rate"
        zh += "，那是速率"
    return QuantityError(en, zh)


# --------------------------------------------------------------------------------------------------- the reader

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
BEFORE = re.compile(
    r"^(?:about|around|approximately|approx\.?|roughly|circa|ca\.|nearly|almost|maybe|perhaps|say|some|it is|it's|"
    r"=|~|≈|≃|大约是?|大概是?|差不多是?|约|估计|应该是|也就|差不多)\s*",
    re.IGNORECASE,
)
AFTER = re.compile(
    r"\s*(?:or so|approximately|in total|altogether|total|each|(?:/|per |a |every )(?:gpu|device|card|rank)|"
    r"左右|上下|每卡|每张卡|每张GPU|每个GPU|一张卡|[.!。！])$",
    re.IGNORECASE,
)
NUMBER = re.compile(r"(?:\d{1,3}(?:[,_ ']\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?")
POWER = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\^|\*\*)\s*\(?([+-]?\d+)\)?")
TIMES_TEN = re.compile(r"(\d)\s*(?:[×xX*·⋅]\s*10\s*(?:\^|\*\*)\s*\(?([+-]?\d+)\)?)")
RANGE = re.compile(r"(?<![eE])\d\s*[a-zA-Z%]*\s*(?:-|–|—|\bto\b|\bor\b|至|到|～|~)\s*\d")
WORDS = re.compile(
    r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|half|dozen|"
    r"a few|few|several|many|a lot|an? (?:day|week|month|hour|year|minute|second|million|billion))\b|"
    r"[一二两三四五六七八九十半几]",
    re.IGNORECASE,
)
EXAMPLES = "16 GiB, 1.2e21, about 3 weeks, 40 GB, 1,200, 3k, $1.2M, 40 %"


def parse_quantity(text: str) -> Quantity:
    """A quantity as people type it, in English or Chinese.

    Raises TypeError for anything but a text, and QuantityError (a ValueError with a message in both languages) for
    what is not one finite number above zero with a known unit or none.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string such as '16 GiB', got {type(text).__name__}")
    tidy = _tidy(text)
    _refuse(tidy, text)
    number, unit, rest = _first(tidy, text)
    while rest:  # 2 h 30 min
        more, next_unit, rest = _first(rest, text)
        if not (unit and next_unit and unit.dimension == next_unit.dimension == "time"):
            raise QuantityError(f"one number is wanted, got more in {text!r}", f"只要一个数，{text!r} 里有不止一个数")
        if next_unit.factor >= unit.factor:
            raise QuantityError(f"larger units come first, got {text!r}", f"大单位写在前面，你写的是 {text!r}")
        number += more * next_unit.factor / unit.factor
    if not isfinite(number):
        raise QuantityError(f"the number is too large to be computed with: {text!r}", f"数太大了，算不了：{text!r}")
    if number <= 0:
        raise QuantityError(f"an answer above 0 is wanted, got {text!r}", f"答案应当大于 0，你写的是 {text!r}")
    return Quantity(number, unit, ambiguous_b=bool(re.search(r"\d\s*[Bb]$", tidy)))


def _tidy(text: str) -> str:
    """Full-width characters and superscripts as plain ones, powers computed, and no words of caution."""
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+", lambda found: "^" + found.group().translate(SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text).replace("−", "-").strip()
    while (shorter := AFTER.sub("", BEFORE.sub("", text)).strip()) != text:
        text = shorter
    text = TIMES_TEN.sub(r"\1e\2", text)
    text = POWER.sub(lambda found: _power(*found.groups()), text)
    text = re.sub(r"\b[A-Z]+\d+[ -]?(?=hours?\b|h\b|days?\b)", "GPU-", text)  # A100-hours
    if text.startswith("每秒"):
        text = text.removeprefix("每秒").strip() + "/s"
    return text


def _power(base: str, exponent: str) -> str:
    try:
        return f"{float(base) ** int(exponent):.17g}"
    except (OverflowError, ZeroDivisionError):
        return "1e999"


def _refuse(tidy: str, text: str) -> None:
    """The kinds of input that have an error of their own."""
    if not tidy:
        raise QuantityError(
            f"type a number, with a unit if you like ({EXAMPLES})", f"请输入一个数，可以带单位（{EXAMPLES}）"
        )
    if len(text) > LONGEST:
        raise QuantityError(
            f"a quantity has at most {LONGEST} characters, got {len(text)}",
            f"最多 {LONGEST} 个字符，你输入了 {len(text)} 个",
        )
    if re.fullmatch(r"[+-]?(?:inf|infinity|nan|∞|无穷大?)", tidy, re.IGNORECASE):
        raise QuantityError(f"a finite number is wanted, got {text!r}", f"要一个有限的数，你写的是 {text!r}")
    if not re.search(r"\d", tidy):
        if WORDS.search(tidy):
            raise QuantityError(
                f"write the number in digits (3 weeks), got {text!r}", f"请用阿拉伯数字（3 周），你写的是 {text!r}"
            )
        raise QuantityError(
            f"there is no number in {text!r}; accepted are {EXAMPLES}", f"{text!r} 里没有数字；可以写 {EXAMPLES}"
        )
    if re.match(r"(?:[$€£¥]\s*)?-\s*[\d.]", tidy):
        raise QuantityError(f"an answer above 0 is wanted, got {text!r}", f"答案应当大于 0，你写的是 {text!r}")
    if RANGE.search(tidy):
        raise QuantityError(f"commit to one number, not a range: {text!r}", f"请给一个数，不要给区间：{text!r}")
    if re.search(r"\d,\d{1,2}(?!\d)|\d,\d{4,}", tidy):
        raise QuantityError(
            f"a comma separates thousands (1,200) and a point decimals (1.5), got {text!r}",
            f"逗号只用作千位分隔（1,200），小数用点（1.5），你写的是 {text!r}",
        )
    if re.search(r"\d\.\d+\.|\d\.(?!\d)(?=\S)", tidy):
        raise QuantityError(f"one decimal point is enough, got {text!r}", f"只能有一个小数点，你写的是 {text!r}")
    if re.search(r"[€£¥]|\b(?:EUR|GBP|CNY|RMB|JPY)\b|euros?\b|人民币|\d\s*[万亿千百]*\s*元", tidy, re.IGNORECASE):
        raise QuantityError(
            f"give it in dollars: there are no exchange rates here, got {text!r}", f"请用美元，这里没有汇率：{text!r}"
        )


def _first(tidy: str, text: str) -> tuple[float, Unit | None, str]:
    """The first number of the text, its unit, and what is left."""
    dollar = re.match(r"(?:US)?\$\s*|USD\s*", tidy)
    start = dollar.end() if dollar else 0
    found = NUMBER.match(tidy, start)
    if not found:
        raise QuantityError(
            f"a quantity starts with its number ({EXAMPLES}), got {text!r}",
            f"先写数字（{EXAMPLES}），你写的是 {text!r}",
        )
    number, end = float(re.sub("[,_ ']", "", found.group())), found.end()
    over = re.match(r"\s*/\s*(\d+(?:\.\d+)?)", tidy[end:])
    if over:  # 3/4
        if float(over.group(1)) == 0:
            raise QuantityError(f"this divides by zero: {text!r}", f"除数为零：{text!r}")
        number, end = number / float(over.group(1)), end + over.end()
    unit_text = re.match(r"[^\d]*", tidy[end:])
    assert unit_text is not None
    scale, unit = _unit(unit_text.group().strip(" ,，和"), text, money=bool(dollar))
    return number * scale, unit, tidy[end + unit_text.end() :]


def _unit(spelling: str, text: str, *, money: bool) -> tuple[float, Unit | None]:
    """The factor and the unit that stand behind a number."""
    spelling = re.sub(r"\s*/\s*|\s+per\s+", "/", spelling.strip(" -"))
    spelling = re.sub(r"/(?:sec(?:ond)?|秒)$", "/s", spelling)
    spelling = re.sub(r"(?i)^gpu[ -]*", "GPU-", re.sub(r"^of\s+", "", spelling))
    if money:
        return _money(spelling, text)
    if not spelling:
        return 1.0, None
    if spelling == "m":
        raise QuantityError(
            f"m is minutes, months or million: write min, months or M, got {text!r}",
            f"m 可能是分钟、月或百万：请写 min、months 或 M，你写的是 {text!r}",
        )
    unit = _named(spelling)
    if unit:
        return 1.0, unit
    for name in sorted(SCALES, key=len, reverse=True):
        if not spelling.startswith(name) and not (len(name) > 2 and spelling.lower().startswith(name)):
            continue
        rest = re.sub(r"^(?:of|个)\s*", "", spelling[len(name) :].strip(" -"))
        unit = _named(rest) if rest else None
        if unit or not rest:
            return SCALES[name], unit
    raise QuantityError(
        f"unknown unit {spelling!r} in {text!r}; known are GB, GiB, FLOP, h, days, GPU-hours, $, tokens/s, %, ×",
        f"{text!r} 里的单位 {spelling!r} 不认识；可以用 GB、GiB、FLOP、小时、天、GPU-hours、美元、tokens/s、%、倍等",
    )


def _named(spelling: str) -> Unit | None:
    return UNITS.get(spelling) or UNITS.get(spelling.replace(" ", "")) or _LOWER.get(spelling.lower().replace(" ", ""))


def _money(spelling: str, text: str) -> tuple[float, Unit]:
    """Behind a dollar sign, m and b are million and billion."""
    scales = {**SCALES, "m": 1e6, "": 1.0}
    name = re.sub(r"(?i)\s*(?:dollars?|usd|美元)$", "", spelling)
    found = scales.get(name, scales.get(name.lower()))
    if found is None:
        raise QuantityError(
            f"behind $ comes a number with k, M, B or nothing, got {text!r}",
            f"$ 后面写数字，可以带 k、M、B，你写的是 {text!r}",
        )
    return found, UNITS["$"]
