"""The measures of trust are what they say, and what the notebook claims holds for other photographs and seeds."""

import numpy as np
import pandas as pd
import pytest
import torch
import wrong_answers as harness
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc
from torch import nn

from helpers import datasets, models
from helpers import explanation as ex

OTHERS = ["palace", "flower", "motorcycle"]  # the notebook shows the camera


@pytest.fixture(scope="module")
def lite0():
    net = models.efficientnet_lite0()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net


@pytest.fixture(scope="module")
def seen():
    photographs = datasets.photographs()
    return {name: ex.centre_crop(photographs[name]) for name in OTHERS}


def brightness(pictures):
    """A score that depends on the upper left quarter only."""
    h, w = pictures.shape[1] // 2, pictures.shape[2] // 2
    return pictures[:, :h, :w].mean((1, 2, 3)) / 255


# --- faithfulness -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_the_areas_are_those_of_scikit_learn_over_pictures_made_pixel_by_pixel(steps):
    rng = np.random.default_rng(steps)
    image, fill = rng.integers(0, 256, (2, 6, 5, 3)).astype(np.uint8)
    heat = rng.integers(0, 9, (6, 5)).astype(float)
    places = sorted(np.ndindex(6, 5), key=lambda place: -heat[place])
    areas = []
    for start, new in ((image, fill), (fill, image)):
        shares, scores = [], []
        for k in range(steps + 1):
            picture = start.copy()
            for place in places[: k * 30 // steps]:
                picture[place] = new[place]
            shares.append(k * 30 // steps / 30)
            scores.append(brightness(picture[None])[0])
        areas.append(auc(shares, scores))
    assert ex.deletion_auc(brightness, image, heat, fill=fill, steps=steps) == pytest.approx(areas[0])
    assert ex.insertion_auc(brightness, image, heat, fill=fill, steps=steps) == pytest.approx(areas[1])
    assert harness.reference("5.8")[0](brightness, image, heat, fill, steps) == pytest.approx(areas[0])


def test_the_true_heat_map_wins_deletion_and_insertion_and_the_turned_one_loses():
    image, fill = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)
    true = np.zeros((8, 8))
    true[:4, :4] = 1
    maps = [true, np.random.default_rng(0).normal(size=(8, 8)), 1 - true]
    deletion = [ex.deletion_auc(brightness, image, heat, fill=fill, steps=16) for heat in maps]
    insertion = [ex.insertion_auc(brightness, image, heat, fill=fill, steps=16) for heat in maps]
    assert deletion == sorted(deletion)
    assert insertion == sorted(insertion, reverse=True)
    assert deletion[0] == pytest.approx(0.125)  # it falls in a straight line over the first quarter


def test_a_heat_map_that_does_not_fit_is_refused_before_the_model_is_asked():
    def never(pictures):
        raise AssertionError("asked")

    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="heat"):
        ex.deletion_auc(never, image, np.zeros((4, 8)))
    with pytest.raises(ValueError, match="NaN"):
        ex.insertion_auc(never, image, np.full((8, 8), np.nan))
    with pytest.raises(ValueError, match="steps"):
        ex.deletion_auc(never, image, np.zeros((8, 8)), steps=0)
    with pytest.raises(ValueError, match="random, edges, centre"):
        ex.blind_heat("middle", image)


# --- stability and agreement --------------------------------------------------------------------------------------


def test_rank_agreement_is_scipys_and_nan_for_a_constant_map():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(9, 7)).round(1)
    second = first + rng.normal(size=(9, 7)).round(0)
    assert ex.rank_agreement(first, second) == pytest.approx(stats.spearmanr(first.ravel(), second.ravel())[0])
    assert np.isnan(ex.rank_agreement(first, np.ones((9, 7))))
    with pytest.raises(ValueError, match="one shape"):
        ex.rank_agreement(first, second.T)


@pytest.mark.parametrize("seed", range(3))
def test_the_stability_of_the_exercise_is_pandas_mean_spearman(seed):
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((5, 20)) < 0.4, 0, rng.normal(size=(5, 20)))
    table = pd.DataFrame(weights.T).corr(method="spearman").to_numpy()
    want = table[np.triu_indices(5, 1)].mean()
    assert harness.reference("5.9")[0](weights) == pytest.approx(want)
    explainers = [lambda image, row=row: row.reshape(4, 5).repeat(16, 0).repeat(16, 1) for row in weights]
    assert ex.stability(explainers, np.zeros((64, 80, 3), np.uint8)).mean == pytest.approx(want)


def test_cells_are_means_of_squares():
    heat = np.arange(48.0).reshape(6, 8)
    want = torch.nn.functional.avg_pool2d(torch.from_numpy(heat)[None, None], 2)[0, 0].numpy()
    np.testing.assert_allclose(ex.cells(heat, 2), want)
    assert ex.cells(np.zeros((35, 40)), 16).shape == (2, 2)
    with pytest.raises(ValueError, match="size"):
        ex.cells(heat, 7)


# --- sanity --------------------------------------------------------------------------------------------------------


def test_permuting_keeps_the_weights_and_the_original_model(lite0):
    broken = ex.permuted(lite0, ["classifier", "head.0"], seed=1)
    for name in ("classifier", "head.0"):
        old, new = lite0.get_submodule(name).weight, broken.get_submodule(name).weight
        assert not torch.equal(old, new)
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values)
    assert torch.equal(broken.stem[1].weight, lite0.stem[1].weight)
    with pytest.raises(ValueError, match="'nowhere'"):
        ex.permuted(lite0, ["nowhere"])


def test_a_dead_explanation_does_not_pass_the_sanity_check(lite0, seen):
    def dies(model, seed):
        return lambda image: ex.blind_heat("edges", image) * (model is lite0)

    result = ex.sanity_check(dies, lite0, seen["palace"], stages=1)
    assert np.isnan(result.correlations[-1])
    assert not result.passed


def test_an_interrupted_table_leaves_the_model_without_hooks(lite0, seen):
    def interrupted(model, seed):
        def explain(image):
            raise KeyboardInterrupt

        return explain

    with pytest.raises(KeyboardInterrupt):
        ex.trust_table({"slow": interrupted}, lite0, seen["palace"], 0, progress=False)
    assert not lite0._forward_hooks


# --- the notebook's claims, on photographs and seeds that it does not show ---------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", OTHERS)
def test_the_claims_of_the_trust_table_hold_elsewhere(lite0, seen, name):
    image = seen[name]
    target = int(ex.predictor(lite0)(image[None]).argmax())
    methods = {
        "Grad-CAM": lambda model, seed: ex.as_explainer(ex.grad_cam, model, target, layer=model.head),
        "signed": lambda model, seed: ex.as_explainer(ex.integrated_gradients, model, target, steps=8),
        "size": lambda model, seed: ex.as_explainer(ex.integrated_gradients, model, target, steps=8, absolute=True),
    }
    seed = 10 + OTHERS.index(name)
    table = ex.trust_table(methods, lite0, image, target, seeds=(seed, seed + 1), progress=False)
    sanity, jitter = table["sanity"], table["jitter"]
    assert abs(sanity["signed"]) < 0.05 < 0.1 < sanity["size"]  # the sign forgets, the size keeps some photograph
    assert sanity[["edges", "centre"]].to_numpy() == pytest.approx(1)  # blind maps cannot forget …
    assert jitter[["edges", "centre"]].min() > 0.85  # … and are as stable as any
    assert jitter["signed"] + 0.1 < jitter["size"]
    blind = table.loc[list(ex.BLIND)]
    beaten = (table.loc[list(methods), "deletion"] > blind["deletion"].min()).any()
    beaten |= (table.loc[list(methods), "insertion"] < blind["insertion"].max()).any()
    assert beaten  # a blind map beats some method in one of the two numbers
    assert table.loc["Grad-CAM", "pictures"] < table.loc["signed", "pictures"]


# --- the planted shortcut ------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [0, 5, 6])
def test_the_planted_shortcut_is_found_by_the_numbers_and_the_mended_data_remove_it(seed):
    def accuracy(model, x, y):
        with torch.no_grad():
            return (model(x).argmax(1) == y).float().mean().item()

    found = {}
    for mended in (False, True):
        data = ex.marked_digits(mended=mended, seed=seed)
        model = ex.small_network(data, seed=seed)
        first = ex.suspects(ex.heat_shares(model, data.x_test, data.y_test)).iloc[0]
        cell = (int(first["row"]), int(first["column"]))
        moved = ex.transplant(model, data.x_test, data.y_test, int(first["class"]), cell)
        corner = ex.transplant(model, data.x_test, data.y_test, 1, (3, 3))
        scores = accuracy(model, data.x_test, data.y_test), accuracy(model, data.bare, data.y_test)
        found[mended] = (int(first["class"]), cell, moved, corner, *scores)
    label, cell, moved, _, accurate, bare = found[False]
    assert (label, cell) == (1, (3, 3))  # nobody told it where
    assert moved > 0.95
    assert accurate > 0.98 > 0.6 > bare
    _, cell, moved, corner, accurate, bare = found[True]
    assert cell != (3, 3)
    assert moved < 0.4
    assert corner < 0.05
    assert min(accurate, bare) > 0.94


def test_a_mark_changes_its_corner_of_the_chosen_pictures_only():
    x = torch.rand(4, 1, 16, 16)
    rows = torch.tensor([True, False, True, False])
    new = ex.mark(x, rows)
    changed = (new != x)[:, 0]
    assert not changed[~rows].any()
    assert changed[0].sum() == (ex.MARK > 0).sum()
    assert not changed[:, :10].any()
    assert not changed[:, -1].any()
    with pytest.raises(ValueError, match="at least 6"):
        ex.mark(torch.rand(1, 1, 5, 5), torch.tensor([True]))
    with pytest.raises(ValueError, match="opacity"):
        ex.mark(x, rows, opacity=0)


# --- simpler models ------------------------------------------------------------------------------------------------


def test_eight_weights_give_up_nothing_measurable_and_a_stump_does():
    table = datasets.breast_cancer()
    x, y = table.drop(columns="diagnosis").to_numpy(), (table["diagnosis"] == "malignant").to_numpy().astype(int)
    for seed in (1, 2):
        found = ex.accuracy_given_up(ex.simple_models(seed=seed), x, y, repeats=1, seed=seed)
        sparse, stump = found.loc["logistic, sparse (L1)"], found.loc["tree, depth 1"]
        assert sparse["given_up"] < 1
        assert sparse["size"] <= 10 < 1000 < found["size"].iloc[0]
        assert stump["given_up"] > stump["margin"] > 0


def test_the_margin_is_the_corrected_resampled_t_interval():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    y = (x[:, 0] + rng.normal(size=120) > 0).astype(int)
    pair = {"one": ex.Scorecard(1), "all": LogisticRegression()}
    found = ex.accuracy_given_up(pair, x, y, folds=4, repeats=1, seed=3)
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score

    folds = RepeatedStratifiedKFold(n_splits=4, n_repeats=1, random_state=3)
    scores = [cross_val_score(model, x, y, cv=folds) for model in pair.values()]
    difference = scores[0] - scores[1]
    assert found.loc["all", "given_up"] == pytest.approx(100 * difference.mean())
    spread = stats.t.ppf(0.975, 3) * difference.std(ddof=1) * np.sqrt(1 / 4 + 30 / 90)
    assert found.loc["all", "margin"] == pytest.approx(100 * spread)


def test_the_scorecard_adds_up_as_a_person_would():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 6))
    y = np.where(2 * (x[:, 1] > 0) + (x[:, 4] > 0) + rng.normal(0, 0.3, 300) > 0.9, "yes", "no")
    card = ex.Scorecard(2).fit(x, y)
    assert card.features_.tolist() == [1, 4]
    assert card.points_[0] == 5 > card.points_[1] > 0
    by_hand = [
        "yes"
        if sum(int(p) for f, c, p in zip(card.features_, card.cuts_, card.points_, strict=True) if row[f] > c)
        > card.limit_
        else "no"
        for row in x
    ]
    assert card.predict(x).tolist() == by_hand
    with pytest.raises(ValueError, match="two classes"):
        ex.Scorecard(2).fit(x, np.zeros(300))
    with pytest.raises(ValueError, match="features"):
        ex.Scorecard(7).fit(x, y)
    with pytest.raises(TypeError, match="simple_models"):
        ex.size_of(nn.Linear(1, 1))
