"""Splits in which nothing straddles, preprocessing that saw the training rows alone, balanced weights."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from sklearn.utils.class_weight import compute_class_weight

from helpers.datasets import breast_cancer, dirty_breast_cancer
from helpers.training_data import class_weights, fit_preprocessing, split


def keys(table: pd.DataFrame, rows: np.ndarray) -> set[tuple]:
    return set(map(tuple, table.iloc[rows].astype(object).where(table.iloc[rows].notna(), None).to_numpy()))


def assert_partition(table: pd.DataFrame, made) -> None:  # type: ignore[no-untyped-def]
    together = np.concatenate([made.train, made.test, made.dropped])
    assert sorted(together) == list(range(len(table)))
    assert np.all(np.diff(made.train) > 0)
    assert np.all(np.diff(made.test) > 0)
    assert len(made.train)
    assert len(made.test)


# ------------------------------------------------------------------------------------------------------- at random


def test_without_copies_the_class_counts_are_those_of_scikit_learn() -> None:
    table = breast_cancer()
    for share in (0.1, 0.2, 0.35, 0.5):
        made = split(table, target="diagnosis", test_size=share)
        _, theirs = train_test_split(
            np.arange(len(table)), test_size=share, stratify=table["diagnosis"], random_state=0
        )
        ours = table["diagnosis"].iloc[made.test].value_counts()
        expected = table["diagnosis"].iloc[theirs].value_counts()
        assert_partition(table, made)
        assert (ours - expected).abs().max() <= 1


def test_same_seed_same_split_other_seed_another() -> None:
    table = breast_cancer()
    first, again, other = (split(table, target="diagnosis", seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.test, again.test)
    assert len(np.intersect1d(first.test, other.test)) < 0.5 * len(first.test)


def test_a_quantity_is_stratified_by_its_size() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=1000), "price": rng.lognormal(size=1000)})
    made = split(table, target="price")
    shares = [np.mean(table["price"].iloc[made.test] <= q) for q in table["price"].quantile([0.1, 0.5, 0.9])]
    np.testing.assert_allclose(shares, [0.1, 0.5, 0.9], atol=0.006)


def test_every_row_is_as_likely_to_be_tested_as_any_other() -> None:
    table = pd.DataFrame({"x": np.arange(40), "y": [0, 1] * 20})
    times = np.zeros(40)
    for seed in range(400):
        times[split(table, target="y", seed=seed).test] += 1
    # binomial(400, .2): standard deviation 8
    assert np.all(np.abs(times - 80) < 40)


def test_copies_never_straddle() -> None:
    dirty = dirty_breast_cancer(seed=1).table
    for target in (None, "diagnosis"):
        for seed in range(5):
            made = split(dirty, target=target, seed=seed)
            assert_partition(dirty, made)
            assert not keys(dirty, made.train) & keys(dirty, made.test)
            assert abs(len(made.test) / len(dirty) - 0.2) < 0.01


def test_copies_with_gaps_and_mixed_types_are_copies() -> None:
    table = pd.DataFrame(
        {"a": [1.0, np.nan, np.nan, 2.0] * 25, "b": ["x", None, None, 1] * 25, "n": np.repeat(range(25), 4)}
    )
    made = split(table, test_size=0.3)
    assert not keys(table, made.train) & keys(table, made.test)


def test_one_and_the_word_one_are_not_copies() -> None:
    table = pd.DataFrame({"a": pd.Series([1, "1"] * 10, dtype=object)})
    made = split(table, test_size=0.5)
    assert len({type(table["a"].iloc[row]) for row in made.test}) == 1


# ----------------------------------------------------------------------------------------------------------- groups


def test_no_group_straddles_and_the_classes_keep_their_shares() -> None:
    dirty = dirty_breast_cancer(seed=0).table
    overall = dirty["diagnosis"].eq("malignant").mean()
    for seed in range(5):
        made = split(dirty, target="diagnosis", group="patient", seed=seed)
        assert_partition(dirty, made)
        assert not set(dirty["patient"].iloc[made.train]) & set(dirty["patient"].iloc[made.test])
        assert abs(len(made.test) / len(dirty) - 0.2) < 0.01
        assert abs(dirty["diagnosis"].iloc[made.test].eq("malignant").mean() - overall) < 0.02


def test_grouped_shares_are_no_worse_than_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 40, 60))
    y = (rng.random(len(groups)) < 0.2 + 0.6 * rng.random(60)[groups]).astype(int)
    table = pd.DataFrame({"x": rng.normal(size=len(groups)), "g": groups, "y": y})

    def off(test: np.ndarray) -> float:
        wanted = np.bincount(y) * 0.2
        return float(np.abs(np.bincount(y[test], minlength=2) - wanted).sum() / len(y))

    ours = np.mean([off(split(table, target="y", group="g", seed=s).test) for s in range(10)])
    folds = [StratifiedGroupKFold(5, shuffle=True, random_state=s).split(table, y, groups) for s in range(10)]
    theirs = np.mean([off(next(iter(fold))[1]) for fold in folds])
    assert ours <= theirs


def test_rows_without_a_group_are_groups_of_their_own() -> None:
    table = pd.DataFrame({"x": range(100), "g": [None] * 60 + ["a"] * 20 + ["b"] * 20})
    made = split(table, group="g")
    assert_partition(table, made)
    assert len({g for g in table["g"].iloc[made.train] if g} & {g for g in table["g"].iloc[made.test] if g}) == 0


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=20, max_size=80),
    share=st.sampled_from([0.1, 0.25, 0.5]),
    seed=st.integers(0, 99),
)
def test_any_groups_are_divided_cleanly_or_refused(groups: list[int], share: float, seed: int) -> None:
    table = pd.DataFrame({"x": range(len(groups)), "g": groups})
    try:
        made = split(table, group="g", test_size=share, seed=seed)
    except ValueError as error:
        assert "blocks" in str(error)
        return
    assert_partition(table, made)
    assert not set(table["g"].iloc[made.train]) & set(table["g"].iloc[made.test])
    largest = table["g"].value_counts().max() / len(table)
    assert abs(len(made.test) / len(table) - share) <= max(0.05, largest) + 1e-9


# ------------------------------------------------------------------------------------------------------------- time


def test_the_test_rows_are_the_latest_and_a_moment_stays_together() -> None:
    rng = np.random.default_rng(0)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 50, 500), unit="D")
    table = pd.DataFrame({"day": days, "x": rng.normal(size=500)})
    made = split(table, time="day")
    assert_partition(table, made)
    assert table["day"].iloc[made.train].max() < table["day"].iloc[made.test].min()
    assert abs(len(made.test) / 500 - 0.2) < 0.02


@pytest.mark.parametrize(
    "as_kind",
    [lambda t: t.astype(str), lambda t: t.dt.tz_localize("UTC"), lambda t: t.dt.year * 1000 + t.dt.day_of_year],
)
def test_time_may_be_text_zoned_or_a_number(as_kind) -> None:  # type: ignore[no-untyped-def]
    days = pd.Series(pd.date_range("2023-11-01", periods=100))
    table = pd.DataFrame({"t": as_kind(days), "x": range(100)}).sample(frac=1, random_state=0)
    made = split(table, time="t", test_size=0.3)
    assert table["x"].iloc[made.test].min() == 70


def test_with_time_and_group_training_rows_of_a_later_group_are_left_out() -> None:
    table = pd.DataFrame({"t": range(100), "g": [i // 3 for i in range(100)], "x": range(100)})
    made = split(table, time="t", group="g")
    assert_partition(table, made)
    assert len(made.dropped) in (1, 2)
    assert not set(table["g"].iloc[made.train]) & set(table["g"].iloc[made.test])
    assert "left out" in repr(made)


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        ({}, {"target": "Y"}, r"target='Y' is not a column; did you mean 'y'"),
        ({}, {"group": "nothing"}, "the columns are"),
        ({}, {"test_size": 0}, "share between 0 and 1, got 0"),
        ({}, {"test_size": 20}, "share between 0 and 1, got 20"),
        ({"y": [0] * 20}, {"target": "y"}, "one class only"),
        ({"y": [0] * 19 + [1]}, {"target": "y"}, "class 1 has one row only"),
        ({"y": [None, *"ab" * 9, "a"]}, {"target": "y"}, "missing in 1 of 20 rows"),
        ({"g": [1] * 20}, {"group": "g"}, "the largest 'g'"),
        ({"g": [1] * 18 + [2] * 2, "y": [0] * 18 + [1] * 2}, {"target": "y", "group": "g"}, "has one 'g' only"),
        ({"x": [1] * 20, "y": [1] * 20, "g": [1] * 20, "t": [1] * 20}, {}, "set of equal rows holds 20 of 20"),
        ({"t": [1] * 20}, {"time": "t"}, "one value only"),
        ({"t": ["soon"] * 20}, {"time": "t"}, "must hold dates or numbers"),
        ({"t": [None, *range(19)]}, {"time": "t"}, "missing in 1 of 20"),
        ({"g": [1] * 20}, {"time": "t", "group": "g"}, "no training rows left"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(change: dict, options: dict, reason: str) -> None:
    table = pd.DataFrame({"x": range(20), "y": [0, 1] * 10, "g": range(20), "t": range(20)}).assign(**change)
    with pytest.raises(ValueError, match=reason):
        split(table, **options)


def test_the_table_must_be_a_data_frame_with_rows_and_distinct_names() -> None:
    with pytest.raises(TypeError, match="must be a pandas DataFrame, got list"):
        split([1, 2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must have rows and columns, got 0 × 1"):
        split(pd.DataFrame({"a": []}))
    with pytest.raises(ValueError, match="same name"):
        split(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))


# --------------------------------------------------------------------------------------------------- preprocessing


def mixed(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "a": rng.normal(5, 3, rows),
            "whole": pd.array(rng.integers(0, 9, rows), dtype="Int64"),
            "flag": pd.array(rng.random(rows) < 0.5, dtype="boolean"),
            "word": rng.choice(["x", "y", "z"], rows),
            "when": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 999, rows), unit="h"),
            "nothing": np.nan,
            "constant": 3.0,
        }
    )
    for name in ("a", "whole", "flag", "word", "when"):
        table.loc[rng.random(rows) < 0.1, name] = pd.NA if name != "when" else pd.NaT
    return table


def test_every_statistic_comes_from_the_training_rows() -> None:
    train, test = mixed(200, 0), mixed(50, 1)
    test["a"] += 1000
    fitted = fit_preprocessing(train)
    ready, names = fitted.transform(test), list(fitted.get_feature_names_out())
    median = train["a"].median()
    filled = train["a"].fillna(median)
    expected = (test["a"].fillna(median) - filled.mean()) / filled.std(ddof=0)
    np.testing.assert_allclose(ready[:, names.index("a")], expected)
    assert np.isfinite(ready).all()
    assert np.all(ready[:, names.index("nothing")] == 0)
    assert np.all(ready[:, names.index("constant")] == 0)


def test_an_unseen_word_becomes_zeros_and_a_gap_the_most_frequent_word() -> None:
    train = pd.DataFrame({"w": ["x", "x", "y", None]})
    fitted = fit_preprocessing(train)
    names = list(fitted.get_feature_names_out())
    ready = fitted.transform(pd.DataFrame({"w": ["new", None, "y"]}))
    np.testing.assert_array_equal(ready[:, [names.index("w_x"), names.index("w_y")]], [[0, 0], [1, 0], [0, 1]])


def test_the_input_is_unchanged_and_the_result_can_be_stored() -> None:
    train = mixed(60, 0)
    before = train.copy()
    fitted = fit_preprocessing(train)
    fitted.transform(train)
    pd.testing.assert_frame_equal(train, before)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(train), fitted.transform(train))


def test_many_words_do_not_explode_into_columns() -> None:
    train = pd.DataFrame({"w": [f"word {i % 500}" for i in range(2000)]})
    assert fit_preprocessing(train, max_categories=20).transform(train).shape == (2000, 20)
    with pytest.raises(ValueError, match="max_categories must be a whole number of at least 2"):
        fit_preprocessing(train, max_categories=1)


# --------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("y", [["a", "b", "b", "b"], [0, 1, 1, 2, 2, 2], [True, False, False], [1.0, 2.0, 2.0]])
def test_weights_are_scikit_learns_balanced_ones(y: list) -> None:
    classes = np.unique(y)
    expected = dict(
        zip(classes.tolist(), compute_class_weight("balanced", classes=classes, y=np.asarray(y)), strict=True)
    )
    for labels in (y, np.asarray(y), pd.Series(y)):
        assert class_weights(labels) == pytest.approx(expected)


def test_unused_categories_have_no_weight() -> None:
    y = pd.Series(pd.Categorical(["a", "b", "b"], categories=["a", "b", "c"]))
    assert class_weights(y) == {"a": 1.5, "b": 0.75}


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        ([], "empty"),
        (["a", None], "missing in 1 of 2"),
        (np.zeros((2, 2)), r"one dimension, got shape \(2, 2\)"),
        (np.linspace(0, 1, 50), "quantity with 50"),
    ],
)
def test_labels_that_cannot_be_weighed_are_refused(y: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        class_weights(y)
