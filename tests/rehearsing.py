"""A small bank, and reviews, for the tests of the rehearsal."""

import copy
from datetime import UTC, datetime
from pathlib import Path

import yaml

from helpers.rehearsal.state import Review

AREAS = ("data", "efficiency", "overfitting", "inference", "interpretability", "start-up")
KINDS = ("explain", "compare", "design", "estimate", "debug", "ethics")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)

QUESTION = {
    "schema": 1,
    "id": "some-question",
    "rev": 1,
    "area": "data",
    "tags": ["memory"],
    "kind": "explain",
    "levels": ["junior", "senior"],
    "minutes": 4,
    "prompt": {"en": "How much memory does Adam need?", "zh": "Adam 要多少显存？"},
    "model_answer": {"en": "About 16 bytes a parameter, 112 GB for 7B.", "zh": "每个参数大约 16 字节，7B 是 112 GB。"},
    "rubric": [
        {"id": "bytes", "text": {"en": "Says 16 bytes", "zh": "说出 16 字节"}, "weight": 4, "must": True,
         "level": "junior"},
        {"id": "parts", "text": {"en": "Names the parts", "zh": "拆开来讲"}, "weight": 3, "level": "junior"},
        {"id": "zero", "text": {"en": "Knows ZeRO", "zh": "知道 ZeRO"}, "weight": 2, "level": "senior"},
        {"id": "activations", "text": {"en": "Not activations", "zh": "不含激活值"}, "weight": 1, "level": "senior"},
    ],
    "mistakes": [
        {"id": "three-times", "text": {"en": "Three times inference", "zh": "是推理的三倍"}, "contradicts": "bytes",
         "why": {"en": "It is eight times.", "zh": "其实是八倍。"}},
        {"id": "no-states", "text": {"en": "Adam has no state", "zh": "Adam 没有状态"}, "contradicts": "parts",
         "why": {"en": "It has two.", "zh": "它有两个。"}},
    ],
    "hints": [{"en": "Count the copies.", "zh": "数一数有几份。"}, {"en": "Two are for Adam.", "zh": "Adam 占两份。"}],
    "follow_ups": [{"id": "b", "when": "strong"}, {"id": "c", "when": "missing", "point": "parts"},
                   {"id": "d", "when": "missing", "point": "bytes"}],
    "references": [{"title": "ZeRO", "address": "https://arxiv.org/abs/1910.02054", "date": "2019-10-04"}],
    "notebook": {"file": "02_training_efficiency", "section": "A heading", "exercise": "2.6"},
    "check": [{"says": "112 GB", "value": 112e9, "unit": "B", "rel": 0.01, "arithmetic": "16 * 7000000000"}],
}  # fmt: skip


def question(**changes):
    """The fields of a question that is right, with these changed."""
    return copy.deepcopy(QUESTION) | changes


def write(folder: Path, fields) -> Path:
    """Write a question into its area's folder."""
    file = folder / fields["area"] / f"{fields['id']}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(fields, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return file


def small_bank(folder: Path) -> Path:
    """Thirty-six questions, six kinds in six areas, each followed by the next two."""
    names = [f"{area}-{kind}" for area in AREAS for kind in KINDS]
    for n, name in enumerate(names):
        area, kind = AREAS[n // 6], KINDS[n % 6]
        follow = [{"id": names[(n + 1) % 36], "when": "strong"},
                  {"id": names[(n + 2) % 36], "when": "missing", "point": "bytes"}]  # fmt: skip
        text = {"en": f"What about {name}?", "zh": f"{name} 是怎么回事？"}
        write(folder, question(id=name, area=area, kind=kind, prompt=text, follow_ups=follow, minutes=3 + n % 3))
    return folder


def review(name, time, rating=3, **more):
    """A review of a question at a time."""
    return Review(f"{name}-{time}", time, name, rating, **more)
