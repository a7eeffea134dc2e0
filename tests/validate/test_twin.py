"""A twin keeps its model's architecture, and the ledger's formula gives its bytes for every family to the byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from planner.engine.hf_config import FAMILIES
from planner.engine.model import Model
from planner.errors import UsageError
from planner.sources.catalog import load
from planner.spec.model import Attention, Mla, ModelSpec, MoeFfn
from planner.spec.plan import Plan
from planner.validate import smoke
from planner.validate.bench import Bench
from planner.validate.twin import TEXT_PART, make_twin, seeded_weights

PlanNamed = Callable[[str], Plan]
PLANNED_CONTEXT = 8192


def of_model(plan: Plan, model: ModelSpec, **changes: Any) -> Plan:
    resolved = plan.resolved.model_copy(update={"model": model.model_copy(update=changes)})
    return plan.model_copy(update={"resolved": resolved})


def one_of_each() -> list[ModelSpec]:
    """The first catalogued model of each type that the engine has, by its language part."""
    found: dict[str, ModelSpec] = {}
    for model in load().models():
        if model.modality != "embedding":
            found.setdefault(model.model_type, model)
    return [m for kind, m in sorted(found.items()) if TEXT_PART.get(kind, kind) in FAMILIES]


MODELS = one_of_each()


def test_most_families_of_the_engine_are_in_the_catalog() -> None:
    assert {TEXT_PART.get(m.model_type, m.model_type) for m in MODELS} >= set(FAMILIES) - {"qwen2_moe"}


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.model_type)
def test_bytes_attention_and_sharding(plan_named: PlanNamed, model: ModelSpec) -> None:
    twin = make_twin(of_model(plan_named("vllm-tp2"), model))
    assert twin.tensor_parallel == 2
    weights = seeded_weights(twin.engine_config, "x")
    whole, sharded = Model(twin.engine_config, weights), Model(twin.engine_config, weights, 2)
    bench = Bench(twin, load().format("fp32"), whole, sharded)
    for check in (
        smoke._weights(bench), smoke._kv_blocks(bench), smoke._paged(bench), smoke._tensor_parallel(bench)
    ):  # fmt: skip
        assert check.status == "passed", check


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.model_type)
def test_the_architecture_is_kept(plan_named: PlanNamed, model: ModelSpec) -> None:
    twin = make_twin(of_model(plan_named("vllm-h100"), model))
    spec, config = twin.spec, twin.engine_config
    assert len(spec.layers) == len(model.layers) and spec.n_layers <= 8
    assert config.tied == model.tie_word_embeddings == spec.tie_word_embeddings
    order = [g for i in range(model.n_layers) for g, group in enumerate(model.layers) if i in group.layers]
    small = [g for i in range(spec.n_layers) for g, group in enumerate(spec.layers) if i in group.layers]
    assert list(dict.fromkeys(small)) == list(dict.fromkeys(order))
    for kept, whole in zip(spec.layers, model.layers, strict=True):
        a, b = kept.mixers[0], whole.mixers[0]
        assert a.kind == b.kind and kept.ffns[0].kind == whole.ffns[0].kind
        if isinstance(a, Attention) and isinstance(b, Attention):
            assert a.heads / a.kv_heads == b.heads / b.kv_heads
            assert (a.qkv_bias, a.o_bias, a.qk_norm) == (b.qkv_bias, b.o_bias, b.qk_norm)
            assert (a.window_tokens is None) == (b.window_tokens is None)
        if isinstance(kept.ffns[0], MoeFfn) and isinstance(whole.ffns[0], MoeFfn):
            assert bool(kept.ffns[0].shared_intermediate) == bool(whole.ffns[0].shared_intermediate)
            assert any(layer.routed for layer in config.layers)
    windows = {layer.window for layer in config.layers}
    assert (windows != {None}) == any(
        isinstance(m, Attention) and m.window_tokens is not None for g in model.layers for m in g.mixers
    )
    assert (config.mla is not None) == any(isinstance(m, Mla) for g in model.layers for m in g.mixers)


def test_a_window_keeps_its_share_of_the_context(plan_named: PlanNamed) -> None:
    (gemma,) = [m for m in MODELS if m.model_type == "gemma2"]
    twin = make_twin(of_model(plan_named("vllm-h100"), gemma))
    assert plan_named("vllm-h100").best.limits.max_model_len == PLANNED_CONTEXT
    assert {layer.window for layer in twin.engine_config.layers} == {None, 4096 * 512 // PLANNED_CONTEXT}


@pytest.mark.parametrize(
    ("context", "step", "expected"), [(8192, 8192, 512), (32768, 16384, 256), (131072, 8192, 128), (2048, 65536, 1024)]
)
def test_a_step_keeps_its_share_of_the_context(plan_named: PlanNamed, context: int, step: int, expected: int) -> None:
    plan = plan_named("vllm-h100")
    limits = plan.best.limits.model_copy(update={"max_model_len": context, "max_num_batched_tokens": step})
    plan = plan.model_copy(update={"best": plan.best.model_copy(update={"limits": limits})})
    assert make_twin(plan).step_tokens == expected


@pytest.mark.parametrize("kind", ["mamba2", "gpt_oss", "no_such_type"])
def test_what_the_engine_lacks_is_named(plan_named: PlanNamed, kind: str) -> None:
    plan = of_model(plan_named("vllm-h100"), MODELS[0], model_type=kind)
    with pytest.raises(UsageError, match=f"no {kind}; it has llama"):
        make_twin(plan)
    (check,) = smoke.smoke(plan, load())
    assert check.status == "skipped" and kind in check.detail


def test_odd_layers_are_refused_not_guessed(plan_named: PlanNamed) -> None:
    group = MODELS[0].layers[0]
    for changes in ({"norm_parameters": 17}, {"mixers": group.mixers * 2}, {"extra_linears": (("x", 1, 1),)}):
        with pytest.raises(UsageError):
            make_twin(of_model(plan_named("vllm-h100"), MODELS[0], layers=(group.model_copy(update=changes),)))


def test_weights_come_from_the_seed_alone(plan_named: PlanNamed) -> None:
    config = make_twin(plan_named("vllm-h100")).engine_config
    a, b, other = (seeded_weights(config, seed) for seed in ("x", "x", "y"))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
