"""`docker-run.sh`: start every replica that one host holds, wait until it serves, say how to try it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import placement
from planner.render.artifacts.ollama import modelfile
from planner.render.launch import plan_launch, why_no_container
from planner.render.quoting import mount
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan


def refuses(plan: Plan) -> str | None:
    """What no container can do, and weights that only a cluster has."""
    return why_no_container(plan) or placement.why_not_on_docker(plan)


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """The script, and for Ollama the Modelfile that it mounts."""
    launch = plan_launch(plan)
    mounts = [mount_words("volume", f"{launch.host_name}-{v.name}", v.path) for v in launch.volumes]
    binds = [(path, path) for path in launch.binds]
    binds += [(launch.ca_bundle, placement.CA_FILE)] if launch.ca_bundle else []
    text = fill(
        "docker/docker-run.sh.j2",
        launch=launch,
        title=headline(plan),
        replicas=[{"index": i, "devices": ",".join(devices)} for i, devices in enumerate(launch.local_devices)],
        mounts=mounts,
        binds=[mount_words("bind", source, target) + ",readonly" for source, target in binds],
        remote_replicas=launch.replicas - len(launch.local_devices),
    )
    files = {"docker-run.sh": text}
    if launch.engine == "ollama":
        files["Modelfile"] = modelfile(plan)
    if launch.derived_from is not None:
        from planner.render.artifacts.image import FILE, dockerfile

        files[FILE] = dockerfile(plan)
    return files


def paths(plan: Plan) -> tuple[str, ...]:
    """What a container needs beside the command: Ollama's Modelfile, the Dockerfile of an image with a plugin."""
    best = plan.best
    return (*(["Modelfile"] if best.engine.name == "ollama" else []), *(["Dockerfile"] if best.engine.plugin else []))


def mount_words(kind: str, source: str, target: str) -> str:
    """The value of one `--mount`: comma-separated fields, each quoted as CSV."""
    return ",".join((f"type={kind}", mount(f"source={source}"), mount(f"target={target}")))


def headline(plan: Plan) -> str:
    """One line that says what runs where."""
    best = plan.best
    return (
        f"{plan.resolved.engine.title} {best.engine.version} serving {best.model.checkpoint} on {best.hardware.label}"
    )


TARGET = Target("docker", "Docker command", ("docker-run.sh",), refuses, render, extra=paths)
