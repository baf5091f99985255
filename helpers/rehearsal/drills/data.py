"""Drills about data, judging and the company's money."""

from __future__ import annotations

import random

from helpers import estimates
from helpers.rehearsal.drills.problem import Drill, Problem, number, step
from helpers.rehearsal.text import Text

__all__ = ["DRILLS"]


def near_duplicates(rng: random.Random) -> Problem:
    similarity, (bands, rows) = rng.choice((50, 60, 70, 80, 90)), rng.choice(((16, 8), (20, 5), (32, 4), (9, 13)))
    j = number(similarity / 100)
    return Problem(
        "minhash-collision",
        Text(
            f"MinHash-LSH with {bands} bands of {rows} rows. With which probability do two documents of "
            "Jaccard similarity "
            f"{j} become a candidate pair? (%)",
            f"MinHash-LSH，{bands} 个 band，每个 {rows} 行。Jaccard 相似度 {j} 的两篇文档成为候选对的概率是多少？（%）",
        ),
        100 * estimates.minhash_collision(similarity / 100, bands, rows),
        "%",
        1.15,
        (
            step("One band is equal in all its rows", "一个 band 所有行都相同的概率", f"{j} ** {rows}"),
            step("No band is equal", "没有一个 band 相同的概率", f"(1 - {j} ** {rows}) ** {bands}"),
            step("At least one is", "至少一个 band 相同的概率", f"(1 - (1 - {j} ** {rows}) ** {bands}) * 100", "%"),
        ),
        {"similarity": similarity, "bands": bands, "rows": rows},
    )


def class_weight(rng: random.Random) -> Problem:
    rare, classes = rng.choice((10, 20, 50, 100, 400)), rng.choice((2, 3, 4))
    others = rng.choice((1000, 2000, 5000))
    counts = [others] * (classes - 1) + [rare]
    total = f"({others} * {classes - 1} + {rare})"
    return Problem(
        "class-weights",
        Text(
            f"{classes} classes: a rare one has {rare} examples, every other one {others}. What is the balanced class "
            "weight of the rare one (average 1 over the examples)?",
            f"{classes} 个类，其中一个少数类只有 {rare} 条样本，其余每类 {others} 条。"
            "少数类的 balanced 类别权重是多少（按样本平均为 1）？",
        ),
        estimates.balanced_class_weights(counts)[classes - 1],
        "",
        1.1,
        (
            step("Examples", "样本总数", total),
            step("Over classes × examples of the class", "除以类别数乘该类样本数", f"{total} / ({classes} * {rare})"),
        ),
        {"classes": classes, "rare": rare, "others": others},
    )


def error_bar(rng: random.Random) -> Problem:
    accuracy, examples = rng.choice((60, 70, 80, 90, 95)), rng.choice((100, 200, 500, 1000, 10000))
    p = number(accuracy / 100)
    return Problem(
        "error-bar",
        Text(
            f"A model has {accuracy} % accuracy on {examples} independent test examples. How large is the "
            "standard error, in "
            "percentage points? (%)",
            f"模型在 {examples} 条独立测试样本上准确率 {accuracy} %。标准误是多少个百分点？（%）",
        ),
        100 * estimates.accuracy_standard_error(accuracy / 100, examples),
        "%",
        1.2,
        (
            step("Variance of one right or wrong answer, p(1-p)", "单个对错的方差 p(1-p)", f"{p} * (1 - {p})"),
            step("Root of it over n", "除以 n 再开方", f"({p} * (1 - {p}) / {examples}) ** 0.5 * 100", "%"),
        ),
        {"accuracy": accuracy, "examples": examples},
    )


def epochs(rng: random.Random) -> Problem:
    model, parameters = rng.choice((("1.3B", 1.3e9), ("3B", 3e9), ("7B", 7e9), ("13B", 13e9)))
    name, unique = rng.choice((("5B", 5e9), ("10B", 10e9), ("20B", 20e9)))
    return Problem(
        "epochs-over-data",
        Text(
            f"You have {name} unique tokens and want to train a {model} model compute-optimally, after "
            "Chinchilla. How many "
            "epochs over the data is that?",
            f"去重之后只有 {name} token，想按 Chinchilla 计算最优地训练 {model} 的模型，相当于把数据过几个 epoch？",
        ),
        estimates.compute_optimal_tokens(parameters) / unique,
        "",
        1.3,
        (
            step(
                "Tokens wanted, 20 per parameter",
                "需要的 token 数，每参数 20 个",
                f"20 * {number(parameters)}",
                "tokens",
            ),
            step("Over the unique ones", "除以不重复的 token 数", f"20 * {number(parameters)} / {number(unique)}"),
        ),
        {"model": model, "unique": unique},
    )


def runway(rng: random.Random) -> Problem:
    cash, costs = rng.choice((4, 10, 25, 50, 80)), rng.choice((3, 5, 8, 13))
    revenue = rng.choice((0.5, 1, 2))
    return Problem(
        "runway",
        Text(
            f"A start-up has ${cash} million in cash, spends ${costs} million a month and takes in "
            f"${number(revenue)} million "
            "a month. How long is its runway? (months)",
            f"一家公司账上有 {cash * 100} 万美元现金，每月花 {costs * 100} 万，每月收入 "
            f"{number(revenue * 100)} 万。现金还能撑几个月？（月）",
        ),
        estimates.runway_months(cash * 1e6, costs * 1e6, revenue * 1e6),
        "months",
        1.1,
        (
            step("Burn a month, in millions", "每月净消耗（百万美元）", f"{costs} - {number(revenue)}"),
            step("Cash over burn", "现金除以净消耗", f"{cash} / ({costs} - {number(revenue)})", "months"),
        ),
        {"cash": cash, "costs": costs, "revenue": revenue},
    )


DRILLS = (
    Drill(
        "minhash-collision", "data", Text("Chance that near-duplicates meet", "近似重复被找到的概率"), near_duplicates
    ),
    Drill("class-weights", "data", Text("Weight of a rare class", "少数类的权重"), class_weight),
    Drill("error-bar", "overfitting", Text("Error bar of an accuracy", "准确率的误差"), error_bar),
    Drill("epochs-over-data", "overfitting", Text("Epochs over too little data", "数据不够时的 epoch 数"), epochs),
    Drill("runway", "start-up", Text("Months of runway", "现金还能撑多久"), runway),
)
