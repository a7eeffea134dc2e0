"""Features × engines: each is resolved with every name filled in, or refused with one clear reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

import planner
from planner.advise.command import command
from planner.advise.features import resolve_features
from planner.errors import InfeasibleError, UsageError
from planner.sources.catalog import load
from planner.sources.flags import check_flags, flag_list
from planner.sources.machines import resolve_machine
from planner.sources.parsers import parsers
from planner.spec.engine import EngineRelease
from planner.spec.features import Features
from planner.spec.request import Request

ASKED: dict[str, dict[str, Any]] = {
    "ngram": {"speculative": "ngram"},
    "draft_model": {"speculative": "draft_model", "draft_model": "meta-llama/Llama-3.2-1B-Instruct"},
    "eagle3": {"speculative": "eagle3", "draft_model": "org/eagle3-head"},
    "mtp": {"speculative": "mtp"},
    "lora": {"lora_adapters": ("sql=org/sql",)},
    "prefix_caching": {"prefix_caching": True},
    "no_prefix_caching": {"prefix_caching": False},
    "tools": {"tool_calling": True},
    "reasoning": {"reasoning": True},
    "grammar": {"structured_output": "auto"},
    "xgrammar": {"structured_output": "xgrammar"},
    "watermark": {"watermark": True},
    "disaggregated": {"disaggregated": True},
}
CAN: dict[str, set[str]] = {
    "vllm": set(ASKED) - {"mtp", "watermark"},
    "tgi": {"ngram", "lora", "prefix_caching", "no_prefix_caching", "tools", "grammar", "watermark"},
    "ollama": {"prefix_caching", "tools", "reasoning", "grammar"},
    "llamacpp": {"prefix_caching", "tools", "reasoning", "grammar"},
    "nim": {"ngram", "draft_model", "eagle3", "prefix_caching", "no_prefix_caching", "tools", "reasoning", "grammar"}
    | {"xgrammar"},
}


def release_of(engine: str) -> EngineRelease:
    return load().releases(engine)[0]


@pytest.mark.parametrize("engine", CAN)
@pytest.mark.parametrize("feature", ASKED)
def test_a_feature_is_resolved_or_refused_with_one_reason(engine: str, feature: str) -> None:
    catalog = load()
    model = catalog.model("qwen3-8b")
    found = resolve_features(
        Features(**ASKED[feature]), release_of(engine), model, resolve_machine(catalog, "1xH100", None)
    )
    if feature in CAN[engine]:
        assert isinstance(found, Features), found
        assert not (engine in ("vllm", "nim") and feature == "tools") or found.tool_parser == "hermes"
        assert not (engine in ("vllm", "nim") and feature == "reasoning") or found.reasoning_parser == "qwen3"
    else:
        assert isinstance(found, str) and "\n" not in found and 20 < len(found) < 200


def test_a_rank_becomes_one_that_the_option_takes() -> None:
    catalog = load()
    found = resolve_features(
        Features(lora_adapters=("org/a",), max_lora_rank=20),
        release_of("vllm"),
        catalog.model("llama3.1-8b"),
        resolve_machine(catalog, "1xH100", None),
    )
    assert isinstance(found, Features) and found.max_lora_rank == 32


@pytest.mark.parametrize("model", ["falcon-7b", "gemma-3n-e4b"])
def test_a_model_whose_code_takes_no_adapters_is_refused(model: str) -> None:
    catalog = load()
    spec = next(m for m in map(catalog.model, catalog.names("model")) if model in m.id.casefold())
    reason = resolve_features(
        Features(lora_adapters=("org/a",)), release_of("vllm"), spec, resolve_machine(catalog, "1xH100", None)
    )
    assert isinstance(reason, str) and spec.architecture in reason


def test_every_catalogued_parser_is_one_that_a_release_has() -> None:
    known = [flag_list(r) for r in load().releases("vllm") if r.flags_file]
    assert known and parsers().families
    for kind, flag in (("tool", "--tool-call-parser"), ("reasoning", "--reasoning-parser")):
        names = {choice for flags in known if flags and (f := flags.find(flag)) for choice in f.choices}
        assert {name for row in parsers().families if (name := getattr(row, kind))} <= names


def test_an_unknown_parser_names_the_nearest() -> None:
    with pytest.raises(InfeasibleError, match="no tool parser hermez; nearest: hermes"):
        planner.recommend(
            model="qwen3-8b",
            gpus="1xH100",
            engine="vllm",
            features={"tool_calling": True, "tool_parser": "hermez"},
        )


def test_a_draft_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(InfeasibleError, match="must have the same vocabulary"):
        planner.recommend(
            model="llama3.1-8b",
            gpus="1xH100",
            engine="vllm",
            features={"speculative": "draft_model", "draft_model": "qwen3-0.6b"},
        )


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"speculative": "eagle"}, "needs draft_model"),
        ({"draft_model": "org/x"}, "belongs to speculative"),
        ({"tool_parser": "hermes"}, "belongs to tool_calling"),
        ({"lora_adapters": ["../x"]}, "NAME=org/repository"),
        ({"lora_adapters": ["a=o/x", "a=o/y"]}, "one name"),
        ({"speculative": "draft_model", "draft_model": "$(id)/x"}, "alias"),
    ],
)
def test_a_wrong_feature_is_one_clear_line(features: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        planner.recommend(model="llama3.1-8b", gpus="1xH100", features=features)


def test_a_feature_implies_the_requirement_that_the_guide_knows() -> None:
    request = Request(model="m", features=Features(speculative="ngram", tool_calling=True, watermark=True))
    assert request.require == ("speculative", "tool_calling", "watermark")
    assert request.speculative_tokens == 4 and request.draft_cost == 0.0
    assert Request(model="m", features=Features(speculative="mtp"), speculative_tokens=2).speculative_tokens == 2


def test_the_command_of_a_request_asks_the_same() -> None:
    request = Request.model_validate(
        {
            "model": "m",
            "features": {"lora_adapters": ["a=o/x", "o/y"], "prefix_caching": False, "tool_calling": True},
            "site": {"registry": "r.example/m", "hub": False},
        }
    )
    text = command(request)
    assert "--lora a=o/x --lora o/y" in text and "--no-prefix-caching" in text and "--tools" in text
    assert "--registry r.example/m" in text and "--no-hub" in text


@pytest.mark.parametrize("features", [ASKED["eagle3"], ASKED["lora"], ASKED["tools"], ASKED["xgrammar"]])
def test_the_plan_says_what_was_resolved_and_its_release_takes_the_flags(features: dict[str, Any]) -> None:
    from planner.render.launch import plan_launch

    plan = planner.recommend(model="qwen3-8b", gpus="1xH100", engine="vllm", features=features).plan
    assert plan.best.features is not None
    assert check_flags(plan.resolved.engine, plan_launch(plan).args) == ()


def test_a_plan_without_features_carries_none() -> None:
    assert planner.recommend(model="qwen3-8b", gpus="1xH100").plan.best.features is None


def test_features_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        Features.model_validate({"speculatve": "ngram"})


@pytest.mark.parametrize("feature", ["draft_model", "eagle3", "lora", "ngram"])
def test_a_plan_with_features_is_what_its_limits_give(feature: str) -> None:
    asked = ASKED[feature]
    plan = planner.recommend(model="llama3.1-8b", gpus="1xH100", engine="vllm", features=asked).plan
    verdict = planner.validate(plan, only="simulate")
    found = {check.name: check for check in verdict.checks}
    assert found["memory ledger"].status == "passed", found["memory ledger"].detail
    assert found["planned figures"].status == "passed", found["planned figures"].detail


def test_a_release_whose_options_are_not_known_is_refused() -> None:
    catalog = load()
    old = next(release for release in catalog.releases("vllm") if release.flags_file is None)
    found = resolve_features(
        Features(tool_calling=True), old, catalog.model("qwen3-8b"), resolve_machine(catalog, "1xH100", None)
    )
    assert isinstance(found, str) and "no option list" in found


@pytest.mark.parametrize(("gpus", "keeps"), [("1xH100", True), ("1xMI300X", False), ("1xGaudi3", False)])
def test_prefixes_are_kept_only_where_the_servers_attention_can(gpus: str, keeps: bool) -> None:
    """TGI stops at its start when told to keep prefixes with paged attention, which its images for these have."""

    def asked() -> planner.Recommendation:
        return planner.recommend("llama3.1-8b", gpus, engine="tgi", features={"prefix_caching": True})

    if keeps:
        assert asked().plan.best.features is not None
    else:
        with pytest.raises(InfeasibleError, match="keeps no prefixes on"):
            asked()


def test_why_ollama_drafts_nothing_here_is_what_it_could_do() -> None:
    release = next(r for r in load().releases() if r.engine == "ollama")
    reason = resolve_features(
        Features(speculative="ngram"), release, load().model("Qwen/Qwen3-8B"), resolve_machine(load(), "1xRTX-4090")
    )
    assert isinstance(reason, str) and "draft_num_predict" in reason


@pytest.mark.parametrize(
    ("model", "gpus", "users"),
    [("llama3-70b", "8xH100", 32), ("llama3-70b", "8xH100", 64), ("deepseek-v3", "16xH200", 48)],
)
def test_the_decoders_admit_every_user(model: str, gpus: str, users: int) -> None:
    asked = {"disaggregated": True}
    best = planner.recommend(model, gpus, concurrency=users, replicas=2, features=asked).plan.best
    layout = best.parallelism
    assert (layout.prefill, layout.decoders) == (1, 1)
    assert best.limits.max_num_seqs * layout.decoders * layout.data >= users
    assert best.memory.fits and best.memory.kv_cache_tokens > 0


def test_longer_prompts_take_more_prefillers() -> None:
    def prefill(prompt: int, answer: int) -> int:
        tokens = {"input_tokens": prompt, "output_tokens": answer, "concurrency": 32}
        plan = planner.recommend("llama3.1-8b", "8xH100", replicas=8, features={"disaggregated": True}, **tokens).plan
        best = plan.best
        assert best.limits.max_num_seqs == -(-32 // best.parallelism.decoders)
        return best.parallelism.prefill

    assert 1 == prefill(256, 512) < prefill(7000, 16) < 8


def test_prefill_apart_finds_a_layout_of_two_replicas_by_itself() -> None:
    plan = planner.recommend("llama3-70b", "8xH100", features={"disaggregated": True}).plan
    assert plan.best.parallelism.replicas >= 2 and "llm-d.yaml" in planner.generate(plan, targets=["llm-d"])
    assert any("devices for one" in row.reason for row in plan.rejected)


@pytest.mark.parametrize(
    ("model", "gpus", "asked", "told"),
    [
        ("llama3-70b", "8xH100", {"replicas": 1}, "--replicas 1 asks for one"),
        ("llama3-8b", "1xH100", {}, "has devices for one"),
        ("llama3.1-405b", "32xH100", {"replicas": 2, "quantization": "bf16"}, "keeps a replica on one node"),
        ("llama3.1-405b", "32xH100", {"replicas": 2, "tensor_parallel": 8, "pipeline_parallel": 2}, "on one node"),
    ],
)
def test_prefill_apart_is_refused_where_no_two_replicas_of_a_node_are(
    model: str, gpus: str, asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(InfeasibleError, match=told):
        planner.recommend(model, gpus, features={"disaggregated": True}, **asked)


def test_the_plan_says_when_the_decoders_cache_holds_fewer_than_are_asked_for() -> None:
    asked = {"input_tokens": 6000, "output_tokens": 1500, "concurrency": 64, "quantization": "awq", "replicas": 2}
    plan = planner.recommend("llama3-70b", "2xH100", kv_cache_dtype="auto", features={"disaggregated": True}, **asked)
    best = plan.plan.best
    (reason,) = [r for r in best.reasons if r.rule == "admission"]
    held = best.parallelism.decoders * best.memory.kv_cache_tokens / 7500
    assert reason.choice == f"about {held:.0f} requests at once" and held < 64


def test_a_grammar_that_the_engine_lacks_is_left_to_the_engine_as_a_way_out() -> None:
    with pytest.raises(InfeasibleError) as caught:
        planner.recommend(model="llama3-8b", gpus="1xH100", engine="tgi", features={"structured_output": "guidance"})
    commands = [remedy.command for remedy in caught.value.remedies]
    assert any("--engine tgi" in words and "--structured-output auto" in words for words in commands)
