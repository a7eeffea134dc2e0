"""The smoke test passes on a sound engine, and each planted defect fails the check that is there for it."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner import api
from planner.engine.blocks import BlockPool
from planner.engine.cache import PagedCache
from planner.engine.engine import Engine
from planner.engine.model import Model
from planner.engine.scheduler import Scheduler
from planner.engine.smoke_model import FOLDER
from planner.errors import UsageError
from planner.sources.catalog import load
from planner.spec.plan import Plan
from planner.validate import smoke
from planner.validate.bench import Bench
from planner.validate.twin import make_twin, seeded_weights
from planner.validate.verdict import Check

PlanNamed = Callable[[str], Plan]


@pytest.fixture(scope="module")
def bench(plan_named: PlanNamed) -> Bench:
    twin = make_twin(plan_named("vllm-tp2"))
    weights = seeded_weights(twin.engine_config, "x")
    whole, sharded = Model(twin.engine_config, weights), Model(twin.engine_config, weights, 2)
    return Bench(twin, load().format("fp32"), whole, sharded)


@pytest.mark.parametrize("name", ["vllm-tp2", "ollama-metal"])
def test_everything_passes_in_under_20_seconds(plan_named: PlanNamed, name: str) -> None:
    began = time.process_time()  # of an idle machine: what others take does not count
    checks = smoke.smoke(plan_named(name), load())
    assert time.process_time() - began < 20
    found = {check.name: check for check in checks}
    assert [c for c in checks if c.status == "failed"] == []
    assert {n for n, c in found.items() if c.status == "skipped"} <= {"HTTP: stop"}
    assert ("tensor parallel" in found) == (name == "vllm-tp2")
    assert (
        found["weights to the byte"].figures["allocated_bytes"] == found["weights to the byte"].figures["ledger_bytes"]
    )
    assert found["HTTP: over-long context"].detail.count("400") == 1
    assert "the twin's cache is fp32, the plan's" in found["KV blocks to the byte"].detail
    planned = plan_named(name).best.limits.max_num_seqs
    assert found["admission"].figures["ran_at_once"] == min(planned, 16)


@pytest.mark.parametrize(
    ("changes", "checks"),
    [
        ({"tie_word_embeddings": True}, ["weights to the byte"]),
        ({"final_norm_parameters": 63}, ["weights to the byte"]),
        ({"layers": "one more"}, ["weights to the byte", "KV blocks to the byte"]),
    ],
)
def test_a_ledger_of_another_model_differs(bench: Bench, changes: dict[str, Any], checks: list[str]) -> None:
    spec = bench.twin.spec
    if "layers" in changes:
        group = spec.layers[0]
        changes = {"layers": (group.model_copy(update={"layers": (*group.layers, spec.n_layers)}),)}
    twin = replace(bench.twin, spec=spec.model_copy(update=changes))
    other = Bench(twin, bench.fp32, bench.model, bench.sharded)
    found = {c.name: c.status for c in (smoke._weights(other), smoke._kv_blocks(other))}
    assert [name for name, status in found.items() if status == "failed"] == checks


def _write_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    original = PagedCache.write
    monkeypatch.setattr(PagedCache, "write", lambda self, layer, slots, k, v: original(self, layer, slots[::-1], k, v))


def _leak(monkeypatch: pytest.MonkeyPatch) -> None:
    original = BlockPool.release
    monkeypatch.setattr(BlockPool, "release", lambda self, blocks: original(self, list(blocks)[1:]))


def _lose_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Scheduler._preempt

    def preempt(self: Scheduler, sequence: Any) -> None:
        original(self, sequence)
        sequence.tokens[-1] = (sequence.tokens[-1] + 1) % 256

    monkeypatch.setattr(Scheduler, "_preempt", preempt)


def _one_seat_less(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Scheduler.schedule

    def schedule(self: Scheduler) -> Any:
        waiting = [self.waiting.pop() for _ in range(len(self.waiting)) if len(self.running) + len(self.waiting) > 15]
        work = original(self)
        self.waiting.extend(reversed(waiting))
        return work

    monkeypatch.setattr(Scheduler, "schedule", schedule)


def _no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "add", lambda self, prompt, params: 0)
    monkeypatch.setattr(Engine, "generate", lambda self, prompts, params: [[0]])


@pytest.mark.parametrize(
    ("defect", "check"),
    [
        (_write_backwards, smoke._paged),
        (_leak, smoke._admission),
        (_one_seat_less, smoke._admission),
        (_lose_a_token, smoke._preemption),
        (_no_limit, smoke._context),
    ],
)
def test_a_planted_defect_is_found(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    defect: Callable[[pytest.MonkeyPatch], None],
    check: Callable[[Bench], Check],
) -> None:
    assert check(bench).status == "passed"
    defect(monkeypatch)
    assert check(bench).status == "failed"


def test_a_wrong_slice_is_found(bench: Bench) -> None:
    weights = seeded_weights(bench.twin.engine_config, "x")
    weights["model.layers.0.self_attn.o_proj.weight"][:, 0] += 0.5
    wrong = Model(bench.twin.engine_config, weights, 2)
    assert smoke._tensor_parallel(bench).status == "passed"
    assert smoke._tensor_parallel(replace(bench, sharded=wrong)).status == "failed"


def write_checkpoint(folder: Path, plan: Plan) -> Path:
    """A directory with config.json and safetensors of the plan's twin."""
    twin = make_twin(plan)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(twin.config | {"torch_dtype": "float32"}))
    header, data = {}, b""
    for name, value in seeded_weights(twin.engine_config, "own").items():
        offsets = [len(data), len(data) + value.nbytes]
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": offsets}
        data += value.tobytes()
    written = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(written)) + written + data)
    return folder


def test_a_small_checkpoint_of_ones_own_runs_itself(plan_named: PlanNamed, tmp_path: Path) -> None:
    own = write_checkpoint(tmp_path / "own", plan_named("vllm-h100"))
    plan = api.recommend(str(own), "1xH100", input_tokens=64, output_tokens=32, engine="vllm").plan
    checks = smoke.smoke(plan, load())
    assert [c for c in checks if c.status == "failed"] == [] and "your own checkpoint own" in checks[0].detail
    data = (own / "model.safetensors").read_bytes()
    (own / "model.safetensors").write_bytes(data[: len(data) // 2])
    (check,) = smoke.smoke(plan, load())
    assert (check.name, check.status) == ("checkpoint", "failed")


@pytest.mark.parametrize("name", [".", "awq", "smoke-Q8_0.gguf"])
def test_a_given_checkpoint_stands_in_for_the_twin(plan_named: PlanNamed, name: str) -> None:
    verdict = api.validate(plan_named("vllm-tp2"), "smoke", FOLDER / name)
    found = {check.name: check for check in verdict.checks}
    assert [c for c in verdict.checks if c.status == "failed"] == []
    assert "your own checkpoint" in found["twin"].detail and "weight format" not in found
    assert found["weights to the byte"].figures["allocated_bytes"] == 4 * 822_400
    assert "One, two" in found["HTTP: chat"].detail  # the probe asks to count in words


def test_a_given_checkpoint_that_cannot_run_is_an_error(plan_named: PlanNamed, tmp_path: Path) -> None:
    plan = plan_named("vllm-h100")
    for only, path in (("smoke", tmp_path / "nothing"), ("smoke", tmp_path), ("lint", FOLDER)):
        with pytest.raises(UsageError):
            api.validate(plan, only, path)
    large = make_twin(plan).config | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
    (tmp_path / "config.json").write_text(json.dumps(large))
    with pytest.raises(UsageError, match="the smoke test runs up to"):
        api.validate(plan, "smoke", tmp_path)


def test_the_shipped_model_answers_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    check = smoke._answer()
    assert check.status == "passed" and "Grass is green." in check.detail
    monkeypatch.setattr("planner.engine.rope.rotate", lambda x, table: x)
    monkeypatch.setattr("planner.engine.attention.rotate", lambda x, table: x)
    assert smoke._answer().status == "failed"
