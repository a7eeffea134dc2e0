"""Operator laws: rooflines, experts, windows and links behave as arithmetic says they must."""

from __future__ import annotations

import random

import numpy as np
import pytest

from planner.estimate import ops


@pytest.mark.parametrize(("compute", "memory"), [(1.0, 1.0), (3.0, 0.5), (0.0, 2.0), (1e-6, 1e-3)])
def test_overlapping_work_takes_at_least_the_longer_part_and_at_most_both(compute: float, memory: float) -> None:
    seconds = ops.knee(compute, memory, 3.0)
    assert max(compute, memory) <= seconds * (1 + 1e-12)
    assert seconds <= compute + memory


EVENLY = 1e9


@pytest.mark.parametrize("evenness", [1.0, 2.0, EVENLY])
def test_one_token_touches_its_experts_and_a_crowd_touches_all(evenness: float) -> None:
    assert ops.experts_touched(1.0, 128, 8, evenness) == pytest.approx(8.0)
    assert ops.experts_touched(0.25, 128, 8, evenness) == pytest.approx(2.0)
    assert ops.experts_touched(1e6, 128, 8, evenness) == pytest.approx(128.0, rel=1e-4)
    assert ops.experts_touched(17.0, 4, 4, evenness) == 4.0


@pytest.mark.parametrize("tokens", [2.0, 16.0, 64.0, 256.0])
def test_favourite_experts_leave_more_of_the_others_untouched(tokens: float) -> None:
    touched = [ops.experts_touched(tokens, 256, 8, evenness) for evenness in (1.0, 2.0, 8.0, EVENLY)]
    assert touched == sorted(touched)
    assert 8.0 < touched[0] < touched[-1] < 256.0


def test_the_step_of_a_tile_lies_just_above_its_rows() -> None:
    assert [ops.beyond(t, 16.0) for t in (1.0, 16.0, 16.5, 17.0, 900.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_expected_touched_experts_agree_with_drawing_them() -> None:
    draw = random.Random(7)
    trials = [len({e for _ in range(12) for e in draw.sample(range(64), 6)}) for _ in range(3000)]
    assert ops.experts_touched(12.0, 64, 6, EVENLY) == pytest.approx(sum(trials) / len(trials), rel=0.01)


@pytest.mark.parametrize("window", [None, 1, 7, 64])
@pytest.mark.parametrize(("new", "context"), [(1, 0), (40, 0), (40, 25), (5, 200)])
def test_attended_tokens_count_what_each_position_sees(new: int, context: int, window: int | None) -> None:
    exact = sum(min(p + 0.5, window or 1e9) for p in range(context, context + new))
    found = ops.attended_tokens(float(new), float(context), None if window is None else float(window))
    assert found == pytest.approx(exact, abs=0.51)


def test_multiplying_more_tokens_is_never_faster_and_ends_up_compute_bound() -> None:
    times = [ops.gemm_s(float(t), 1e9, 2e9, 5e14, 2e12, 16.0, 3.0) for t in (1, 8, 64, 512, 4096)]
    assert times == sorted(times)
    assert times[0] == pytest.approx(2e9 / 2e12, rel=0.01)
    assert times[-1] == pytest.approx(2 * 1e9 * (4096 + 16) / 5e14, rel=0.01)


def test_grouped_experts_at_one_token_read_only_the_chosen_ones() -> None:
    seconds = ops.grouped_gemm_s(1.0, 64, 4, 1e8, 2e8, 1e15, 1e12, 1.0, 3.0, 2.0)
    assert seconds == pytest.approx(4 * 2e8 / 1e12, rel=0.01)


def test_an_all_reduce_costs_nothing_alone_and_more_with_each_device() -> None:
    assert ops.allreduce_s(1e6, 1, 1e11, 1e-5, 1e-5) == 0.0
    for payload in (1e3, 1e6, 1e9):
        times = [ops.allreduce_s(payload, n, 1e11, 1e-5, 1e-5) for n in (2, 4, 8)]
        assert times == sorted(times)
    assert ops.allreduce_s(1e6, 2, 1e11, 1e-5, 1e-5) == pytest.approx(2e-5 + 1e6 / 1e11)


def test_an_all_reduce_takes_the_shorter_of_its_two_ways() -> None:
    latency, stage, rate = 4e-6, 5e-6, 1e11
    small, large = 1e4, 1e8
    assert ops.allreduce_s(small, 8, rate, latency, stage) == pytest.approx(4 * latency + 7 * small / rate)
    assert ops.allreduce_s(large, 8, rate, latency, stage) == pytest.approx(4 * latency + stage + 1.75 * large / rate)


def test_kernels_that_go_by_size_reduce_in_two_stages_from_a_payload_on() -> None:
    latency, stage, rate, limit = 4e-6, 2e-5, 1e11, 262144.0

    def seconds(payload: float) -> float:
        return ops.allreduce_s(payload, 8, rate, latency, stage, one_stage_bytes=limit)

    assert seconds(limit - 1) == pytest.approx(4 * latency + 7 * (limit - 1) / rate)
    assert seconds(limit) == pytest.approx(4 * latency + stage + 1.75 * limit / rate)
    assert seconds(limit) > ops.allreduce_s(limit, 8, rate, latency, stage) > seconds(limit - 1)


@pytest.mark.parametrize(("devices", "crossing"), [(2, 1.0), (4, 1.25), (8, 1.125)])
def test_a_switch_that_reduces_spares_links(devices: int, crossing: float) -> None:
    times = [ops.allreduce_s(p, devices, 1e11, 1e-6, 1e-6, True) for p in (1e9, 2e9)]
    assert times[1] - times[0] == pytest.approx(crossing * 1e9 / 1e11)


@pytest.mark.parametrize(
    "law",
    [
        lambda t: ops.gemm_s(t, 1e9, 1e9, 1e14, 1e12, 16.0, 3.0),
        lambda t: ops.grouped_gemm_s(t, 128, 8, 1e7, 1e7, 1e14, 1e12, 8.0, 3.0, 2.0),
        lambda t: ops.attended_tokens(t, 100.0 + 0.0 * t, 64.0),
        lambda t: ops.allreduce_s(t, 4, 1e11, 1e-5, 1e-5),
        lambda t: ops.allreduce_s(t, 8, 1e11, 1e-5, 1e-5, one_stage_bytes=200.0),
        lambda t: ops.exchange_s(t, 4, 1e11, 1e-5),
        lambda t: ops.experts_touched(t, 128, 8, 2.0),
        lambda t: ops.beyond(t, 16.0),
        lambda t: ops.lesser(t, 50.0),
        lambda t: ops.hop_s(t, 1e10, 1e-6),
    ],
)
def test_arrays_give_what_floats_give(law: object) -> None:
    tokens = [1.0, 17.0, 300.0, 8192.0]
    assert callable(law)
    assert list(law(np.array(tokens))) == pytest.approx([law(t) for t in tokens])
