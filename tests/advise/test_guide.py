"""The decision guide: what it chooses, in which order its rules act, and what it tells.

Longer than 400 lines because every case starts from the situations made here, and test folders are no packages to
share them from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from planner.advise.guide import Verdict, apply_guide, check_guide
from planner.advise.predicates import PREDICATES
from planner.advise.situation import Situation
from planner.errors import CatalogError, UnknownNameError
from planner.sources.catalog import load
from planner.spec.base import Provenance
from planner.spec.engine import Defaults, EngineRelease, Lifecycle
from planner.spec.guide import GuideRow
from planner.spec.hardware import Accelerator, Machine
from planner.spec.model import DenseFfn, LayerGroup, ModelSpec, MoeFfn
from planner.spec.request import Request

SOURCE = Provenance(source="test", date="2026-11-24", basis="spec")
GIB = 1 << 30


def a_release(engine: str, *capabilities: str, status: str = "active") -> EngineRelease:
    lifecycle = Lifecycle.model_validate(
        {
            "status": status,
            "since": None if status == "active" else "2025-12-11",
            "statement": "gets fixes" if status == "active" else "gets minor fixes only",
            "alternatives": () if status == "active" else ("vLLM", "SGLang"),
            "provenance": SOURCE,
        }
    )
    return EngineRelease.model_validate(
        {
            "engine": engine,
            "version": "1.0.0",
            "title": engine,
            "license": "Apache-2.0",
            "lifecycle": lifecycle,
            "capabilities": ("openai_api", *capabilities),
            "defaults": Defaults(),
            "support": (),
            "provenance": SOURCE,
        }
    )


SERVER = ("grammar", "kubernetes", "hf_endpoints", "tensor_parallel", "lora", "tool_calling", "speculative_decoding")
RELEASES = {
    "vllm": a_release("vllm", *SERVER, "openshift", "multi_node", "prefix_caching"),
    "tgi": a_release("tgi", *SERVER, "guaranteed_grammar", "watermark", status="maintenance"),
    "ollama": a_release("ollama", "grammar", "layer_split", "tool_calling"),
}
ALL: Mapping[str, str | None] = dict.fromkeys(RELEASES)
NO_TGI: Mapping[str, str | None] = {**ALL, "tgi": "no image for this platform"}
ONLY_OLLAMA: Mapping[str, str | None] = {**NO_TGI, "vllm": "no build for this platform"}
NO_OLLAMA: Mapping[str, str | None] = {**ALL, "ollama": "no build for this platform"}


def a_device(platform: str, device_class: str, *, gib: int = 80, compute_capability: str | None = None) -> Accelerator:
    vendors = {"cuda": "nvidia", "rocm": "amd", "gaudi": "intel", "xpu": "intel", "metal": "apple"}
    return Accelerator.model_validate(
        {
            "id": f"{platform}-{device_class}",
            "name": "a device",
            "vendor": vendors[platform],
            "platform": platform,
            "device_class": device_class,
            "architecture": "some",
            "compute_capability": compute_capability,
            "memory_bytes": gib * GIB,
            "usable_memory_bytes": gib * GIB,
            "mem_bandwidth_bytes_per_s": 2e12,
            "provenance": SOURCE,
        }
    )


DEVICES: dict[str, Accelerator | None] = {
    "a100": a_device("cuda", "datacenter", compute_capability="8.0"),
    "t4": a_device("cuda", "datacenter", gib=15, compute_capability="7.5"),
    "b200": a_device("cuda", "datacenter", gib=179, compute_capability="10.0"),
    "4090": a_device("cuda", "consumer", gib=24, compute_capability="8.9"),
    "orin": a_device("cuda", "embedded", gib=32, compute_capability="8.7"),
    "mi300x": a_device("rocm", "datacenter", gib=192),
    "gaudi3": a_device("gaudi", "datacenter", gib=128),
    "m3-max": a_device("metal", "apple", gib=48),
    "cpu": None,
}


def a_model(experts: int = 0) -> ModelSpec:
    dense = DenseFfn(intermediate=128)
    ffn = MoeFfn(experts=experts, experts_per_token=2, intermediate=64) if experts else dense
    group = LayerGroup(layers=(0,), ffns=(ffn,), norm_parameters=0)
    return ModelSpec(
        id="some/model",
        family="some",
        architecture="Some",
        model_type="some",
        hidden_size=64,
        vocab_size=128,
        tie_word_embeddings=False,
        context_length=8192,
        layers=(group,),
        final_norm_parameters=64,
        provenance=SOURCE,
    )


def a_situation(
    device: str = "a100",
    count: int = 1,
    *,
    experts: int = 0,
    weights_gib: float | None = None,
    kinds: frozenset[str] = frozenset(),
    **asked: Any,
) -> Situation:
    accelerator = DEVICES[device]
    machine = Machine(label=f"{count}x{device}", accelerator=accelerator, count=count, devices_per_node=8)
    request = Request(model="some/model", **asked)
    served = machine.device_class in ("datacenter", "workstation")
    concurrency = request.concurrency or (32 if served else 1)
    return Situation(
        request=request,
        model=a_model(experts),
        machine=machine,
        concurrency=concurrency,
        objective=request.objective or ("latency" if concurrency == 1 else "throughput"),
        policy=request.policy,
        quantization_kinds=kinds,
        smallest_weight_bytes=None if weights_gib is None else round(weights_gib * GIB),
    )


def decide(situation: Situation, feasible: Mapping[str, str | None] = ALL) -> Verdict:
    return apply_guide(load().guide(), situation, RELEASES, feasible)


# -- what it chooses ------------------------------------------------------------------------------

SCENARIOS: list[tuple[str, Situation, Mapping[str, str | None], str]] = [
    ("two A100 with default load", a_situation("a100", 2), ALL, "vllm"),
    ("eight H100-class GPUs, mixture of experts", a_situation("a100", 8, experts=8), ALL, "vllm"),
    ("one T4 with default load", a_situation("t4"), ALL, "vllm"),
    ("one MI300X", a_situation("mi300x"), ALL, "vllm"),
    ("a data-centre GPU for one user", a_situation("a100", concurrency=1), ALL, "vllm"),
    ("a GeForce for one user", a_situation("4090"), ALL, "ollama"),
    ("a GeForce for four users", a_situation("4090", concurrency=4, objective="latency"), ALL, "ollama"),
    ("a GeForce for 16 users", a_situation("4090", concurrency=16), ALL, "vllm"),
    ("a GeForce behind a request rate", a_situation("4090", request_rate=0.5, arrival="poisson"), ALL, "vllm"),
    ("a GeForce with an OpenAI API", a_situation("4090", require=("openai",)), ALL, "vllm"),
    ("a GeForce in a cluster", a_situation("4090", require=("kubernetes",)), ALL, "vllm"),
    ("a GeForce for throughput", a_situation("4090", objective="throughput"), ALL, "vllm"),
    ("two GeForce cards for one user", a_situation("4090", 2), ALL, "vllm"),
    ("a GeForce too small for the model", a_situation("4090", weights_gib=40), ONLY_OLLAMA, "ollama"),
    ("a Jetson for one user", a_situation("orin"), ALL, "ollama"),
    ("a Jetson for eight users", a_situation("orin", concurrency=8), ALL, "vllm"),
    ("a Mac", a_situation("m3-max"), ONLY_OLLAMA, "ollama"),
    ("a Mac, although vLLM has a plugin", a_situation("m3-max"), NO_TGI, "ollama"),
    ("a Mac with an OpenAI API", a_situation("m3-max", require=("openai",)), NO_TGI, "ollama"),
    ("a Mac with a grammar", a_situation("m3-max", require=("grammar",)), ONLY_OLLAMA, "ollama"),
    ("a Mac for 32 users", a_situation("m3-max", concurrency=32), NO_TGI, "ollama"),
    ("a CPU", a_situation("cpu"), ALL, "ollama"),
    ("a CPU in a cluster", a_situation("cpu", require=("kubernetes",)), ALL, "vllm"),
    ("a CPU for 32 users", a_situation("cpu", concurrency=32), ALL, "vllm"),
    ("Gaudi", a_situation("gaudi3", 8), NO_OLLAMA, "tgi"),
    ("Gaudi on Kubernetes", a_situation("gaudi3", 8, require=("kubernetes", "openai")), NO_OLLAMA, "tgi"),
    ("Gaudi, maintained only", a_situation("gaudi3", 8, policy="maintained"), NO_OLLAMA, "vllm"),
    ("watermark", a_situation("a100", 2, require=("watermark",)), ALL, "tgi"),
    ("grammar", a_situation("a100", 2, require=("grammar",)), ALL, "tgi"),
    ("grammar, maintained only", a_situation("a100", 2, require=("grammar",), policy="maintained"), ALL, "vllm"),
    ("managed", a_situation("a100", require=("managed",)), ALL, "tgi"),
    ("Hugging Face ecosystem", a_situation("a100", require=("hf_hub",)), ALL, "tgi"),
    ("kubernetes", a_situation("a100", require=("kubernetes",)), ALL, "vllm"),
    ("openshift", a_situation("a100", require=("openshift",)), ALL, "vllm"),
    ("openai", a_situation("a100", require=("openai",)), ALL, "vllm"),
    ("lowest cost", a_situation("a100", objective="cost"), ALL, "vllm"),
    ("cheapest machine, one user", a_situation("4090", cheapest=True), ALL, "vllm"),
    ("simplest", a_situation("a100", require=("simple",)), ALL, "ollama"),
    ("prototype", a_situation("a100", require=("prototype",)), ALL, "ollama"),
    ("private", a_situation("a100", require=("local",)), ALL, "ollama"),
    ("offline on one device", a_situation("a100", require=("offline",)), ALL, "ollama"),
    ("offline on a server", a_situation("a100", 8, require=("offline",)), ALL, "vllm"),
    ("simplest, but for 64 users", a_situation("a100", require=("simple",), concurrency=64), ALL, "vllm"),
    ("LoRA adapters on a GeForce", a_situation("4090", require=("lora",)), ALL, "vllm"),
    ("tool calls on a GeForce", a_situation("4090", require=("tool_calling",)), ALL, "vllm"),
    ("speculative decoding", a_situation("a100", require=("speculative",)), ALL, "vllm"),
    ("prefix caching", a_situation("a100", require=("prefix_caching",)), ALL, "vllm"),
    ("two hosts", a_situation("a100", 16, weights_gib=1000), ALL, "vllm"),
    ("GGUF on a GeForce", a_situation("4090", kinds=frozenset({"gguf"})), ALL, "ollama"),
    ("GGUF for one user of an A100", a_situation("a100", concurrency=1, quantization="gguf:Q4_K_M"), ALL, "ollama"),
    ("GGUF by its short name", a_situation("a100", concurrency=1, quantization="Q4_K_M"), ALL, "ollama"),
    ("GGUF for 64 users", a_situation("a100", concurrency=64, quantization="gguf:Q4_K_M"), ALL, "vllm"),
]


@pytest.mark.parametrize(("name", "situation", "feasible", "engine"), SCENARIOS, ids=[s[0] for s in SCENARIOS])
def test_the_guide_chooses(name: str, situation: Situation, feasible: Mapping[str, str | None], engine: str) -> None:
    assert decide(situation, feasible).engine == engine


@pytest.mark.parametrize("row", load().guide(), ids=lambda row: row.id)
def test_every_row_fires_in_some_scenario(row: GuideRow) -> None:
    extra = [a_situation("b200")]
    assert any(PREDICATES[row.when](s) for s in [*(s for _, s, _, _ in SCENARIOS), *extra])


@pytest.mark.parametrize("row", load().guide(), ids=lambda row: row.id)
def test_every_row_is_silent_in_some_scenario(row: GuideRow) -> None:
    assert any(PREDICATES[row.when](s) is None for _, s, _, _ in SCENARIOS)


def test_every_predicate_is_used_by_the_guide() -> None:
    assert set(PREDICATES) == {row.when for row in load().guide()}


def test_what_a_predicate_returns_names_the_inputs() -> None:
    for _, situation, _, _ in SCENARIOS:
        for predicate in PREDICATES.values():
            inputs = predicate(situation)
            assert inputs is None or (inputs and all(inputs.values()))


# -- physics and requirements ---------------------------------------------------------------------


def test_physics_refusals_come_first_with_their_reason() -> None:
    verdict = decide(a_situation("a100"), {"vllm": "short by 1.44 GiB", "tgi": None, "ollama": None})
    assert verdict.steps[0].strength == "physics"
    assert "short by 1.44 GiB" in verdict.steps[0].outcome
    assert verdict.engine == "tgi"


def test_nothing_is_chosen_when_nothing_can_run() -> None:
    verdict = decide(a_situation("a100"), {"vllm": "too small", "tgi": "too small", "ollama": "too small"})
    assert (verdict.engine, verdict.runner_up) == (None, None)
    assert [s.engine for s in verdict.steps if s.rule == "no-configuration"] == ["ollama", "tgi", "vllm"]
    assert verdict.steps[-1].rule == "no-engine"


def test_a_required_capability_refuses_engines_without_it() -> None:
    verdict = decide(a_situation("a100", require=("openshift",)))
    refused = {s.engine for s in verdict.steps if s.rule == "required-openshift"}
    assert refused == {"tgi", "ollama"}


def test_a_requirement_that_no_runnable_engine_meets_leaves_nothing() -> None:
    verdict = decide(a_situation("m3-max", require=("watermark",)), ONLY_OLLAMA)
    assert verdict.engine is None
    assert any("it has no watermark" in s.outcome for s in verdict.steps)


def test_contradicting_require_rows_leave_nothing_and_say_so() -> None:
    rows = [a_row("a", "asks_openai", "vllm", "require"), a_row("b", "asks_grammar", "tgi", "require")]
    verdict = apply_guide(rows, a_situation(require=("openai", "grammar")), RELEASES, ALL)
    assert verdict.engine is None
    assert all("rows require tgi and vllm" in s.outcome for s in verdict.steps if s.rule in ("a", "b"))


def test_watermark_over_several_hosts_is_a_contradiction() -> None:
    verdict = decide(a_situation("a100", 16, weights_gib=1000, require=("watermark",)))
    assert verdict.engine is None


def test_several_hosts_with_room_in_one_do_not_require_vllm() -> None:
    assert decide(a_situation("a100", 16, weights_gib=100, require=("watermark",))).engine == "tgi"


# -- avoid ----------------------------------------------------------------------------------------


def test_an_avoided_engine_is_out_even_with_the_highest_score() -> None:
    rows = [a_row("a", "asks_openai", "vllm", "prefer", 50), a_row("b", "asks_openai", "vllm", "avoid")]
    verdict = apply_guide(rows, a_situation(require=("openai",)), RELEASES, ALL)
    assert verdict.engine != "vllm"
    assert next(s for s in verdict.steps if s.rule == "b").outcome == "vllm is out"


def test_an_avoided_engine_stays_with_a_caution_when_no_other_remains() -> None:
    verdict = decide(a_situation("m3-max", concurrency=32), ONLY_OLLAMA)
    assert verdict.engine == "ollama"
    assert any("OLLAMA_NUM_PARALLEL" in caution for caution in verdict.cautions)


def test_ollama_on_a_cpu_in_a_cluster_is_cautioned_when_alone() -> None:
    releases = {**RELEASES, "ollama": a_release("ollama", "kubernetes")}
    verdict = apply_guide(load().guide(), a_situation("cpu", require=("kubernetes",)), releases, ONLY_OLLAMA)
    assert verdict.engine == "ollama"
    assert any("community chart" in caution for caution in verdict.cautions)


# -- lifecycle ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "situation",
    [
        a_situation("gaudi3", 8),
        a_situation("a100", require=("grammar",)),
        a_situation("a100", require=("watermark",)),
        a_situation("a100", require=("managed",)),
    ],
    ids=["gaudi", "grammar", "watermark", "managed"],
)
def test_an_unmaintained_choice_carries_the_fact_and_the_alternative(situation: Situation) -> None:
    verdict = decide(situation, NO_OLLAMA)
    assert verdict.engine == "tgi"
    told = next(c for c in verdict.cautions if "maintenance" in c)
    assert "2025-12-11" in told
    assert "vLLM, SGLang" in told
    only_tgi_can = situation.requires("watermark")
    here = "no engine that still gets fixes" if only_tgi_can else "--policy maintained would choose vllm 1.0.0"
    assert here in told


def test_an_old_release_is_named_and_not_its_engine() -> None:
    old = next(r for r in load().releases("vllm") if r.version == "0.10.2")
    verdict = apply_guide(load().guide(), a_situation("a100", 2), {**RELEASES, "vllm": old}, ALL)
    assert verdict.engine == "vllm"
    told = next(c for c in verdict.cautions if "archived" in c)
    assert told.startswith("vllm 0.10.2 is archived")
    assert "--engine-version" in told
    assert "point to" not in told


def test_a_maintained_choice_carries_no_lifecycle_caution() -> None:
    assert not any("maintenance" in caution for caution in decide(a_situation("a100", 2)).cautions)


def test_the_maintained_policy_refuses_with_a_policy_step() -> None:
    verdict = decide(a_situation("a100", 2, policy="maintained"))
    step = next(s for s in verdict.steps if s.rule == "policy-maintained")
    assert (step.strength, step.engine) == ("policy", "tgi")


def test_the_maintained_policy_with_a_need_that_only_an_old_engine_meets_leaves_nothing() -> None:
    verdict = decide(a_situation("a100", require=("watermark",), policy="maintained"))
    assert verdict.engine is None
    assert {s.strength for s in verdict.steps} >= {"policy", "require"}


# -- ranking --------------------------------------------------------------------------------------


def test_ties_go_to_the_better_kept_engine_and_then_to_the_name() -> None:
    assert apply_guide([], a_situation(), RELEASES, {"tgi": None, "vllm": None}).engine == "vllm"
    assert apply_guide([], a_situation(), RELEASES, {"vllm": None, "ollama": None}).engine == "ollama"


def test_the_verdict_does_not_depend_on_the_order_of_engines_or_rows() -> None:
    rows = load().guide()
    situation = a_situation("a100", 2, require=("openai", "kubernetes"))
    forward = apply_guide(rows, situation, RELEASES, ALL)
    backward = apply_guide(rows[::-1], situation, RELEASES, dict(reversed(list(ALL.items()))))
    assert (forward.engine, forward.runner_up, forward.scores) == (
        backward.engine, backward.runner_up, backward.scores,
    )  # fmt: skip


def test_the_runner_up_is_told_what_it_lacked() -> None:
    verdict = decide(a_situation("a100", 2))
    step = verdict.steps[-1]
    assert (step.rule, step.engine, verdict.runner_up) == ("runner-up", "tgi", "tgi")
    assert "it lacked vllm-production, vllm-multi-gpu, vllm-throughput, vllm-server-device" in step.outcome


def test_a_filtered_runner_up_is_told_which_rule_refused_it() -> None:
    verdict = decide(a_situation("a100", concurrency=64), {"vllm": None, "tgi": "no", "ollama": None})
    assert verdict.runner_up == "ollama"
    assert "ollama-many-users" in verdict.steps[-1].outcome


def test_every_row_that_fired_is_in_the_trace_with_its_inputs_and_source() -> None:
    situation = a_situation("a100", 2, require=("kubernetes",))
    verdict = decide(situation)
    steps = {s.rule: s for s in verdict.steps}
    for row in load().guide():
        inputs = PREDICATES[row.when](situation)
        filtered_before = row.engine == "ollama"
        if inputs is not None and not filtered_before:
            assert steps[row.id].inputs == inputs
            assert steps[row.id].source


# -- an engine that the user names ----------------------------------------------------------------


def test_a_forced_engine_wins_with_a_caution_when_the_guide_differs() -> None:
    verdict = decide(a_situation("a100", 2, engine="tgi"))
    assert verdict.engine == "tgi"
    assert any("the guide would choose vllm" in caution for caution in verdict.cautions)
    assert any(s.rule == "engine-asked" for s in verdict.steps)


def test_a_forced_engine_that_the_guide_agrees_with_needs_no_caution() -> None:
    verdict = decide(a_situation("a100", 2, engine="vLLM"))
    assert verdict.engine == "vllm"
    assert verdict.cautions == ()


def test_a_forced_engine_wins_over_avoid_rows_and_is_told_why() -> None:
    verdict = decide(a_situation("a100", 2, engine="ollama"))
    assert verdict.engine == "ollama"
    assert any("many users" in caution for caution in verdict.cautions)


def test_a_forced_engine_does_not_win_over_physics() -> None:
    verdict = decide(a_situation("m3-max", engine="vllm"), ONLY_OLLAMA)
    assert verdict.engine is None
    assert verdict.steps[-1].outcome == "vllm was asked for, and is refused"


def test_a_forced_engine_does_not_win_over_what_the_same_request_requires() -> None:
    assert decide(a_situation("a100", engine="vllm", require=("watermark",))).engine is None


def test_a_forced_engine_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="nearest: vllm"):
        decide(a_situation("a100", engine="vlm"))


# -- the table itself -----------------------------------------------------------------------------


def a_row(identifier: str, when: str, engine: str, strength: str, weight: float = 1) -> GuideRow:
    return GuideRow.model_validate(
        {
            "id": identifier,
            "statement": f"because of {when}",
            "when": when,
            "engine": engine,
            "strength": strength,
            "weight": weight,
            "provenance": SOURCE,
        }
    )


def test_an_unknown_predicate_names_the_row_and_the_known_ones() -> None:
    with pytest.raises(CatalogError, match=r"guide.yaml: mine: unknown predicate 'no_gpus'; nearest: no_gpu.*gaudi"):
        apply_guide([a_row("mine", "no_gpus", "vllm", "prefer")], a_situation(), RELEASES, ALL)


def test_an_id_that_occurs_twice_is_an_error() -> None:
    row = a_row("mine", "no_gpu", "vllm", "prefer")
    with pytest.raises(CatalogError, match="mine: the id occurs twice"):
        check_guide([row, row])


def test_rows_of_engines_that_are_no_candidates_do_not_act() -> None:
    verdict = decide(a_situation("a100", require=("watermark",)), {"vllm": None})
    assert verdict.engine is None
    assert {s.engine for s in verdict.steps} <= {"vllm", None}


def test_preferences_of_workload_never_outweigh_a_named_need() -> None:
    rows = load().guide()
    named = {r.weight for r in rows if r.strength == "prefer" and r.weight >= 100}
    for engine in RELEASES:
        assert sum(r.weight for r in rows if r.engine == engine and r.weight < 100) < min(named)
    everything = ("openai", "kubernetes", "lora", "tool_calling", "speculative")
    situation = a_situation("gaudi3", 8, experts=8, objective="cost", require=everything)
    assert decide(situation, NO_OLLAMA).engine == "tgi"
