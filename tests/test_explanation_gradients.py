"""Gradients and Grad-CAM agree with captum and closed forms; bad pictures and models are refused by name."""

import numpy as np
import pytest
import torch
import wrong_answers as harness
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion, Saliency
from torch import nn

from helpers import datasets, models
from helpers import explanation as ex


def small(seed=0, classes=4):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    ).eval()


def picture(seed=0, size=16):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def lite0():
    return models.efficientnet_lite0()


# --- integrated gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 7, 30])
def test_integrated_gradients_by_hand_and_from_the_exercise_are_captums_to_1e_5(steps):
    model, x = small(), ex.to_input(picture(1))
    baseline = ex.to_input(picture(2))
    want = IntegratedGradients(model).attribute(x, baseline, target=2, n_steps=steps, method="riemann_middle")[0]
    by_hand = ex.path_integral(lambda z: model(z)[:, 2], x[0], baseline[0], steps)
    answered = harness.reference("5.4")[0](lambda z: model(z)[:, 2], x[0], baseline[0], steps)
    ours = ex.integrated_gradients(model, x, 2, baseline=baseline, steps=steps, batch_size=4)
    for got in (by_hand, answered, ours.values[0]):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * want.abs().max().item())


def test_the_completeness_gap_is_captums_convergence_delta():
    model, x = small(), ex.to_input(picture(1))
    baseline = ex.to_input(np.zeros((16, 16, 3), np.uint8))
    values, delta = IntegratedGradients(model).attribute(
        x, baseline, target=1, n_steps=5, method="riemann_middle", return_convergence_delta=True
    )
    gap = harness.reference("5.4")[1](lambda z: model(z)[:, 1], x[0], baseline[0], values[0])
    assert gap == pytest.approx(delta.item(), abs=1e-5)
    assert ex.integrated_gradients(model, x, 1, steps=5).error == pytest.approx(abs(gap), abs=1e-5)


def test_a_linear_model_is_explained_exactly_whatever_the_steps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, 2)).eval()
    x = torch.randn(1, 3, 3, 3)
    baseline = torch.randn(1, 3, 3, 3)
    found = ex.integrated_gradients(model, x, 1, baseline=baseline, steps=2)
    torch.testing.assert_close(found.values, (x - baseline) * model[1].weight[1].view(1, 3, 3, 3))
    assert found.error < 1e-5


def test_completeness_gets_better_with_steps_on_a_smooth_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
    x = torch.randn(1, 3, 3, 3)
    errors = [ex.integrated_gradients(model, x, 0, steps=steps).error for steps in (4, 16, 64)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


# --- Grad-CAM, saliency, occlusion ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_grad_cam_by_hand_and_from_the_exercise_are_captums_to_1e_6(seed):
    model, x = small(seed), ex.to_input(picture(seed))
    layer = model[2]
    want = LayerGradCam(model, layer).attribute(x, target=3, relu_attributions=True)
    want = LayerGradCam.interpolate(want, (16, 16), interpolate_mode="bilinear")[0, 0].detach()
    kept = {}
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.update(maps=output))
    logit = model(x)[0, 3]
    handle.remove()
    (gradients,) = torch.autograd.grad(logit, kept["maps"])
    for got in (
        ex.cam_of(kept["maps"][0].detach(), gradients[0], (16, 16)),
        harness.reference("5.7")[0](kept["maps"][0].detach(), gradients[0], (16, 16)),
        ex.grad_cam(model, x, 3, layer),
    ):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_grad_cam_on_the_last_maps_of_lite0_is_the_class_activation_map(lite0):
    """Zhou et al., 2016: behind mean pooling and one linear layer the gradient is the class's weight / places."""
    x = ex.to_input(ex.centre_crop(datasets.photographs()["coffee"]))
    with torch.no_grad():
        target = int(lite0(x).argmax())
        maps = lite0.features(x)[0]
    coarse = torch.einsum("c,chw->hw", lite0.classifier.weight[target].detach() / 49, maps).relu()
    want = torch.nn.functional.interpolate(coarse[None, None], (224, 224), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(ex.grad_cam(lite0, x, target, lite0.head), want, rtol=1e-4, atol=1e-5)


def test_saliency_and_occlusion_are_captums():
    model, x = small(), ex.to_input(picture(3))
    want = Saliency(model).attribute(x, target=0, abs=False)
    torch.testing.assert_close(ex.saliency(model, x, 0), want)
    covered = Occlusion(model).attribute(x, (3, 4, 4), strides=(3, 4, 4), target=0)[0, 0]
    got = ex.occlusion(model, x, 0, patch=4, stride=4, batch_size=3)
    torch.testing.assert_close(got, covered, rtol=1e-4, atol=1e-5)


def test_smooth_grad_without_noise_is_saliency_and_repeats_with_its_seed():
    model, x = small(), ex.to_input(picture(3))
    torch.testing.assert_close(ex.smooth_grad(model, x, 1, noise=0.0, samples=3), ex.saliency(model, x, 1))
    first, again, other = (ex.smooth_grad(model, x, 1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_explanation_leaves_the_model_and_the_random_state_alone():
    model, x = small(), ex.to_input(picture(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    for method in (ex.saliency, ex.integrated_gradients, ex.smooth_grad, ex.occlusion):
        method(model, x, 1, **({"patch": 4, "stride": 4} if method is ex.occlusion else {}))
    ex.grad_cam(model, x, 1, model[2])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


# --- pictures ----------------------------------------------------------------------------------------------------


def test_the_crop_is_what_the_network_sees_to_half_a_grey_level():
    photo = datasets.photographs()["cat"]
    seen = ex.centre_crop(photo)
    assert seen.shape == (224, 224, 3)
    assert seen.dtype == np.uint8
    assert (ex.to_input(seen)[0] - models.efficientnet_preprocess(photo)).abs().max() <= 0.51 / 128


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (np.zeros((8, 8), np.uint8), ValueError, r"\(b, h, w, 3\)"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r"\(8, 8, 4\)"),
        (np.full((8, 8, 3), np.nan), ValueError, "NaN"),
        (np.full((8, 8, 3), 0.7), ValueError, "0 to 255"),
        ([[0, 1]], TypeError, "numpy array"),
        (np.array("cat"), TypeError, "numbers"),
    ],
)
def test_a_picture_of_another_kind_is_refused_by_name(given, error, says):
    with pytest.raises(error, match=says):
        ex.to_input(given)


def test_float_grey_levels_and_strided_pictures_are_right():
    whole = picture(0)
    torch.testing.assert_close(ex.to_input(whole.astype(float)), ex.to_input(whole))
    turned = np.ascontiguousarray(whole.transpose(1, 0, 2))
    assert torch.equal(ex.to_input(turned.transpose(1, 0, 2)), ex.to_input(whole))


def test_models_that_cannot_be_explained_are_refused():
    image = picture(0)
    with pytest.raises(ValueError, match="evaluation mode"):
        ex.predictor(small().train())
    with pytest.raises(ValueError, match="at least two classes"):
        ex.predictor(small(classes=1))(image[None])
    broken = small()
    broken[0].weight.data[:] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        ex.predictor(broken)(image[None])
    with pytest.raises(ValueError, match="from 0 to 3"):
        ex.scorer(small(), 4)(image[None])
    with pytest.raises(ValueError, match="from 0 to 3"):
        ex.saliency(small(), ex.to_input(image), 4)
    with pytest.raises(ValueError, match="one input"):
        ex.saliency(small(), ex.to_input(np.stack([image, image])), 0)
    with pytest.raises(ValueError, match="layer must be"):
        ex.grad_cam(small(), ex.to_input(image), 0, nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="stride"):
        ex.occlusion(small(), ex.to_input(image), 0, patch=99)
    with pytest.raises(ValueError, match="steps"):
        ex.integrated_gradients(small(), ex.to_input(image), 0, steps=1)
    with pytest.raises(ValueError, match="x's shape"):
        ex.integrated_gradients(small(), ex.to_input(image), 0, baseline=torch.zeros(1, 3, 8, 8))


def test_probabilities_are_the_softmax_whatever_the_batch_size():
    model, images = small(), np.stack([picture(seed) for seed in range(5)])
    want = torch.softmax(model(ex.to_input(images)), 1).detach().numpy()
    for batch_size in (1, 2, 64):
        np.testing.assert_allclose(ex.predictor(model, batch_size=batch_size)(images), want, rtol=1e-5)
    np.testing.assert_allclose(ex.scorer(model, 2)(images), want[:, 2], rtol=1e-5)
