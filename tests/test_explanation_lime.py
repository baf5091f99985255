"""LIME by this course is stock lime: the same coefficients, and its behaviour; bad input is refused by name."""

import numpy as np
import pandas as pd
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from lime.lime_tabular import LimeTabularExplainer
from lime.lime_text import LimeTextExplainer
from lime.wrappers.scikit_image import SegmentationAlgorithm
from skimage.segmentation import felzenszwalb, slic
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from helpers import datasets
from helpers import explanation as ex

PHOTOGRAPHS = ("cat", "coffee", "palace", "camera", "flower")


@pytest.fixture(scope="module")
def pictures():
    photographs = datasets.photographs()
    return {name: ex.centre_crop(photographs[name], 64) for name in PHOTOGRAPHS}


def looking(pictures):
    """A cheap classifier whose answer depends on every pixel, and on the interactions of some."""
    x = np.asarray(pictures, dtype=np.float64).reshape(len(pictures), -1)
    x = x / (255 if np.asarray(pictures).dtype == np.uint8 else 1)
    first = x @ np.linspace(-1, 1, x.shape[1]) / 100
    second = np.sin(x[:, ::7].sum(1) / 50)
    scores = np.exp(np.stack([first, second, 0 * first], axis=1))
    return scores / scores.sum(1, keepdims=True)


def stock(picture, seed, *, samples=100, segmentation=None, batch=10, **options):
    explainer = LimeImageExplainer(random_state=seed)
    options = {"top_labels": 3, **options}
    return explainer.explain_instance(
        picture,
        looking,
        num_samples=samples,
        batch_size=batch,
        segmentation_fn=segmentation or (lambda image: ex.segment(image)),
        **options,
    )


def same(mine, theirs):
    assert list(mine.labels) == [int(label) for label in theirs.top_labels]
    for label in mine.labels:
        assert len(theirs.local_exp[label]) == len(mine.weights[label])
        for number, weight in theirs.local_exp[label]:
            assert mine.weights[label][number] == weight  # to the last bit
        assert mine.intercept[label] == theirs.intercept[label]


# ---------------------------------------------------------------------------------------------- the same as stock lime


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_coefficients_are_those_of_stock_lime(pictures, name, seed):
    mine = ex.explain_image(pictures[name], looking, samples=100, batch_size=10, seed=seed, progress=False)
    same(mine, stock(pictures[name], seed))


@pytest.mark.parametrize("segmentation", ["slic", "quickshift", "felzenszwalb"])
def test_they_are_for_each_segmentation(pictures, segmentation):
    segments = ex.segment(pictures["coffee"], segmentation)
    count = int(segments.max()) + 1
    mine = ex.explain_image(
        pictures["coffee"], looking, samples=3 * count, segmentation=segmentation, batch_size=10, progress=False
    )
    same(mine, stock(pictures["coffee"], 0, samples=3 * count, segmentation=lambda _: segments))


def test_without_a_segmentation_lime_takes_quickshift_with_our_settings(pictures):
    np.testing.assert_array_equal(
        ex.segment(pictures["cat"], "quickshift"),
        SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2)(pictures["cat"]),
    )


@pytest.mark.parametrize("hide", [0, 127, (255, 0, 30)])
def test_they_are_for_a_hide_colour(pictures, hide):
    mine = ex.explain_image(pictures["cat"], looking, samples=100, hide=hide, batch_size=10, progress=False)
    same(mine, stock(pictures["cat"], 0, hide_color=hide))


def test_they_are_for_grey_and_for_float_pictures(pictures):
    grey = pictures["camera"][..., 0]
    mine = ex.explain_image(grey, looking, samples=100, batch_size=10, progress=False)
    same(mine, stock(grey, 0))
    scaled = pictures["camera"] / 255
    mine = ex.explain_image(scaled, looking, samples=100, batch_size=10, progress=False)
    theirs = stock(scaled, 0)
    for label in mine.labels:  # lime adds a superpixel's pixels up in another order
        np.testing.assert_allclose(mine.weights[label], [w for _, w in sorted(theirs.local_exp[label])], atol=1e-9)


def test_a_chosen_label_is_explained_even_when_it_is_not_the_most_probable(pictures):
    mine = ex.explain_image(pictures["cat"], looking, labels=[1], samples=100, batch_size=10, progress=False)
    theirs = stock(pictures["cat"], 0, top_labels=None, labels=(1,))
    assert mine.labels == (1,)
    assert mine.top(1) == [tuple(theirs.local_exp[1][0])]
    with pytest.raises(ValueError, match="label must be one of the explained classes"):
        mine.heat_map(2)


def test_another_seed_gives_another_explanation_and_the_same_seed_the_same(pictures):
    runs = [ex.explain_image(pictures["cat"], looking, samples=100, seed=s, progress=False) for s in (3, 3, 4)]
    label = runs[0].labels[0]
    assert (runs[0].weights[label] == runs[1].weights[label]).all()
    assert (runs[0].weights[label] != runs[2].weights[label]).all()


def test_the_masks_and_the_picture_are_those_of_lime(pictures):
    mine, theirs = (
        ex.explain_image(pictures["cat"], looking, samples=100, progress=False),
        stock(pictures["cat"], 0, batch=64),
    )
    label = mine.labels[0]
    for options in ({}, {"positive_only": False}, {"hide_rest": True}, {"num_features": 2}):
        for got, want in zip(mine.image_and_mask(**options), theirs.get_image_and_mask(label, **options), strict=True):
            np.testing.assert_array_equal(got, want)
    assert not hasattr(mine.lime, "show_in_notebook")  # the notebook says so


@pytest.mark.parametrize("start", [0, 1])
def test_a_superpixel_with_any_number_is_hidden(pictures, start):
    """slic counts from 1 by default; stock lime then never hides the last one."""
    picture = pictures["cat"]
    found = ex.explain_image(
        picture,
        looking,
        samples=200,
        segmentation=lambda image: slic(image, n_segments=20, start_label=start),
        progress=False,
    )
    last = int(found.segments.max())
    assert all(abs(found.weights[label][last]) > 0 for label in found.labels[:1])
    assert set(np.unique(found.segments)) == set(range(last + 1))


def test_stock_lime_never_hides_the_last_superpixel_of_slic_from_1(pictures):
    def last_only(images):
        shown = (np.asarray(images)[:, segments == segments.max()] == pictures["cat"][segments == segments.max()]).all(
            (1, 2)
        )
        p = 0.2 + 0.6 * shown
        return np.stack([1 - p, p], axis=1)

    segments = slic(pictures["cat"], n_segments=20, start_label=1)
    explainer = LimeImageExplainer(random_state=0)
    theirs = explainer.explain_instance(
        pictures["cat"], last_only, labels=(1,), top_labels=None, num_samples=100, segmentation_fn=lambda _: segments
    )
    assert all(weight == 0 for _, weight in theirs.local_exp[1])
    mine = ex.explain_image(
        pictures["cat"], last_only, labels=[1], samples=200, segmentation=lambda _: segments, progress=False
    )
    assert mine.top(1)[0][0] == int(mine.segments.max()) and mine.top(1)[0][1] > 0.4


def test_the_model_gets_whole_batches_and_every_sample_once(pictures):
    sizes = []

    def noting(images):
        sizes.append(len(images))
        return looking(images)

    ex.explain_image(pictures["cat"], noting, samples=150, batch_size=64, progress=False)
    assert sizes == [1, 64, 64, 22]


# ------------------------------------------------------------------------------------------------------ the classifier


def test_the_classifier_gives_probabilities_in_evaluation_mode_with_the_channels_in_their_place():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model.train()
    pictures = np.random.default_rng(0).integers(0, 256, (5, 9, 8, 3), dtype=np.uint8)
    mean, std = (100.0, 120.0, 90.0), (60.0, 50.0, 70.0)
    got = ex.image_classifier(model, mean=mean, std=std)(pictures)
    x = torch.from_numpy(((pictures - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        want = model.eval()(x).softmax(1).numpy()
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert not model.training
    with pytest.raises(TypeError, match="model must be a torch module"):
        ex.image_classifier(looking)


def test_the_network_says_the_same_in_onnx_runtime():
    picture = ex.centre_crop(datasets.photographs()["coffee"])
    p = ex.imagenet_classifier()(picture[None])
    np.testing.assert_allclose(
        ex.imagenet_classifier("onnxruntime")(np.stack([picture] * 3)), np.repeat(p, 3, 0), atol=1e-5
    )
    with pytest.raises(ValueError, match="runtime must be one of"):
        ex.imagenet_classifier("tensorrt")


def test_memory_is_kept_where_the_c_library_can():
    assert isinstance(ex.keep_freed_memory(), bool)
    for bad in (0, 2**31):
        with pytest.raises(ValueError, match="block must be 1 to"):
            ex.keep_freed_memory(bad)
    with pytest.raises(TypeError, match="block must be a whole number"):
        ex.keep_freed_memory(1e9)


# ----------------------------------------------------------------------------------------------------------- bad input

PICTURE = np.kron(np.random.default_rng(0).integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
NAN = np.full((32, 32, 3), np.nan)


def returning(value):
    return lambda inputs: np.full((len(inputs), 2), value, dtype=float)


@pytest.mark.parametrize(
    ("picture", "error", "words"),
    [
        ([[1]], TypeError, "image must be a numpy array"),
        (np.zeros((32, 32, 4), np.uint8), ValueError, "alpha channel"),
        (np.zeros((3, 32, 32), np.uint8), ValueError, "channels first"),
        (np.full((32, 32, 3), 200.0), ValueError, "divide by 255"),
        (np.zeros((32, 32, 3), np.int64), ValueError, "uint8 in 0..255 or float"),
        (NAN, ValueError, "image must be finite"),
        (np.zeros((4, 32, 3), np.uint8), ValueError, "at least 8×8"),
        (np.zeros((2100, 2000, 3), np.uint8), ValueError, "scale it down"),
        (np.full((32, 32, 3), 7, np.uint8), ValueError, "at least two superpixels"),
    ],
)
def test_a_picture_that_cannot_be_explained_is_refused(picture, error, words):
    with pytest.raises(error, match=words):
        ex.explain_image(picture, returning(0.5), segmentation="felzenszwalb", progress=False)


@pytest.mark.parametrize(
    ("predict", "error", "words"),
    [
        (nn.Linear(2, 2), TypeError, "wrap it, image_classifier"),
        (RandomForestClassifier(), TypeError, "predict_proba"),
        (returning(3.0), ValueError, "are these logits"),
        (returning(np.nan), ValueError, "NaN or infinity"),
        (lambda inputs: np.ones((len(inputs), 1)), ValueError, "at least two classes"),
        (lambda inputs: np.zeros(len(inputs), int), ValueError, "labels instead of predict_proba"),
        (lambda inputs: np.array([[0.5, 0.5]] * (len(inputs) + 1)), ValueError, "must give probabilities of shape"),
        (lambda inputs: np.array([[0, 1]] * len(inputs)), ValueError, "as floats"),
    ],
)
@pytest.mark.parametrize("kind", ["image", "text", "table"])
def test_a_model_that_gives_no_probabilities_is_refused(predict, error, words, kind):
    table = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(error, match=words):
        if kind == "image":
            ex.explain_image(PICTURE, predict, progress=False)
        elif kind == "text":
            ex.explain_text("two words", predict, progress=False)
        else:
            ex.explain_tabular(table[0], predict, table)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 3}, "twice the number of superpixels"),
        ({"samples": 0}, "samples must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"seed": -1}, "seed must be"),
        ({"labels": 0}, "labels must be at least 1"),
        ({"labels": [5]}, "labels must name classes 0 to 1"),
        ({"hide": 300}, "hide must be"),
        ({"segmentation": "watershed"}, "segmentation must be one of"),
        ({"segmentation": lambda image: np.zeros((4, 4), int)}, "segmentation must give whole numbers"),
    ],
)
def test_an_odd_setting_is_refused_before_the_work(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        ex.explain_image(PICTURE, returning(0.5), progress=False, **options)


def test_an_interrupt_goes_through_and_a_later_call_works(pictures):
    calls = []

    def interrupted(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return looking(images)

    with pytest.raises(KeyboardInterrupt):
        ex.explain_image(pictures["cat"], interrupted, samples=100)
    same(
        ex.explain_image(pictures["cat"], looking, samples=100, batch_size=10, progress=False),
        stock(pictures["cat"], 0),
    )


# ---------------------------------------------------------------------------------------------------- texts and tables


def by_words(texts):
    p = np.array([0.1 + 0.5 * ("good" in text) + 0.3 * ("tea" in text.split()) for text in texts])
    return np.stack([1 - p, p], axis=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_text_has_the_coefficients_of_stock_lime(seed):
    text = "good tea, good day; a cup of tea for you & me"
    mine = ex.explain_text(text, by_words, label=1, samples=300, seed=seed, progress=False)
    theirs = LimeTextExplainer(random_state=seed).explain_instance(
        text, by_words, labels=(1,), num_features=10, num_samples=300
    )
    assert list(mine.weights) == theirs.as_list(label=1)
    assert [word for word, _ in mine.weights[:2]] == ["good", "tea"]


def test_the_most_probable_class_of_a_text_is_explained_not_class_1():
    assert ex.explain_text("rain again", by_words, samples=50, progress=False).label == 0


def test_a_text_of_one_word_is_explained_by_it_and_none_is_refused():
    found = ex.explain_text("good", by_words, samples=50, progress=False)
    assert found.weights == (("good", pytest.approx(0.5)),) and found.intercept == pytest.approx(0.1)
    for empty in ("", " ", "…!"):
        with pytest.raises(ValueError, match="at least one word"):
            ex.explain_text(empty, by_words, progress=False)
    with pytest.raises(TypeError, match="text must be a text"):
        ex.explain_text(None, by_words, progress=False)


def test_a_highlighted_text_is_safe_html():
    text = "good <script>alert(1)</script> tea"
    html = ex.highlighted(text, ex.explain_text(text, by_words, label=1, samples=100, progress=False))
    assert "<script>" not in html and "&lt;" in html and "underline" in html


@pytest.fixture(scope="module")
def table():
    data = load_breast_cancer()
    return data, RandomForestClassifier(20, random_state=0).fit(data.data, data.target)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_row_has_the_coefficients_of_stock_lime(table, seed):
    data, forest = table
    names = list(data.feature_names)
    mine = ex.explain_tabular(
        data.data[7], forest.predict_proba, data.data, features=names, label=1, samples=400, seed=seed
    )
    explainer = LimeTabularExplainer(data.data, feature_names=names, random_state=seed)
    theirs = explainer.explain_instance(
        data.data[7], forest.predict_proba, labels=(1,), num_features=10, num_samples=400
    )
    assert list(mine.weights) == theirs.as_list(label=1)


def test_a_pandas_row_is_taken_and_its_columns_name_the_features(table):
    data, forest = table
    frame = pd.DataFrame(data.data, columns=data.feature_names)
    found = ex.explain_tabular(frame.iloc[3], forest.predict_proba, frame, samples=200)
    assert any(name in found.weights[0][0] for name in data.feature_names)


def test_a_feature_that_never_varies_is_not_said_to_matter():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=200), np.full(200, 3.0), rng.normal(size=200)])

    def predict(x):
        p = 1 / (1 + np.exp(-2 * x[:, 0]))
        return np.stack([1 - p, p], axis=1)

    found = ex.explain_tabular(rows[0], predict, rows, label=1, samples=500)
    assert not any("x1" in name for name, _ in found.weights)
    assert "x0" in found.weights[0][0] and all(np.isfinite(weight) for _, weight in found.weights)


@pytest.mark.parametrize(
    ("row", "training", "words"),
    [
        (np.array([1.0, np.nan]), np.ones((9, 2)), "row must be finite"),
        (np.ones(2), np.full((9, 2), np.inf), "training must be finite"),
        (np.ones(3), np.ones((9, 2)), "row must have the 2 features"),
        (np.ones(2), np.ones((3, 2)), "at least 4 rows"),
        (np.array(["a", "b"]), np.ones((9, 2)), "row must be numbers"),
    ],
)
def test_a_table_that_cannot_be_explained_is_refused(row, training, words):
    with pytest.raises(ValueError, match=words):
        ex.explain_tabular(row, returning(0.5), training)


def test_felzenszwalb_has_the_settings_that_are_written_down(pictures):
    want = felzenszwalb(pictures["cat"], scale=100, min_size=150)
    assert len(np.unique(ex.segment(pictures["cat"], "felzenszwalb"))) == len(np.unique(want))
