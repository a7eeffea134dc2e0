"""nim.sh, nim-operator.yaml and endpoints.py: NVIDIA's container and Hugging Face's service."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import render
from planner.render.arguments import nim as arguments
from planner.spec.engine import Image
from planner.spec.plan import Plan

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)
NIM_IMAGE = "nvcr.io/nim/nvidia/vllm-model-free-nim:2.1.5"


@pytest.fixture(scope="module")
def nim_plan(make_plan: Any) -> Any:
    """`nim_plan(**parts)`: the vLLM plan with NIM as its engine."""

    def build(**parts: Any) -> Plan:
        plan: Plan = make_plan(choice={"name": "nim", "version": "2.1.5", "image": NIM_IMAGE}, **parts)
        release = plan.resolved.engine
        image = Image(
            platform="cuda",
            reference=NIM_IMAGE,
            port=8000,
            cache_path="/opt/nim/.cache",
            arbitrary_user=True,
            provenance=release.provenance,
        )
        changed = release.model_copy(
            update={"engine": "nim", "version": "2.1.5", "images": (image,), "health_path": "/v1/health/ready"}
        )
        return plan.model_copy(update={"resolved": plan.resolved.model_copy(update={"engine": changed})})

    return build


def test_the_script_gives_nim_the_planned_limits(nim_plan: Any, recorder: Any, tmp_path: Path) -> None:
    script = tmp_path / "nim.sh"
    script.write_text(render(nim_plan(), ["nim"])["nim.sh"])
    done = recorder.run(str(script), HF_TOKEN="s3cr3t", CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    (words,) = [call for call in recorder.calls("docker") if call[0] == "run"]
    environment = dict(words[i + 1].split("=", 1) for i, w in enumerate(words) if w == "--env" and "=" in words[i + 1])
    assert environment["NIM_MAX_MODEL_LEN"] == "8192" and environment["NIM_TENSOR_PARALLEL_SIZE"] == "2"
    assert environment["NIM_MODEL_PATH"] == "hf://meta-llama/Llama-3.1-8B-Instruct"
    assert "--max-num-seqs=64" in environment["NIM_PASSTHROUGH_ARGS"].split()
    assert words[words.index("--gpus") + 1] == '"device=0,1"' and words[-1] == NIM_IMAGE
    assert f'type=bind,"source={tmp_path}/cache",target=/opt/nim/.cache' in words
    assert "s3cr3t" not in str(words) and "HF_TOKEN" in words and "NGC_API_KEY" not in words


def test_a_gated_model_needs_its_token(nim_plan: Any, recorder: Any, tmp_path: Path) -> None:
    script = tmp_path / "nim.sh"
    script.write_text(render(nim_plan(), ["nim"])["nim.sh"])
    done = recorder.run(str(script))
    assert done.returncode == 1 and "gated" in done.stderr


def test_nothing_is_said_twice_to_nim(nim_plan: Any) -> None:
    plan = nim_plan(kv_cache_dtype="fp8")
    words = arguments.environment(plan.best, plan.resolved)["NIM_PASSTHROUGH_ARGS"].split()
    assert "--kv-cache-dtype=fp8" in words
    assert not any(word.startswith(("--max-model-len", "--tensor", "--served")) for word in words)


TWO_NODES = {"tensor": 8, "parallelism": {"pipeline": 2}, "machine": {"devices_per_node": 8}}


def test_the_operator_caches_and_serves(nim_plan: Any, objects_of: Any) -> None:
    found = objects_of(render(nim_plan(), ["nim-operator"])["nim-operator.yaml"])
    cache, service = found["NIMCache"], found["NIMService"]["spec"]
    assert service["storage"]["nimCache"]["name"] == cache["metadata"]["name"]
    assert cache["spec"]["source"]["hf"]["namespace"] == "meta-llama"
    assert cache["spec"]["source"]["hf"]["modelName"] == "Llama-3.1-8B-Instruct"
    assert service["resources"]["limits"]["nvidia.com/gpu"] == "2"
    # the job that fetches is sent to nodes with NVIDIA's devices, tainted or not
    assert cache["spec"]["tolerations"] == service["tolerations"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert service[probe]["probe"]["timeoutSeconds"] >= 5
    assert service["priorityClassName"] == found["PriorityClass"]["metadata"]["name"]
    selector = {"app": found["NIMService"]["metadata"]["name"]}
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == selector
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector
    names = {entry["name"] for entry in service["env"]}
    assert "HF_TOKEN" in names  # the model is gated
    assert "NIM_MODEL_PATH" not in names and "NIM_MAX_MODEL_LEN" in names


@pytest.mark.parametrize("target", ["nim", "nim-operator"])
def test_other_engines_are_not_nim(make_plan: Any, target: str) -> None:
    with pytest.raises(UsageError, match="plan with engine nim"):
        render(make_plan(), [target])


def test_what_nim_cannot_be_told_is_refused(nim_plan: Any) -> None:
    with pytest.raises(UsageError, match="splits its arguments"):
        render(nim_plan(model={"revision": "a b"}), ["nim"])
    with pytest.raises(UsageError, match="no name of a Hugging Face repository"):
        render(nim_plan(model={"checkpoint": "a b"}), ["nim-operator"])
    for target in ("nim", "nim-operator"):
        with pytest.raises(UsageError, match="runs on one node; plan with engine vllm"):
            render(nim_plan(**TWO_NODES), [target])


@settings(max_examples=15, deadline=None)
@given(NASTY)
def test_a_hostile_served_name_reaches_nim_as_it_is(nim_plan: Any, objects_of: Any, served: str) -> None:
    files = render(nim_plan(model={"served_name": served}), ["nim", "nim-operator"])
    words = shlex.split(files["nim.sh"], comments=True)
    assert f"NIM_SERVED_MODEL_NAME={served}" in words
    found = objects_of(files["nim-operator.yaml"])
    values = {
        entry["name"]: entry["value"].replace("$$", "$")
        for entry in found["NIMService"]["spec"]["env"]
        if "value" in entry
    }
    assert values["NIM_SERVED_MODEL_NAME"] == served
    for document in found.values():
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", document["metadata"]["name"])


# --- Inference Endpoints -------------------------------------------------------------------------

STAND_IN = """
import json, os, types
def _log(*entry):
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps(entry) + "\\n")
class _Endpoint:
    name, status, url = "e", "running", "https://e"
    def wait(self, timeout):
        _log("wait", timeout)
        return self
    def __getattr__(self, verb):
        if verb == "client":
            message = types.SimpleNamespace(content="hello")
            answer = types.SimpleNamespace(choices=[types.SimpleNamespace(message=message)])
            return types.SimpleNamespace(chat_completion=lambda *a, **k: (_log("chat", k), answer)[1])
        return lambda: _log(verb)
def create_inference_endpoint(name, **settings):
    _log("create", name, settings)
    return _Endpoint()
def get_inference_endpoint(name, namespace=None):
    return _Endpoint()
"""


def call(plan: Plan, folder: Path, verb: str) -> list[Any]:
    """What the script asks of the client, which is a stand-in."""
    import json

    (folder / "huggingface_hub.py").write_text(STAND_IN)
    (folder / "endpoints.py").write_text(render(plan, ["endpoints"])["endpoints.py"])
    log = folder / "calls"
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, str(folder / "endpoints.py"), verb],
        env={"PATH": os.environ["PATH"], "CALLS": str(log), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("engine", ["vllm", "tgi"])
def test_the_endpoint_is_the_planned_server(make_plan: Any, tmp_path: Path, engine: str) -> None:
    ((_, name, asked),) = call(make_plan(engine, "cuda"), tmp_path, "create")
    assert re.fullmatch(r"[a-z0-9-]{1,32}", name)
    assert asked["repository"] == "meta-llama/Llama-3.1-8B-Instruct" and asked["revision"].startswith("0e9e39f2")
    assert (asked["instance_type"], asked["instance_size"]) == ("nvidia-a100", "x2")
    words = asked["container_args"]
    assert words[0] in ("/repository", "--model-id=/repository")
    assert ("--max-model-len=8192" in words) is (engine == "vllm")
    assert not any(word.startswith("--revision") for word in words)
    assert asked["type"] == "authenticated" and asked["scaling_metric"] == "pendingRequests"


def test_the_client_knows_every_setting(make_plan: Any, tmp_path: Path) -> None:
    import huggingface_hub

    ((_, _, asked),) = call(make_plan(), tmp_path, "create")
    assert set(asked) <= set(inspect.signature(huggingface_hub.create_inference_endpoint).parameters)
    for verb in ("wait", "pause", "resume", "delete"):
        assert hasattr(huggingface_hub.InferenceEndpoint, verb)
    assert "timeout" in inspect.signature(huggingface_hub.InferenceEndpoint.wait).parameters


def test_each_verb_asks_for_itself(make_plan: Any, tmp_path: Path) -> None:
    assert call(make_plan(), tmp_path, "pause") == [["pause"]]
    assert call(make_plan(), tmp_path, "wait") == [["wait", 905 + 900]]
    ((what, settings_),) = call(make_plan(), tmp_path, "test")
    assert what == "chat" and settings_["model"] == "llama3.1-8b"


def test_the_smallest_instance_that_holds_a_replica_is_chosen(make_plan: Any, tmp_path: Path) -> None:
    device = {"device": {"id": "l4", "name": "L4"}}
    ((_, _, asked),) = call(make_plan(tensor=2, machine=device), tmp_path, "create")
    assert (asked["instance_type"], asked["instance_size"]) == ("nvidia-l4", "x4")


@pytest.mark.parametrize(
    ("engine", "platform", "parts", "reason"),
    [
        ("ollama", "cuda", {}, "vLLM or TGI"),
        ("vllm", "rocm", {}, "rents no instance with 2 x mi300x"),
        ("vllm", "cpu", {}, "rents no instance"),
        ("vllm", "cuda", {"model": {"checkpoint": "/home/me/m"}}, "path of this machine"),
        ("vllm", "cuda", {"spec": {"modality": "embedding"}}, "own container"),
    ],
)
def test_what_the_service_does_not_rent_is_refused(
    make_plan: Any, engine: str, platform: str, parts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        render(make_plan(engine, platform, **parts), ["endpoints"])


@settings(max_examples=20, deadline=None)
@given(NASTY)
def test_a_hostile_served_name_stays_a_literal(make_plan: Any, served: str) -> None:
    import ast

    text = render(make_plan(model={"served_name": served}), ["endpoints"])["endpoints.py"]
    assignments = {
        node.targets[0].id: node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(assignments["SERVED"]) == served
