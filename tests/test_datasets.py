"""The data sets hold what their docstrings promise, so that every measured sentence of the notebooks stands on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import datasets


def test_flights_are_in_time_order_and_late_follows_the_arrival_delay() -> None:
    table = datasets.flights(5_000, seed=1)
    assert table["time_hour"].is_monotonic_increasing
    arrived = table["arr_delay"].notna()
    assert table.loc[~arrived, "late"].isna().all()
    assert ((table.loc[arrived, "arr_delay"] > 15) == table.loc[arrived, "late"]).all()


def test_the_same_seed_gives_the_same_sample_and_another_seed_another() -> None:
    first, again, other = (datasets.flights(200, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


@pytest.mark.parametrize("rows", [0, -1, 10**9])
def test_an_impossible_number_of_flights_is_named(rows: int) -> None:
    with pytest.raises(ValueError, match="rows must be between 1 and 336,776"):
        datasets.flights(rows)


def test_a_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(FileNotFoundError, match="pip install no_such_package"):
        datasets.package_file("no_such_package", "x.csv")


@pytest.fixture(scope="module")
def dirty() -> datasets.DirtyTable:
    return datasets.dirty_breast_cancer(seed=3)


def test_planted_copies_are_exact_copies_of_another_row(dirty: datasets.DirtyTable) -> None:
    same = dirty.table.duplicated(keep=False).to_numpy()
    assert same[dirty.copied].all()
    assert dirty.table.duplicated().sum() == len(dirty.copied)


def test_flipped_diagnoses_differ_from_the_clean_table_for_every_row_of_the_patient(dirty: datasets.DirtyTable) -> None:
    truth = datasets.breast_cancer()["diagnosis"].to_numpy()[dirty.table["patient"]]
    wrong = np.flatnonzero(dirty.table["diagnosis"].to_numpy() != truth)
    np.testing.assert_array_equal(wrong, dirty.flipped)
    assert (dirty.table.groupby("patient")["diagnosis"].nunique() == 1).all()


def test_wrong_units_and_gaps_stand_exactly_where_the_truth_says(dirty: datasets.DirtyTable) -> None:
    np.testing.assert_array_equal(np.flatnonzero(dirty.table["mean concavity"].isna()), dirty.missing)
    clean = datasets.breast_cancer()["mean area"].to_numpy()[dirty.table["patient"]]
    ratio = dirty.table["mean area"].to_numpy() / clean
    np.testing.assert_array_equal(np.flatnonzero(ratio > 20), dirty.wrong_unit)


def test_gaps_depend_on_the_true_diagnosis(dirty: datasets.DirtyTable) -> None:
    malignant = datasets.breast_cancer()["diagnosis"].to_numpy()[dirty.table["patient"]] == "malignant"
    gap = dirty.table["mean concavity"].isna().to_numpy()
    assert gap[malignant].mean() > 0.35
    assert gap[~malignant].mean() < 0.1


def test_functions_and_methods_are_found_whole_and_broken_files_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class A:\n    def m(self):\n        return 1\n\ndef f():\n    def inner(): ...\n")
    (tmp_path / "b.py").write_text("def broken(:\n")
    (tmp_path / "c.py").write_bytes(b"def latin():\n    return '\xe9'\n")
    nested = tmp_path / "site-packages"
    nested.mkdir()
    (nested / "d.py").write_text("def other(): ...\n")
    found = dict(datasets.python_functions(roots=[tmp_path]))
    assert list(found) == ["a.py:A.m", "a.py:f"]
    assert found["a.py:A.m"] == "    def m(self):\n        return 1"


def test_the_limit_stops_the_stream_and_a_negative_one_is_an_error() -> None:
    assert len(list(datasets.python_functions(7))) == 7
    with pytest.raises(ValueError, match="limit"):
        list(datasets.python_functions(-1))


def test_every_installed_package_has_a_licence_entry() -> None:
    licences = datasets.declared_licences()
    assert "numpy" in licences.index
    assert licences.notna().all()
    assert (licences.str.len() > 0).all()


def test_photographs_are_colour_pictures_that_a_learner_may_write_on() -> None:
    found = datasets.photographs()
    assert len(found) == 14
    for image in found.values():
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert min(image.shape[:2]) >= 300
        assert image.flags.writeable


def test_the_documentation_has_as_many_texts_of_each_field_and_none_twice():
    texts = datasets.documentation(20)
    assert texts["field"].value_counts().to_dict() == dict.fromkeys(datasets.FIELDS, 20)
    assert texts["text"].is_unique and texts["text"].str.split().str.len().min() >= 30
    assert datasets.documentation(20).equals(texts)
    with pytest.raises(ValueError, match="count must be at most"):
        datasets.documentation(10_000)
    with pytest.raises(ValueError, match="count must be at least 1"):
        datasets.documentation(0)


def test_the_wines_are_the_178_of_uci():
    table = datasets.wine()
    assert table.shape == (178, 14) and table["cultivar"].value_counts().to_dict() == {0: 59, 1: 71, 2: 48}


def test_parts_of_the_source_have_no_file_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, count in (("a", 10), ("b", 10), ("c", 21)):
        (tmp_path / f"{name}.py").write_text(name * count)
    monkeypatch.setattr(datasets, "code_roots", lambda: (tmp_path,))
    first, second = datasets.code_parts(4, [3, 5])
    assert [bytes(block) for block in first] == [b"aaaaa", b"aaaaa", b"aabbb"]
    assert [bytes(block) for block in second] == [b"ccccc"] * 5  # the rest of b.py belongs to neither
    assert [bytes(block) for block in datasets.code_blocks(4, 3, seed=None)] == [bytes(block) for block in first]
    with pytest.raises(ValueError, match="at most 5 of 4 bytes"):
        datasets.code_parts(4, [3, 6])
    with pytest.raises(ValueError, match="blocks must be at least 1"):
        datasets.code_parts(4, [3, 0])
