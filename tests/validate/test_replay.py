"""Rows become the deployments that they measured, and are answered in their own units."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from planner.sources.catalog import Catalog
from planner.sources.measurements import memory_rows
from planner.spec.measurement import MemoryRow, SpeedRow
from planner.validate.memory_replay import predict
from planner.validate.replay import Book, Replay, lesser


def row(**changes: Any) -> SpeedRow:
    fields: dict[str, Any] = {
        "engine": "vllm", "engine_version": "0.26.0", "model": "meta-llama/Llama-3.1-8B", "quantization": "bf16",
        "kv_cache_dtype": "bf16", "accelerator": "h200-sxm", "metric": "itl_ms_mean", "value": 1.0, "source": "s",
        "url": "", "date": "2026-01-01", "load": "closed_loop", "concurrency": 32, "input_tokens": 1024,
        "output_tokens": 128, "step_tokens": 8192,
    }  # fmt: skip
    return SpeedRow.model_validate({**fields, **changes})


@pytest.fixture(scope="module")
def replay(catalog: Catalog) -> Replay:
    return Replay(Book(catalog), catalog.calibration)


def test_a_rate_is_the_inverse_of_a_time(replay: Replay) -> None:
    decode = row(load="bench", metric="decode_tokens_per_s", concurrency=8, input_tokens=0, output_tokens=0,
                 context_tokens=1000)  # fmt: skip
    step = decode.model_copy(update={"metric": "decode_step_ms"})
    assert replay.predict(decode) == pytest.approx(8 / (replay.predict(step) / 1e3))


def test_a_row_says_what_its_server_was_started_with(replay: Replay) -> None:
    plain = row(engine_version="0.10.2", load="bench", metric="decode_step_ms", input_tokens=0, context_tokens=500)
    told = plain.model_copy(update={"settings": "async_scheduling=true decode_graphs=full"})
    book = replay.book
    assert book.deployment(plain).engine.version == "0.10.2"
    assert book.deployment(plain).engine.defaults.async_scheduling is False
    assert book.deployment(told).engine.defaults.async_scheduling is True
    assert replay.predict(told) < replay.predict(plain)
    with pytest.raises(ValidationError):
        book.deployment(plain.model_copy(update={"settings": "no_such_default=1"}))


def test_a_model_that_was_cut_short_is_answered_with_the_layers_it_kept(replay: Replay) -> None:
    whole, half, one = (
        replay.predict(row(load="bench", metric="decode_step_ms", input_tokens=0, context_tokens=500, layers=n))
        for n in (0, 16, 1)
    )
    assert half == pytest.approx(whole - 16 * (whole - one) / 31)
    assert sum(len(g.layers) for g in replay.book.deployment(row(layers=16)).model.layers) == 16


def test_an_end_to_end_time_is_prefill_and_all_further_steps(replay: Replay) -> None:
    found = {
        m: replay.predict(row(load="static", metric=m, concurrency=4)) for m in ("e2e_s", "prefill_s", "itl_ms_mean")
    }
    assert found["e2e_s"] == pytest.approx(found["prefill_s"] + 127 * found["itl_ms_mean"] / 1e3)


def test_answers_of_one_length_keep_their_clients_in_step(replay: Replay) -> None:
    """First tokens come later, in groups, and the others faster; throughput hardly changes."""
    apart = {m: replay.predict(row(metric=m)) for m in ("ttft_ms_mean", "itl_ms_mean", "output_tokens_per_s")}
    alike = {m: replay.predict(row(metric=m, same_lengths=True)) for m in apart}
    assert alike["ttft_ms_mean"] > 1.5 * apart["ttft_ms_mean"]
    assert alike["itl_ms_mean"] < apart["itl_ms_mean"]
    assert alike["output_tokens_per_s"] == pytest.approx(apart["output_tokens_per_s"], rel=0.15)


def test_figures_without_the_start_have_shorter_first_tokens(replay: Replay) -> None:
    for metric in ("ttft_ms_mean", "ttft_ms_p99"):
        assert replay.predict(row(metric=metric, warm=True)) < 0.9 * replay.predict(row(metric=metric))
    for metric in ("itl_ms_mean", "output_tokens_per_s"):
        assert replay.predict(row(metric=metric, warm=True)) == replay.predict(row(metric=metric))


def test_a_build_without_a_number_is_the_newest(replay: Replay) -> None:
    releases = replay.book.catalog.releases("vllm")
    assert replay.book.release(row(engine_version="")) is releases[0]
    assert replay.book.release(row(engine_version="nightly-5b8c")) is releases[0]
    assert replay.book.release(row(engine_version="0.26.3")).version.startswith("0.26")


def test_the_lesser_of_two() -> None:
    assert lesser(2.0, 3.0) == lesser(3.0, 2.0) == 2.0


def logged(metric: str) -> list[MemoryRow]:
    return [r for r in memory_rows() if r.metric == metric and r.engine_version == "0.26.0" and r.total_gib]


@pytest.mark.parametrize(
    "measured", logged("kv_tokens"), ids=lambda r: f"{r.model} {r.quantization} {r.kv_cache_dtype}"
)
def test_kv_tokens_that_vllm_logged_on_an_h200(catalog: Catalog, measured: MemoryRow) -> None:
    """Dense, MoE, MLA, sliding windows, FP8, AWQ and MXFP4; two contexts and budgets."""
    assert predict(catalog, Book(catalog), measured) == pytest.approx(measured.value, rel=0.02)


def test_windowed_layers_keep_two_batches_in_flight(catalog: Catalog) -> None:
    """vLLM schedules ahead from 0.26: a window holds the tokens of two steps, so fewer fit."""
    (gpt_oss,) = [r for r in logged("kv_tokens") if r.model == "openai/gpt-oss-20b"]
    older = gpt_oss.model_copy(update={"engine_version": "0.19.0"})
    assert predict(catalog, Book(catalog), older) > 1.05 * predict(catalog, Book(catalog), gpt_oss)
