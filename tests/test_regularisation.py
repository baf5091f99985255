"""The regularisers agree with the libraries that do them in earnest, and the training loop keeps its promises."""

import math
import os
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import datasets, models
from helpers import regularisation as reg

SHAPES = [(3,), (4, 5), (2, 3, 4)]


def digits(count=120, seed=0):
    x, y = datasets.digits()
    order = np.random.default_rng(seed).permutation(len(y))
    x, y = torch.from_numpy(x / 16).float()[order], torch.from_numpy(y).long()[order]
    return reg.Data(x[:count], y[:count], x[count : count + 100], y[count : count + 100]), x[500:900], y[500:900]


def network(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 10))


# --- written out, against torch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decoupled", [True, False])
def test_many_steps_of_adam_are_torchs_to_1e_7(shape, decoupled):
    generator = torch.Generator().manual_seed(len(shape))
    ours = torch.randn(shape, generator=generator, dtype=torch.float64)
    theirs = nn.Parameter(ours.clone())
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimiser = kind([theirs], lr=0.03, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.2)
    state = reg.AdamState.zeros_like(ours)
    for _ in range(25):
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        given = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.2, "decoupled": decoupled}
        ours, state = reg.adam_step(ours, gradient, state, **given)
        theirs.grad = gradient
        optimiser.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.8, 1.0])
def test_dropout_has_the_statistics_of_torchs(p):
    x = torch.full((400, 500), 2.0)
    ours = reg.dropout(x, p, True, torch.Generator().manual_seed(0))
    theirs = F.dropout(x, p, True)
    assert set(ours.unique().tolist()) == set(theirs.unique().tolist())
    assert abs((ours == 0).float().mean() - (theirs == 0).float().mean()) < 0.01
    assert reg.dropout(x, p, False) is x
    with pytest.raises(ValueError, match="p must be"):
        reg.dropout(x, p + 1.1, False)


def test_stochastic_depth_leaves_out_whole_samples_like_torchvisions():
    from torchvision.ops import stochastic_depth

    x = torch.ones(2000, 3, 4)
    for one in (reg.stochastic_depth(x, 0.3, True), stochastic_depth(x, 0.3, "row", True)):
        kept = one[:, 0, 0] != 0
        assert (one == one[:, :1, :1]).all()
        assert abs(kept.float().mean() - 0.7) < 0.05
        torch.testing.assert_close(one[kept], torch.full_like(one[kept], 1 / 0.7))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7, 1.0])
def test_label_smoothing_is_torchs(smoothing):
    logits, y = torch.randn(9, 6, dtype=torch.float64) * 5, torch.randint(0, 6, (9,))
    ours = reg.smoothed_cross_entropy(logits, y, smoothing)
    torch.testing.assert_close(ours, F.cross_entropy(logits, y, label_smoothing=smoothing))


def test_mixup_and_cutmix_keep_what_torchvisions_keep():
    x, y = torch.rand(8, 3, 10, 12), F.one_hot(torch.arange(8) % 4, 4).float()
    for method in (reg.mixup, reg.cutmix):
        mixed, targets = method(x, y, 1.0, torch.Generator().manual_seed(3))
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
        assert mixed.shape == x.shape
        assert not torch.equal(mixed, x)
    share = (mixed == x).float().mean((1, 2, 3))  # CutMix: the pasted part is the other's part of the target
    own = (targets * y).sum(1)
    other = torch.isclose(own, share, atol=1e-6) | (own > share)  # the other may have the same class
    assert other.all()
    with pytest.raises(ValueError, match="alpha"):
        reg.mixup(x, y, 0.0, torch.Generator())


def test_cutmix_of_series_cuts_the_series_and_not_the_batch():
    x, y = torch.arange(6.0)[:, None].expand(6, 40), torch.eye(6)
    mixed, targets = reg.cutmix(x, y, 1.0, torch.Generator().manual_seed(1))
    for row, target in zip(mixed, targets, strict=True):
        shares = torch.bincount(row.long(), minlength=6) / 40
        torch.testing.assert_close(shares, target, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_averaged_weights_are_those_of_torchs_averaged_model(kind):
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = network()
    ours = reg.EMA(decay=0.9) if kind == "ema" else reg.SWA()
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9) if kind == "ema" else None)
    for _ in range(7):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        ours.update(model)
        theirs.update_parameters(model)
    for name, value in theirs.module.state_dict().items():
        torch.testing.assert_close(ours.average[name], value)


def test_temperature_and_calibration_error_of_a_model_that_is_twice_too_sure():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)  # drawn from p, so p is calibrated
    assert reg.expected_calibration_error(p, y) < 0.02
    sure = np.exp(2 * logits) / np.exp(2 * logits).sum(1, keepdims=True)
    assert reg.expected_calibration_error(sure, y) > 0.1
    assert reg.temperature(2 * logits, y) == pytest.approx(2, rel=0.05)
    for bad in ((p[:0], y[:0]), (p, y[:5]), (logits, y)):
        with pytest.raises(ValueError):
            reg.expected_calibration_error(*bad)


def test_exposure_is_ten_bits_for_the_first_of_1024_and_nothing_for_one_that_cannot_be_told_apart():
    others = np.arange(1.0, 1024.0)
    assert reg.exposure(0.5, others) == 10
    assert reg.exposure(2000.0, others) == 0
    assert reg.exposure(3.0, np.full(7, 3.0)) == 0
    with pytest.raises(ValueError, match="NaN"):
        reg.exposure(math.nan, others)


def test_sequence_losses_are_the_models_log_probabilities():
    model = models.GPT(models.GPTConfig(context=12, layers=1, heads=1, width=8))
    text = b"SECRET = 123"
    tokens = torch.tensor([list(text)])
    want = -sum(model(tokens[:, :k])[0, -1].log_softmax(0)[text[k]].item() for k in range(1, 12))
    assert reg.sequence_losses(model, [text])[0] == pytest.approx(want, rel=1e-4)


def test_planted_blocks_are_copies_that_exact_deduplication_removes():
    blocks = datasets.code_blocks(32, 400)
    strings = reg.canaries(3, digits=6)
    planted = reg.plant(blocks, strings, [1, 5, 20])
    found = [(planted[:, : len(s)] == np.frombuffer(s, np.uint8)).all(1).sum() for s in strings]
    assert found == [1, 5, 20]
    clean = np.unique(planted, axis=0)
    assert all((clean[:, : len(s)] == np.frombuffer(s, np.uint8)).all(1).sum() == 1 for s in strings)


def test_renamed_code_computes_the_same():
    loop = "    for one in more:\n        total += one\n"
    source = f"def area(width, height=2, *more):\n    total = width * height\n{loop}    return total\n"
    changed = reg.renamed(source, np.random.default_rng(0))
    before, after = {}, {}
    exec(source, before)
    exec(changed, after)
    assert "total" not in changed and "width" not in changed
    assert before["area"](3, 4, 5) == after["area"](3, 4, 5)
    assert reg.renamed("def broken(:", np.random.default_rng(0)) == "def broken(:"


# --- parameter groups, curves, double descent ---------------------------------------------------------------------


def test_groups_hold_each_trainable_parameter_once_and_a_tied_embedding_without_decay():
    model = models.GPT(models.GPTConfig(layers=1, width=16, heads=2))
    groups = reg.parameter_groups(model, 0.1)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted({id(p) for p in model.parameters()})
    assert id(model.tokens.weight) in {id(p) for p in groups[1]["params"]}
    assert all(p.dim() == 2 for p in groups[0]["params"])
    with pytest.raises(ValueError, match="weight_decay"):
        reg.parameter_groups(model, -1)


def test_random_features_are_scikit_learns_ridge_and_descend_twice():
    from sklearn.linear_model import Ridge

    x, y = datasets.digits()
    model = reg.RandomFeatures(50, ridge=2.0).fit(x[:200], y[:200])
    theirs = Ridge(alpha=2.0, fit_intercept=False).fit(model._features(x[:200]), np.eye(10)[y[:200]])
    np.testing.assert_allclose(model.weights, theirs.coef_.T, atol=1e-6)
    noisy = np.where(np.random.default_rng(0).random(300) < 0.15, (y[:300] + 1) % 10, y[:300])
    small, peak, wide = (reg.RandomFeatures(w).fit(x[:300], noisy).error(x[600:], y[600:]) for w in (60, 300, 2000))
    assert peak > 2 * small and peak > 2 * wide


def test_a_curve_refuses_sizes_that_do_not_increase():
    with pytest.raises(ValueError, match="increase"):
        reg.learning_curve(lambda n, seed: (0.0, 0.0), [3, 3])
    curve = reg.capacity_curve(lambda n, seed: (n, n + seed), [1, 2], seeds=(0, 2))
    assert curve.mean()[1].tolist() == [2, 3]


# --- the training loop --------------------------------------------------------------------------------------------


def test_the_loop_ends_with_the_weights_of_a_loop_written_by_hand():
    data, _, _ = digits()
    config = reg.TrainConfig(epochs=3, batch_size=32, lr=0.01, weight_decay=0.1, seed=5)
    ours, theirs = network(), network()
    history = reg.train(ours, data, config)
    matrices, biases = [theirs[0].weight, theirs[3].weight], [theirs[0].bias, theirs[3].bias]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    optimiser, generator = torch.optim.AdamW(groups, lr=0.01), torch.Generator().manual_seed(5)
    for _ in range(3):
        losses = []
        for rows in torch.randperm(120, generator=generator).split(32):
            loss = F.cross_entropy(theirs(data.x[rows]), data.y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(rows)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    assert history.running_loss[-1] == pytest.approx(np.mean(losses), rel=1e-5)
    right = (theirs.eval()(data.x_valid).argmax(1) == data.y_valid).float().mean().item()
    assert history.valid_accuracy[-1] == pytest.approx(right)
    assert history.steps == 12


def test_a_run_that_was_killed_goes_on_to_the_numbers_of_an_undisturbed_one(tmp_path):
    data, _, _ = digits()
    config = reg.TrainConfig(epochs=8, batch_size=32, lr=0.01)

    def callbacks():
        return [reg.Mixup(10), reg.EMA(0.9), reg.EarlyStopping(patience=3)]

    straight, resumed = network(0.3), network(0.3)
    torch.manual_seed(1)
    whole = reg.train(straight, data, config, callbacks())
    torch.manual_seed(1)

    class Killed(Exception):
        pass

    def kill(run):
        if run.epoch == 4:
            raise Killed

    with pytest.raises(Killed):
        reg.train(resumed, data, config, callbacks(), checkpoint=tmp_path / "run.pt", on_epoch=kill)
    resumed, torch_seed = network(0.3, seed=99), torch.manual_seed(77)
    assert torch_seed is not None
    history = reg.train(resumed, data, config, callbacks(), checkpoint=tmp_path / "run.pt")
    assert history.valid_loss == whole.valid_loss and history.stopped == whole.stopped
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="lr"):
        reg.train(
            network(), data, reg.TrainConfig(epochs=8, batch_size=32, lr=1), callbacks(), checkpoint=tmp_path / "run.pt"
        )


def test_early_stopping_restores_a_copy_of_the_best_weights_and_survives_nan():
    model, stopper = nn.Linear(1, 1), reg.EarlyStopping(patience=2)
    for number, score in enumerate([3.0, 1.0, math.nan], start=1):
        nn.init.constant_(model.weight, number)
        assert not stopper.update(score, model, number)
    nn.init.constant_(model.weight, 9)
    assert stopper.update(1.0, model, 4)
    stopper.restore_best(model)
    assert model.weight.item() == 2
    for bad in ({"patience": 0}, {"patience": True}, {"min_delta": -1.0}, {"mode": "least"}):
        with pytest.raises(ValueError):
            reg.EarlyStopping(**bad)


def test_early_stopping_keeps_the_averaged_weights_whose_score_was_the_best():
    data, _, _ = digits()
    model = network()
    stopper = reg.EarlyStopping(patience=3)
    history = reg.train(model, data, reg.TrainConfig(epochs=40, lr=0.05, batch_size=20), [reg.EMA(0.9), stopper])
    assert history.stopped
    assert reg.evaluate(model, data.x_valid, data.y_valid).loss == pytest.approx(min(history.valid_loss), rel=1e-6)


def test_bad_data_and_models_are_refused_before_any_work():
    x, y = torch.rand(10, 4), torch.randint(0, 2, (10,))
    y[:2] = torch.tensor([0, 1])
    for part, match in (
        ((x, y[:9]), "one target each"),
        ((x[:0], y[:0]), "is empty"),
        ((x, y, x[:0], y[:0]), "validation set is empty"),
        ((x, y.float()), "int64"),
        ((x, y * 0), "all class 0"),
        ((x, y, x), "belong together"),
    ):
        with pytest.raises(ValueError, match=match):
            reg.Data(*part)
    with pytest.raises(ValueError, match="no trainable parameter"):
        reg.train(nn.Linear(4, 2).requires_grad_(False), reg.Data(x, y))
    with pytest.raises(ValueError, match="no trainable parameter"):
        reg.train(nn.Flatten(), reg.Data(x, y))
    with pytest.raises(ValueError, match="needs a validation set"):
        reg.train(nn.Linear(4, 2), reg.Data(x, y), reg.TrainConfig(epochs=2), [reg.EarlyStopping()])
    with pytest.raises(TypeError, match="must be a Callback"):
        reg.train(nn.Linear(4, 2), reg.Data(x, y), reg.TrainConfig(epochs=1), [print])


def test_mnist1d_is_the_authors_and_leaves_random_states_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    x, y = datasets.mnist1d(100, seed=3)
    again, _ = datasets.mnist1d(100, seed=3)
    other, _ = datasets.mnist1d(100, seed=4)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert np.bincount(y).tolist() == [10] * 10 and x.shape == (100, 40) and x.dtype == np.float32
    assert (x == again).all() and not (x == other).all()
    with pytest.raises(ValueError, match="multiple of 10"):
        datasets.mnist1d(15)


# --- diagnosis, on real runs --------------------------------------------------------------------------------------


def test_diagnose_names_what_is_wrong_with_real_runs():
    data, x_test, y_test = digits(60)
    noisy = reg.Data(data.x, data.y.roll(1), data.x_valid, data.y_valid)  # labels that mean nothing
    leaking = reg.Data(
        torch.cat([noisy.x, data.x_valid]),
        torch.cat([noisy.y, data.y_valid.roll(1)]),
        data.x_valid,
        data.y_valid.roll(1),
    )
    for name, samples, settings in (
        ("overfit", noisy, {"epochs": 60, "lr": 0.01}),
        ("too short", digits(400)[0], {"epochs": 8, "lr": 5e-4}),
        ("underfit", data, {"epochs": 40, "lr": 0.01, "weight_decay": 60.0}),
        ("diverged", data, {"epochs": 12, "lr": 1e6, "optimiser": "sgd"}),
        ("leak", leaking, {"epochs": 60, "lr": 0.01}),
    ):
        model = network()
        history = reg.train(model, samples, reg.TrainConfig(**{"batch_size": 20, **settings}))
        test = reg.evaluate(model, x_test, y_test) if name == "leak" else None
        found = reg.diagnose(history, test=test)
        assert found.name == name, str(found)
        assert found.evidence and found.to_try
    model = network()
    good = reg.train(model, digits(400)[0], reg.TrainConfig(epochs=40, lr=0.01, weight_decay=0.3, schedule="cosine"))
    assert reg.diagnose(good).name == "fine", str(reg.diagnose(good))
    with pytest.raises(ValueError, match="at least 4"):
        reg.diagnose(reg.train(network(), data, reg.TrainConfig(epochs=2)))


# --- the comparison -----------------------------------------------------------------------------------------------


def small_budget():
    return reg.Budget(digits_for, network_for, reg.TrainConfig(epochs=3, batch_size=40, lr=0.01, evaluate_every=3))


def digits_for(seed):
    return digits(80, seed)


def network_for(dropout=0.0):
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 10))


METHODS = {
    "plain": reg.Method(),
    "dropout": reg.Method(model={"dropout": 0.3}),
    "mixup": reg.Method(callbacks=lambda: [reg.Mixup(10)]),
}


def measured(comparison):
    return comparison.runs.drop(columns="seconds")


def test_a_comparison_that_was_interrupted_gives_the_table_of_an_undisturbed_one(tmp_path, monkeypatch):
    from helpers.regularisation import comparing

    whole = reg.compare(METHODS, range(3), small_budget())
    cache, finished = tmp_path / "runs.jsonl", []
    original = comparing._one_run

    def interrupted(*job):
        if len(finished) == 4:
            raise KeyboardInterrupt
        finished.append(job)
        return original(*job)

    monkeypatch.setattr(comparing, "_one_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reg.compare(METHODS, range(3), small_budget(), cache=cache)
    monkeypatch.setattr(comparing, "_one_run", original)
    with cache.open("a") as file:
        file.write('{"key": "half a li')  # killed while writing
    again = reg.compare(METHODS, range(3), small_budget(), cache=cache)
    assert again.done_before == 4
    assert measured(again).equals(measured(whole))
    from_cache = reg.compare(METHODS, range(3), small_budget(), cache=cache)
    assert from_cache.done_before == 9
    assert from_cache.table().equals(again.table())


def test_a_full_disk_stops_a_comparison_and_loses_no_finished_run(tmp_path, monkeypatch):
    cache, write, lines = tmp_path / "runs.jsonl", os.write, []

    def full(file, line):
        if line.startswith(b'{"key"'):
            lines.append(line)
            return write(file, line[:30] if len(lines) == 3 else line)
        return write(file, line)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="disk is full"):
        reg.compare(METHODS, range(2), small_budget(), cache=cache)
    monkeypatch.undo()
    assert reg.compare(METHODS, range(2), small_budget(), cache=cache).done_before == 2
    assert reg.compare(METHODS, range(2), small_budget(), cache=cache).done_before == 6


def test_two_processes_give_the_numbers_of_one():
    one = reg.compare(METHODS, [4, 5], small_budget())
    two = reg.compare(METHODS, [4, 5], small_budget(), workers=2)
    assert measured(one).equals(measured(two))


def test_intervals_are_statsmodels_and_many_methods_need_a_smaller_risk():
    from statsmodels.stats.weightstats import DescrStatsW

    found = reg.compare(METHODS, range(5), small_budget())
    runs = found.runs.pivot(index="seed", columns="method", values="test_accuracy")
    row = found.table(confidence=0.9).loc["dropout"]
    low, high = DescrStatsW(runs["dropout"] - runs["plain"]).tconfint_mean(alpha=0.1)
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert found.table().loc["plain", "difference"] == 0


def test_a_changed_setting_is_not_read_from_the_cache(tmp_path):
    cache = tmp_path / "runs.jsonl"
    reg.compare({"plain": reg.Method()}, [0], small_budget(), cache=cache)
    other = reg.Budget(digits_for, network_for, reg.TrainConfig(epochs=4, batch_size=40, lr=0.01))
    assert reg.compare({"plain": reg.Method()}, [0], other, cache=cache).done_before == 0


def test_a_run_that_diverges_is_named_and_does_not_stop_the_others():
    methods = {"plain": reg.Method(), "too fast": reg.Method(config={"optimiser": "sgd", "lr": 1e18})}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = reg.compare(methods, [0, 1], small_budget()).runs.set_index("method")
    assert runs.loc["too fast", "diverged"].all() and not runs.loc["plain", "diverged"].any()


def test_a_comparison_refuses_what_cannot_be_compared():
    for given, match in (
        (({}, [0], small_budget()), "at least one method"),
        ((METHODS, [], small_budget()), "seeds"),
        ((METHODS, [1, 1], small_budget()), "seeds"),
        (({"a": reg.Method(), "b": reg.Method()}, [0], small_budget()), "the same"),
    ):
        with pytest.raises(ValueError, match=match):
            reg.compare(*given)
    with pytest.raises(ValueError, match="two seeds"):
        reg.compare({"plain": reg.Method()}, [0], small_budget()).table()
