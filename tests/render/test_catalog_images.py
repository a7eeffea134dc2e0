"""Every image of the engine catalog can be started by every target, with flags its release takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import planner
from planner.render import render
from planner.render.launch import plan_launch, why_no_container
from planner.resources import folder
from planner.sources.flags import check_flags
from planner.spec.engine import Image

ENGINES = ("vllm", "tgi", "ollama", "llamacpp")


def images() -> list[Any]:
    found = []
    for path in sorted(folder("catalog").glob("engines/*/*.yaml")):
        release = yaml.safe_load(path.read_text(encoding="utf-8"))
        if release["engine"] in ENGINES:
            for image in release.get("images", ()):
                key = f"{path.parent.name}-{path.stem}-{image['platform']}-{image.get('architecture', 'x86_64')}"
                found.append(pytest.param(release, image, id=key))
    return found


@pytest.mark.parametrize(("release", "image"), images())
def test_it_starts_in_every_container_target(make_plan: Any, release: dict[str, Any], image: dict[str, Any]) -> None:
    engine = release["engine"]
    platform = image["platform"]
    base = make_plan(engine, "cuda" if platform == "xpu" else platform if platform != "metal" else "cpu", image=None)
    parsed = Image.model_validate(image)
    resolved = base.resolved.engine.model_copy(
        update={
            "version": release["version"],
            "images": (parsed,),
            "health_path": release.get("health_path"),
            "flags_file": release.get("flags_file"),
            "kv_flags": release.get("kv_flags", {}),
        }
    )
    choice = base.best.engine.model_copy(update={"image": parsed.reference, "platform": platform})
    plan = base.model_copy(
        update={
            "best": base.best.model_copy(update={"engine": choice}),
            "resolved": base.resolved.model_copy(update={"engine": resolved}),
        }
    )
    assert why_no_container(plan) is None
    launch = plan_launch(plan)
    assert check_flags(resolved, launch.args) == ()
    assert launch.health_path.startswith("/") and launch.port >= 1024
    files = render(plan)
    assert {"docker-run.sh", "compose.yaml", "helm/values.yaml"} <= set(files)
    assert launch.fixed_image and "k8s.yaml" in files
    for device in parsed.devices:
        assert device in files["docker-run.sh"] and device in files["compose.yaml"]


def test_the_catalog_has_images() -> None:
    assert len(images()) >= 12
    assert all(Path(folder("catalog")).is_dir() for _ in images())


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("version", ["0.26", "0.33"])
def test_several_intel_gpus_reach_each_other(version: str, count: int) -> None:
    """One needs nothing; several read by-path and pass handles over sockets, in a cluster too, which mounts no path."""
    plan = planner.recommend(
        "qwen3-32b", "4xArc-Pro-B60", engine="vllm", engine_version=version, tensor_parallel=4 if count > 1 else 1,
        quantization=None if count > 1 else "awq",
    ).plan  # fmt: skip
    files = render(plan, ["docker", "compose", "kubernetes", "helm", "kustomize"])
    several = count > 1
    bind = "type=bind,source=/dev/dri/by-path,target=/dev/dri/by-path,readonly"
    assert (bind in files["docker-run.sh"]) == several
    server = yaml.safe_load(files["compose.yaml"])["x-server"]
    (*bound,) = [v for v in server["volumes"] if v["type"] == "bind"]
    assert [(v["source"], v["target"], v["read_only"]) for v in bound] == (
        [("/dev/dri/by-path", "/dev/dri/by-path", True)] if several else []
    )
    for path in ("docker-run.sh", "compose.yaml", "k8s.yaml", "helm/values.yaml"):
        assert ("CCL_ZE_IPC_EXCHANGE" in files[path]) == several, path
    assert not any("by-path" in text for path, text in files.items() if path.startswith(("k8s", "helm", "kustom")))


def test_tgi_on_amd_gets_what_its_documentation_asks_for() -> None:
    plan = planner.recommend("llama3.1-8b", "1xMI300X", engine="tgi").plan
    files = render(plan, ["docker", "compose"])
    assert "--cap-add SYS_PTRACE" in files["docker-run.sh"] and "seccomp=unconfined" in files["docker-run.sh"]
    server = yaml.safe_load(files["compose.yaml"])["x-server"]
    assert server["cap_add"] == ["SYS_PTRACE"] and "seccomp=unconfined" in server["security_opt"]
