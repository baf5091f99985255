"""Latencies are those of what was called: sleeps of known length, known allocations, turns that alternate."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from helpers import latency
from helpers.latency import Latency, compare_latency, measure_latency


def test_a_sleep_is_timed_and_its_throughput_counts_the_batch():
    found = measure_latency(lambda: time.sleep(0.005), batch=4, warm_up=1, repeats=5)
    assert 0.005 <= found.p50 < 0.02
    assert found.per_second == pytest.approx(4 / found.p50)
    assert len(found.runs) == 5


def test_percentiles_are_measured_times_by_nearest_rank():
    found = Latency(tuple(float(n) for n in range(100, 0, -1)), batch=1, threads=1)
    assert (found.p50, found.p95, found.p99) == (50.0, 95.0, 99.0)
    assert Latency((3.0, 1.0), 1, 1).p99 == 3.0


def test_functions_take_turns_and_pairs_give_the_speed_up():
    order = []

    def slow():
        order.append("slow")
        time.sleep(0.02)

    def fast():
        order.append("fast")
        time.sleep(0.005)

    found = compare_latency({"slow": slow, "fast": fast}, warm_up=0, pairs=4)
    # each timed call comes after two that do not count, and there is one run of each before the pairs
    assert order[6::3] == ["slow", "fast", "fast", "slow"] * 2
    assert 2 < found.speed_up("fast", over="slow") < 5


def test_warm_up_does_not_count_and_the_first_slow_call_is_not_seen():
    calls = []

    def first_is_slow():
        calls.append(1)
        time.sleep(0.3 if len(calls) == 1 else 0.001)

    assert max(measure_latency(first_is_slow, warm_up=1, repeats=5).runs) < 0.25


@pytest.mark.parametrize(("seconds", "calls"), [(3e-6, 67), (3e-5, 7), (2e-4, 1), (0.1, 1)])
def test_a_call_too_short_for_the_timer_is_repeated_within_a_run(monkeypatch, seconds, calls):
    asked = []
    timer = SimpleNamespace(timeit=lambda number: asked.append(number) or SimpleNamespace(median=seconds))
    monkeypatch.setattr(latency, "timer_of", lambda function, threads: timer)
    found = measure_latency(lambda: None, warm_up=0, repeats=3)
    assert asked == [1, calls, calls, calls]
    assert (found.calls_per_run, found.p50) == (calls, seconds)


def test_a_short_call_is_timed_as_one_call():
    assert measure_latency(lambda: None, repeats=3).p50 < 1e-4


def test_threads_are_set_for_the_runs_and_put_back():
    before = torch.get_num_threads()
    seen = []
    measure_latency(lambda: seen.append(torch.get_num_threads()), repeats=1, warm_up=0, threads=1)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


def test_peak_memory_counts_what_lives_at_the_same_time():
    def two_at_once():
        one, two = torch.empty(1_000_000), torch.empty(1_000_000)
        return one[:1] + two[:1]

    def one_after_the_other():
        for _ in range(4):
            torch.empty(1_000_000)

    assert measure_latency(two_at_once, repeats=1, memory=True).peak_bytes == pytest.approx(8e6, rel=0.01)
    assert measure_latency(one_after_the_other, repeats=1, memory=True).peak_bytes == pytest.approx(4e6, rel=0.01)
    assert measure_latency(two_at_once, repeats=1).peak_bytes is None


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"repeats": 0}, ValueError, "pairs must be at least 1"),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
        ({"warm_up": -1}, ValueError, "warm_up must be at least 0"),
        ({"batch": 1.5}, TypeError, "batch must be a whole number, got float"),
    ],
)
def test_bad_settings_are_named_before_anything_runs(arguments, error, says):
    calls = []
    with pytest.raises(error, match=says):
        measure_latency(lambda: calls.append(1), **arguments)
    assert not calls


def test_what_cannot_be_called_is_named():
    with pytest.raises(TypeError, match="got int for 'it'"):
        measure_latency(3)
    with pytest.raises(ValueError, match="at least one"):
        compare_latency({})
