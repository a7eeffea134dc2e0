"""What was asked beyond answering, as flags in every target's files."""

from __future__ import annotations

import json
import math
import shlex
from typing import Any

import pytest
import yaml

from planner.errors import UsageError
from planner.render import render
from planner.render.artifacts.helm import split_flags
from planner.render.launch import plan_launch
from planner.spec.features import Features
from planner.spec.plan import Parallelism, Plan
from planner.validate import custom
from planner.validate.lint.contents import limits

ALL = Features(
    speculative="eagle3",
    draft_model="org/head",
    draft_tokens=3,
    lora_adapters=("sql=org/sql", "org/chat"),
    max_lora_rank=32,
    prefix_caching=True,
    tool_calling=True,
    tool_parser="hermes",
    reasoning=True,
    reasoning_parser="qwen3",
    structured_output="guidance",
)
NEW_FLAGS = "0.33.flags.json"


def with_features(plan: Plan, features: Features, flags_file: str | None = NEW_FLAGS) -> Plan:
    release = plan.resolved.engine.model_copy(update={"flags_file": flags_file})
    return plan.model_copy(
        update={
            "best": plan.best.model_copy(update={"features": features}),
            "resolved": plan.resolved.model_copy(update={"engine": release}),
        }
    )


@pytest.fixture
def everything(make_plan: Any) -> Plan:
    return with_features(make_plan("vllm", "cuda"), ALL)


def test_vllm_is_told_everything_in_plain_words(everything: Plan) -> None:
    words = plan_launch(everything).args
    for word in (
        "--spec-method=eagle3", "--spec-model=org/head", "--spec-tokens=3", "--enable-prefix-caching",
        "--enable-auto-tool-choice", "--tool-call-parser=hermes", "--reasoning-parser=qwen3",
        "--structured-outputs-config.backend=guidance", "--enable-lora", "--max-loras=2", "--max-lora-rank=32",
    ):  # fmt: skip
        assert word in words, word
    at = words.index("--lora-modules")
    assert words[at + 1 : at + 3] == ("sql=org/sql", "org/chat=org/chat") and words[at + 3].startswith("--")


def test_tgi_is_told_in_its_own_words(make_plan: Any) -> None:
    features = Features(
        speculative="ngram",
        draft_tokens=4,
        lora_adapters=("sql=org/sql", "org/b"),
        watermark=True,
        prefix_caching=False,
    )
    launch = plan_launch(with_features(make_plan("tgi", "cuda"), features, "3.3.7.flags.json"))
    assert {"--speculate=4", "--lora-adapters=org/sql,org/b", "--watermark-gamma=0.5", "--watermark-delta=2"} <= set(
        launch.args
    )
    assert launch.environment["PREFIX_CACHING"] == "0"


@pytest.mark.parametrize("target", ["docker", "compose", "kubernetes", "helm", "kserve", "production-stack", "llm-d"])
def test_every_target_carries_them(everything: Plan, target: str) -> None:
    text = "\n".join(t for p, t in render(everything, [target]).items() if p not in ("plan.yaml", "PLAN.md"))
    for words in ("eagle3", "org/head", "sql=org/sql", "org/chat=org/chat", "hermes", "qwen3", "guidance"):
        assert words in text, words


def test_words_of_one_option_stay_together_in_the_chart(everything: Plan) -> None:
    positional, flags = split_flags(plan_launch(everything).args)
    assert positional[1:] == ("--lora-modules", "sql=org/sql", "org/chat=org/chat")
    assert flags["structured-outputs-config.backend"] == "guidance" and flags["enable-lora"] is True


def test_a_preset_gets_words_that_a_shell_leaves_alone(everything: Plan) -> None:
    documents = list(yaml.safe_load_all(render(everything, ["kserve"])["kserve-llm.yaml"]))
    service = next(d for d in documents if d["kind"] == "LLMInferenceService")
    value = next(row["value"] for row in service["spec"]["template"]["containers"][0]["env"])
    assert shlex.split(value) == value.split(" ") and "--lora-modules sql=org/sql org/chat=org/chat" in value


def test_ray_takes_mappings_and_refuses_adapters(make_plan: Any) -> None:
    features = ALL.model_copy(update={"lora_adapters": ()})
    text = render(with_features(make_plan("vllm", "cuda"), features), ["ray"])["ray.yaml"]
    service = next(d for d in yaml.safe_load_all(text) if d["kind"] == "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    kwargs = application["args"]["llm_configs"][0]["engine_kwargs"]
    assert kwargs["speculative_config"] == {"method": "eagle3", "model": "org/head", "num_speculative_tokens": 3}
    assert kwargs["structured_outputs_config"] == {"backend": "guidance"} and kwargs["tool_call_parser"] == "hermes"
    with pytest.raises(UsageError, match="object storage"):
        render(with_features(make_plan("vllm", "cuda"), ALL), ["ray"])


# --- prefill and decode apart --------------------------------------------------------------------


def apart(make_plan: Any, prefill: int, **changes: Any) -> Plan:
    """A plan of four replicas, of which `prefill` only prefill."""
    layout = Parallelism(replicas=4, prefill=prefill)
    plan: Plan = with_features(make_plan("vllm", "cuda", replicas=4, **changes), Features(disaggregated=True))
    return plan.model_copy(update={"best": plan.best.model_copy(update={"parallelism": layout})})


def seats(args: list[str]) -> int:
    (found,) = [int(word.partition("=")[2]) for word in args if word.startswith("--max-num-seqs=")]
    return found


def test_prefill_and_decode_get_their_own_pods(make_plan: Any) -> None:
    plan = apart(make_plan, 1)
    values = yaml.safe_load(render(plan)["llm-d.yaml"])
    assert custom.values_problems("llm-d", values) == ()
    prefill, decode = values["prefill"], values["decode"]
    assert (prefill["replicas"], decode["replicas"]) == (1, 3)
    assert values["routing"]["proxy"]["enabled"] and values["routing"]["proxy"]["targetPort"] == 8200
    words = {role: values[role]["containers"][0]["args"] for role in ("prefill", "decode")}
    assert "--port=8200" in words["decode"] and "--port=8000" in words["prefill"]
    for args in words.values():
        (transfer,) = [word for word in args if word.startswith("--kv-transfer-config=")]
        assert json.loads(transfer.partition("=")[2])["kv_connector"] == "NixlConnector"
    assert seats(words["prefill"]) == seats(words["decode"]) == plan.best.limits.max_num_seqs


@pytest.mark.parametrize("fixed", [None, 32])
def test_many_prefillers_admit_their_share_unless_the_user_said_how_many(make_plan: Any, fixed: int | None) -> None:
    plan = apart(make_plan, 3, request={"max_num_seqs": fixed})
    files = render(plan, ["llm-d"])
    values = yaml.safe_load(files["llm-d.yaml"])
    words = {role: values[role]["containers"][0]["args"] for role in ("prefill", "decode")}
    users = plan.best.limits.max_num_seqs
    assert seats(words["decode"]) == users
    assert seats(words["prefill"]) == (users if fixed else math.ceil(users / 3))
    assert limits(files, files, plan).status == "passed"
    forged = files["llm-d.yaml"].replace(f"--max-num-seqs={users}", "--max-num-seqs=7")
    assert limits({**files, "llm-d.yaml": forged}, files, plan).status == "failed"


def test_a_plan_that_does_not_say_who_prefills_is_refused(make_plan: Any) -> None:
    with pytest.raises(UsageError, match="make it anew"):
        render(apart(make_plan, 0), ["llm-d"])


def test_one_replica_is_not_split(make_plan: Any) -> None:
    plan = with_features(make_plan("vllm", "cuda"), Features(disaggregated=True))
    with pytest.raises(UsageError, match="two replicas"):
        render(plan, ["llm-d"])


def test_a_plan_that_does_not_ask_is_not_split(make_plan: Any) -> None:
    values = yaml.safe_load(render(make_plan("vllm", "cuda", replicas=4), ["llm-d"])["llm-d.yaml"])
    assert values["prefill"] == {"create": False} and values["routing"]["proxy"] == {"enabled": False}


def test_the_plan_for_people_names_them(everything: Plan) -> None:
    text = render(everything, [])["PLAN.md"]
    (row,) = [line for line in text.splitlines() if line.startswith("| Features")]
    assert "eagle3" in row and "sql=org/sql" in row and "tool calling" in row
