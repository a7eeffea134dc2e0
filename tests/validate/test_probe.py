"""The probe against endpoints of three protocols, sound and faulty, and against our own engine's server."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from planner.errors import UsageError
from planner.spec.plan import Figure, LedgerRow, MemoryLedger
from planner.units import GIB
from planner.validate.probe import probe, probe_checks
from planner.validate.probe.http import Client
from planner.validate.probe.load import percentile
from planner.validate.probe.memory import log_checks, metrics_checks, read_log, read_metrics
from planner.validate.probe.subject import Promise, promise_of
from planner.validate.verdict import Check


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


serving = _module("mock_endpoints").serving


def asked(url: str, promise: Promise | None = None, **options: Any) -> dict[str, Check]:
    options = {"load": False} | options
    return {c.name: c for c in probe_checks(Client(url, timeout_s=10), promise or Promise(), **options)}


@pytest.mark.parametrize("protocol", ["vllm", "tgi", "ollama", "llamacpp"])
def test_a_sound_endpoint_passes(protocol: str) -> None:
    with serving(protocol) as url:
        found = asked(url + "/v1/", Promise(served_name="mock"), load=True, concurrency=2, requests=4)
    assert {n: c for n, c in found.items() if c.status == "failed"} == {}
    for name in ("health", "models", "chat", "completions", "chat stream", "completions stream", "max_tokens", "stop"):
        assert found[name].status == "passed", found[name]
    for name in ("seed", "JSON schema", "error shapes", "load"):
        assert found[name].status == "passed", found[name]
    own = {
        "tgi": "TGI /generate", "ollama": "Ollama /api/chat", "vllm": "metrics", "llamacpp": "llama.cpp /completion",
    }[protocol]  # fmt: skip
    assert found[own].status == "passed"
    assert found["over-long context"].status == ("skipped" if protocol == "ollama" else "passed")


@pytest.mark.parametrize(
    ("protocol", "fault", "names"),
    [
        ("vllm", "health", ["health"]),
        ("vllm", "usage", ["chat", "completions", "chat stream"]),
        ("vllm", "max_tokens", ["max_tokens"]),
        ("vllm", "stop", ["stop"]),
        ("vllm", "seed", ["seed"]),
        ("vllm", "schema", ["JSON schema"]),
        ("vllm", "errors", ["error shapes"]),
        ("vllm", "overlong", ["over-long context"]),
        ("vllm", "finish", ["chat stream", "completions stream"]),
        ("vllm", "done", ["chat stream", "completions stream"]),
        ("vllm", "mute", ["chat", "seed"]),
        ("vllm", "drops", ["chat", "seed"]),
        ("tgi", "native", ["TGI /generate", "TGI stream"]),
        ("ollama", "native", ["Ollama /api/generate", "Ollama /api/chat", "Ollama stream"]),
        ("llamacpp", "native", ["llama.cpp /completion", "llama.cpp /props"]),
    ],
)
def test_a_fault_is_found_by_its_check(protocol: str, fault: str, names: list[str]) -> None:
    with serving(protocol, fault) as url:
        found = asked(url, Promise(grammar=True, engine=protocol))
    for name in names:
        assert found[name].status == "failed", found[name]
    sound = {"max_tokens", "stop", "error shapes"} - set(names)
    assert fault in ("drops", "mute", "usage") or any(found[name].status == "passed" for name in sound)


def test_a_prompt_of_no_counted_tokens_was_not_cut() -> None:
    with serving("vllm", "overlong", "uncounted") as url:
        assert asked(url)["over-long context"].status == "failed"


def test_another_model_or_context_than_planned_fails() -> None:
    with serving() as url:
        assert "no model 'other' here" in asked(url, Promise(served_name="other"))["models"].detail
        assert "planned 512" in asked(url, Promise(max_model_len=512))["models"].detail


def test_an_endpoint_that_lists_no_model_is_asked_for_the_one_that_is_named() -> None:
    with serving("vllm", "unlisted") as url:
        silent, named = probe(url, load=False), probe(url, model="mock", load=False)
    found, asked_for = ({c.name: c for c in verdict.checks} for verdict in (silent, named))
    assert found["OpenAI API"].status == "skipped" and "--model" in found["OpenAI API"].detail
    assert asked_for["models"].status == "failed" and asked_for["chat"].status == "passed"


def test_a_missing_key_is_said() -> None:
    with serving("vllm", "locked") as url:
        assert "--api-key-env" in asked(url)["models"].detail


def test_a_stop_string_is_looked_for_in_other_answers_too() -> None:
    with serving("vllm", "mumbles") as url:
        check = asked(url)["stop"]
    assert check.status == "passed", check


def test_a_schema_nobody_promised_is_skipped() -> None:
    with serving("vllm", "schema") as url:
        assert asked(url)["JSON schema"].status == "skipped"


def figure(value: float, unit: str) -> Figure:
    return Figure(value=value, low=value * 0.5, high=value * 1.5, unit=unit, basis="fitted")


@pytest.mark.parametrize(("ttft", "rate", "status"), [(1e4, 1.0, "passed"), (0.001, 1e9, "failed")])
def test_load_is_compared_with_the_planned_bands(ttft: float, rate: float, status: str) -> None:
    promise = Promise(
        engine="vllm", concurrency=3, input_tokens=40, output_tokens=8, ttft_ms=figure(ttft, "ms"),
        itl_ms=figure(ttft, "ms"), output_tokens_per_s=figure(rate, "tokens/s"),
    )  # fmt: skip
    seen: list[tuple[int, int]] = []
    with serving("vllm", "strict", delay_s=0.002) as url:
        found = asked(url, promise, load=True, progress=lambda done, total: seen.append((done, total)))
    assert [found[n].status for n in ("TTFT", "ITL", "throughput")] == [status] * 3
    assert found["load"].figures["requests"] == 9 and sorted(seen) == [(i, 9) for i in range(1, 10)]
    assert float(found["ITL"].figures["p50_ms"] or 0) >= 2
    assert float(found["TTFT"].figures["p50_ms"] or 0) >= 2


def test_another_load_than_planned_is_not_compared() -> None:
    promise = Promise(concurrency=8, input_tokens=40, output_tokens=8, ttft_ms=figure(1e-6, "ms"))
    with serving() as url:
        check = asked(url, promise, load=True, concurrency=2)["TTFT"]
    assert check.status == "skipped" and "not the planned one" in check.detail


def test_nobody_listening_fails_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        verdict = probe(url)
    assert [c.name for c in verdict.checks] == ["reachable"] and verdict.exit_code == 1


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "file:///etc/passwd"])
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        probe(url)


def test_credentials_in_a_url_are_not_shown() -> None:
    assert Client("http://user:secret@host:1/v1").url == "http://host:1"


LOG = """
(Worker pid=1) INFO 11-24 [gpu_model_runner.py:2653] Model loading took 14.9889 GiB and 3.1 seconds
(Worker pid=2) INFO 11-24 [gpu_model_runner.py:2653] Model loading took 14.9000 GiB and 3.1 seconds
(Worker pid=1) INFO 11-24 [gpu_worker.py:298] Available KV cache memory: 50.00 GiB
(EngineCore) INFO 11-24 [kv_cache_utils.py:1087] GPU KV cache size: 409,600 tokens
(EngineCore) INFO 11-24 [kv_cache_utils.py:1091] Maximum concurrency for 8,192 tokens per request: 50.00x
"""


def ledger(weights_gib: float, kv_gib: float, tokens: int) -> MemoryLedger:
    rows = [("weights", weights_gib), ("kv_cache", kv_gib)]
    made = tuple(
        LedgerRow.model_validate({"item": n, "bytes": round(v * GIB), "formula": "", "why": "", "basis": "exact"})
        for n, v in rows
    )
    return MemoryLedger(
        device="x", device_bytes=80 * GIB, rows=made, kv_cache_tokens=tokens, kv_bytes_per_token=131072,
        largest_context_tokens=tokens, concurrent_sequences=tokens // 8192, fits=True,
    )  # fmt: skip


def test_a_start_up_log_is_read() -> None:
    logged = read_log(LOG)
    assert logged.weights_bytes == round(14.9889 * GIB) and logged.kv_bytes == 50 * GIB
    assert (logged.kv_tokens, logged.concurrency, logged.concurrency_tokens) == (409600, 50.0, 8192)
    assert read_log("Model loading took 12.5 GB\n# GPU blocks: 27,896, # CPU blocks: 1").blocks == 27896
    on_cpu = read_log(
        "Explicitly set (1.0/23.54) GiB for KV cache on node 0.\n"
        "CPU KV cache size: 1,048,576 tokens, Maximum concurrency for 512 tokens per request: 2048.00x"
    )
    assert (on_cpu.kv_bytes, on_cpu.kv_tokens, on_cpu.concurrency) == (1 << 30, 1_048_576, 2048.0)
    assert log_checks("nothing", None, None)[0].status == "skipped"


def test_a_log_is_held_against_the_ledger() -> None:
    good = log_checks(LOG, ledger(14.98, 51.0, 415_000), 8192)
    assert [c.status for c in good] == ["passed"] * 4
    bad = {c.name: c.status for c in log_checks(LOG, ledger(7.5, 51.0, 500_000), 4096)}
    assert bad == {
        "log: weights": "failed", "log: KV memory": "passed", "log: KV tokens": "failed", "log: concurrency": "failed",
    }  # fmt: skip


def test_metrics_are_held_against_the_ledger() -> None:
    text = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="1000",x="a\\"b"} 1.0\n# HELP x\nbroken\ny NaNs\n'
    assert read_metrics(text) == {
        "vllm:cache_config_info": [({"block_size": "16", "num_gpu_blocks": "1000", "x": 'a"b'}, 1.0)]
    }
    assert metrics_checks(text, ledger(1, 1, 16_100))[0].status == "passed"
    assert metrics_checks(text, ledger(1, 1, 32_000))[0].status == "failed"
    assert metrics_checks("process_cpu_seconds_total 1\n", None)[0].status == "skipped"


def test_a_plan_promises_its_load_and_limits(plan_named: Callable[[str], Any]) -> None:
    plan = plan_named("vllm-h100")
    promise = promise_of(plan)
    assert (promise.concurrency, promise.input_tokens, promise.output_tokens) == (32, 1024, 256)
    assert promise.max_model_len == plan.best.limits.max_model_len and promise.grammar
    assert promise.ttft_ms == plan.best.performance.ttft_ms.p50


def test_percentiles_are_values_that_occurred() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, p) for p in (1, 50, 90, 100)] == [1.0, 3.0, 5.0, 5.0]


def test_a_key_is_sent_only_when_it_is_given() -> None:
    assert Client("http://x", key="k")._headers == {"Authorization": "Bearer k"}
    assert Client("http://x")._headers == {}
