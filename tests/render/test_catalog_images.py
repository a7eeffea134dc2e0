"""Every image of the engine catalog can be started by every target, with flags its release takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

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
