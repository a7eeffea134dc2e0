"""Dockerfile: the stock image with the plugin that GGUF and bitsandbytes need on vLLM."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.errors import UsageError
from planner.render import default_files, render
from planner.sources.companions import companions
from planner.spec.companion import EnginePlugin

PLUGINS = companions().plugins


def plugin_plan(make_plan: Any, plugin: str = "vllm-gguf-plugin", platform: str = "cuda", **parts: Any) -> Any:
    return make_plan("vllm", platform, choice={"plugin": plugin}, **parts)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.id)
def test_base_engine_and_every_package_are_pinned(make_plan: Any, plugin: EnginePlugin) -> None:
    text = render(plugin_plan(make_plan, plugin.id))["Dockerfile"]
    assert "\nFROM docker.io/vllm/vllm-openai:v0.33.0\n" in text
    (install,) = [line for line in text.splitlines() if "pip install" in line]
    words = install.removeprefix("RUN ").removesuffix(" \\").split()
    assert words[4:] == ["--no-cache", "vllm==0.33.0", *plugin.requirements]
    assert all("==" in requirement for requirement in plugin.requirements)
    assert f"assert '{plugin.entry_point}' in" in text


@pytest.mark.parametrize("user", [None, 2000])
def test_hadolint_finds_nothing(make_plan: Any, hadolint: str, tmp_path: Path, user: int | None) -> None:
    files = render(plugin_plan(make_plan, image={"user": user, "cache_path": "/home/vllm/.cache/huggingface"}))
    (tmp_path / "Dockerfile").write_text(files["Dockerfile"])
    done = subprocess.run([hadolint, str(tmp_path / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout
    last_user = [line for line in files["Dockerfile"].splitlines() if line.startswith("USER ")]
    assert last_user == (["USER 2000:0"] if user else [])


def test_every_file_of_the_plan_starts_the_derived_image(make_plan: Any) -> None:
    plan = plugin_plan(make_plan)
    assert "Dockerfile" in default_files(plan)
    files = render(plan)
    derived = "vllm-gguf-plugin:0.33.0-0.0.5"
    assert (
        f"planned_image={derived}" in files["docker-run.sh"] and 'docker build --tag "$IMAGE"' in files["docker-run.sh"]
    )
    assert yaml.safe_load(files["compose.yaml"])["services"]["server"]["build"] == "."
    (deployment,) = [d for d in yaml.safe_load_all(files["k8s.yaml"]) if d["kind"] == "Deployment"]
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    assert server["image"] == derived and "pip" not in str(server)
    assert yaml.safe_load(files["helm/values.yaml"])["image"]["reference"] == derived


def test_a_plan_without_a_plugin_derives_nothing(make_plan: Any) -> None:
    assert "Dockerfile" not in render(make_plan())
    with pytest.raises(UsageError, match="holds all that this plan needs"):
        render(make_plan(), ["image"])


@pytest.mark.parametrize(
    ("plugin", "platform", "reason"),
    [
        ("vllm-gguf-plugin", "rocm", "published for cuda, not for rocm"),
        ("vllm-unheard-of", "cuda", "no version of the plugin"),
        ("x==1 && curl evil", "cuda", "no pinned requirement"),
        ("x==$(id)", "cuda", "no pinned requirement"),
        ("x==1\nRUN id", "cuda", "no pinned requirement"),
    ],
)
def test_what_no_image_can_hold_is_refused_by_every_container_target(
    make_plan: Any, plugin: str, platform: str, reason: str
) -> None:
    for target in ("image", "docker", "compose", "kubernetes", "helm"):
        with pytest.raises(UsageError, match=reason):
            render(plugin_plan(make_plan, plugin, platform), [target])


@pytest.mark.parametrize("image", ["vllm/vllm-openai:latest", "a b:1", "x:1\nRUN id", "$(id):1"])
def test_a_base_that_is_no_pinned_reference_is_refused(make_plan: Any, image: str) -> None:
    plan = make_plan("vllm", "cuda", choice={"plugin": "vllm-bnb-plugin", "image": image})
    with pytest.raises(UsageError, match="pinned reference"):
        render(plan, ["image"])
