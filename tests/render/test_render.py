"""What `render` gives for which plan, and what no artifact may ever hold."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from planner.errors import UnknownNameError, UsageError
from planner.render import render, targets
from planner.render.names import has_fixed_tag, slug
from planner.spec.plan import Plan

ALWAYS = {"plan.yaml", "PLAN.md", "bench.sh"}


def top_level(files: dict[str, str]) -> set[str]:
    return {path.split("/")[0] for path in files}


@pytest.mark.parametrize(
    ("engine", "platform", "expected"),
    [
        ("vllm", "cuda", {"docker-run.sh", "compose.yaml", "monitoring", "k8s.yaml", "helm"}),
        ("tgi", "rocm", {"docker-run.sh", "compose.yaml", "monitoring", "k8s.yaml", "helm"}),
        ("tgi", "gaudi", {"docker-run.sh", "compose.yaml", "monitoring", "k8s.yaml", "helm"}),
        ("ollama", "cpu", {"Modelfile", "ollama-create.sh", "docker-run.sh", "compose.yaml", "k8s.yaml", "helm"}),
        ("ollama", "metal", {"Modelfile", "ollama-create.sh"}),
    ],
)
def test_the_default_set_follows_engine_and_platform(
    make_plan: Any, engine: str, platform: str, expected: set[str]
) -> None:
    assert top_level(render(make_plan(engine, platform))) == expected | ALWAYS


def test_paths_are_sorted_and_bytes_are_the_same_each_time(any_plan: Plan) -> None:
    first = render(any_plan)
    assert list(first) == sorted(first)
    assert first == render(any_plan.model_copy(deep=True))
    assert all(text.endswith("\n") and "\r" not in text for text in first.values())


def test_bytes_do_not_depend_on_the_process(make_plan: Any, tmp_path: Any) -> None:
    files = render(make_plan("ollama", "cuda"))
    (tmp_path / "plan.yaml").write_text(files["plan.yaml"])
    code = (
        "import json, sys; from planner.render import load_plan, render; "
        "print(json.dumps(render(load_plan(open(sys.argv[1]).read()))))"
    )
    for seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "plan.yaml")],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo"},
            capture_output=True,
            text=True,
            check=True,
        )
        import json

        assert json.loads(out.stdout) == files


def test_one_target_comes_with_the_plan_alone(make_plan: Any) -> None:
    assert set(render(make_plan(), ["docker"])) == ALWAYS | {"docker-run.sh"}
    assert set(render(make_plan("ollama"), ["docker"])) == ALWAYS | {"docker-run.sh", "Modelfile"}
    assert set(render(make_plan(), [])) == ALWAYS


def test_an_unknown_target_names_the_nearest(make_plan: Any) -> None:
    with pytest.raises(UnknownNameError, match="unknown target 'dokcer'; nearest: docker"):
        render(make_plan(), ["dokcer"])


@pytest.mark.parametrize("slug", ["docker", "compose", "kubernetes", "helm"])
def test_no_container_on_apple_because_docker_has_no_gpu_there(make_plan: Any, slug: str) -> None:
    with pytest.raises(UsageError, match="no access to the GPU"):
        render(make_plan("ollama", "metal"), [slug])


def test_a_modelfile_needs_ollama(make_plan: Any) -> None:
    with pytest.raises(UsageError, match="engine is vllm"):
        render(make_plan(), ["ollama"])


@pytest.mark.parametrize("slug", ["docker", "compose", "kubernetes", "helm"])
def test_a_replica_over_two_nodes_is_not_one_container(make_plan: Any, slug: str) -> None:
    plan = make_plan("vllm", "cuda", tensor=8, parallelism={"pipeline": 2}, machine={"devices_per_node": 8})
    with pytest.raises(UsageError, match="takes 16 devices and a node has 8"):
        render(plan, [slug])


@pytest.mark.parametrize("slug", ["kubernetes", "helm"])
def test_a_pod_cannot_read_a_path_of_this_machine(make_plan: Any, slug: str) -> None:
    plan = make_plan("vllm", "cuda", model={"checkpoint": "/home/me/model"})
    with pytest.raises(UsageError, match="path of this machine"):
        render(plan, [slug])
    assert "docker-run.sh" in render(plan)


def test_every_target_says_what_it_is() -> None:
    slugs = [target.slug for target in targets()]
    assert len(slugs) == len(set(slugs))
    assert all(target.title and target.files for target in targets())


def test_listed_files_are_the_written_ones(any_plan: Plan) -> None:
    written = render(any_plan)
    for target in targets():
        if target.supports(any_plan) is None:
            own = written if target.default or target.always else render(any_plan, [target.slug])
            for name in target.paths(any_plan):
                assert name in own, name


@pytest.mark.parametrize(
    "pattern",
    [
        r":(latest|main|nightly)(?![\w.-])",
        r"privileged:\s*true|--privileged",
        r"--publish \S*0\.0\.0\.0|\"0\.0\.0\.0:\d+:",
        r"\bhf_[A-Za-z0-9]{10,}",
        r"HF_TOKEN[=:]\s*[\"']?(None|null)\b",
        r"\bNone\b",
        r"trust.remote.code",
        r"20\d\d-\d\d-\d\dT",
    ],
)
def test_no_artifact_holds(any_plan: Plan, pattern: str) -> None:
    for path, text in render(any_plan).items():
        if path not in ("plan.yaml", "helm/values.schema.json"):
            floating = any_plan.best.engine.image or ""
            checked = text.replace(floating, "") if floating.endswith(":latest") else text
            found = re.search(pattern, checked)
            assert not found, f"{path}: {found}"


def test_a_floating_tag_is_never_started(make_plan: Any) -> None:
    plan = make_plan("vllm", "gaudi")
    files = render(plan)
    assert "k8s.yaml" not in files
    assert 'IMAGE="${IMAGE:-' not in files["docker-run.sh"]
    assert ":latest" not in files["compose.yaml"].split("services:")[0].split("x-server")[1]
    assert 'reference: ""' in files["helm/values.yaml"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("served_name", "--trust-remote-code"),
        ("checkpoint", "-v"),
        ("id", " "),
        ("checkpoint", "a\0b"),
    ],
)
def test_a_name_that_would_be_read_as_a_flag_is_refused(make_plan: Any, part: str, value: str) -> None:
    with pytest.raises(UsageError, match=r"dash|NUL"):
        render(make_plan("vllm", "cuda", model={part: value}))


def test_the_planned_limits_are_equal_in_every_file(make_plan: Any) -> None:
    limits = {"max_model_len": 12345, "max_num_seqs": 37, "max_num_batched_tokens": 4321, "startup_budget_seconds": 777}
    files = render(make_plan("vllm", "cuda", limits=limits))
    for path in ("docker-run.sh", "compose.yaml", "k8s.yaml"):
        for word in ("--max-model-len=12345", "--max-num-seqs=37", "--max-num-batched-tokens=4321"):
            assert word in files[path], path
        assert "777" in files[path], path
    values = files["helm/values.yaml"]
    assert 'max-model-len: "12345"' in values and 'max-num-seqs: "37"' in values and "777" in values
    assert "12345" in files["PLAN.md"]


@pytest.mark.parametrize("served", ["a/b", "a.b", "A B", "vllm", "../../etc", "é漢", "x" * 300, "$(id)", "a-", "-"])
def test_object_names_are_dns_labels_and_stay_apart(served: str) -> None:
    name = f"llm-{slug(served)}"
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) and len(name) <= 50
    assert name != f"llm-{slug(served + '!')}"


@pytest.mark.parametrize(
    ("reference", "fixed"),
    [
        ("vllm/vllm-openai:v0.33.0", True),
        ("localhost:5000/vllm", False),
        ("localhost:5000/vllm:v1", True),
        ("vllm/vllm-openai", False),
        ("vllm/vllm-openai:latest", False),
        ("ollama/ollama:rocm", False),
        ("ollama/ollama:0.33.0-rocm", True),
        ("x:latest@sha256:00", True),
    ],
)
def test_a_tag_is_fixed_or_floating(reference: str, fixed: bool) -> None:
    assert has_fixed_tag(reference) is fixed


@pytest.mark.parametrize("engine", ["vllm", "ollama", "llamacpp"])
def test_weights_in_the_home_of_nobody_are_one_clear_line(make_plan: Any, engine: str) -> None:
    plan = make_plan(engine, "cuda", model={"checkpoint": "~nobody-of-this-name/m"})
    with pytest.raises(UsageError, match="home of a user that is not here"):
        render(plan)
