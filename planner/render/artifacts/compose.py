"""`compose.yaml`: one service per replica that one host holds, with health, secrets and log limits.

For an engine with metrics also the profile `monitoring`: Prometheus and Grafana with a ready dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import placement
from planner.render.artifacts import docker, monitoring
from planner.render.artifacts.docker import headline
from planner.render.artifacts.ollama import modelfile
from planner.render.launch import Launch, plan_launch
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

GRAFANA_FILES = (
    ("./monitoring/datasource.yaml", "/etc/grafana/provisioning/datasources/planner.yaml"),
    ("./monitoring/dashboards.yaml", "/etc/grafana/provisioning/dashboards/planner.yaml"),
    ("./monitoring/dashboard.json", "/etc/grafana/provisioning/planner/dashboard.json"),
)
READ_TOKEN = 'HF_TOKEN="$(cat /run/secrets/hf_token)" && export HF_TOKEN && exec "$@"'
"""Puts the secret file into the variable that every engine reads, then becomes the engine."""


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """The Compose file, and what it mounts: Ollama's Modelfile, the monitoring profile's files."""
    from planner.sources.companions import companion_image

    launch = plan_launch(plan)
    watched = monitoring.monitored(plan)
    text = fill(
        "compose/compose.yaml.j2",
        launch=launch,
        title=headline(plan),
        image=image(launch),
        monitoring=watched,
        prometheus=placement.mirrored(plan, companion_image("prometheus").reference) if watched else None,
        grafana=placement.mirrored(plan, companion_image("grafana").reference) if watched else None,
        grafana_files=GRAFANA_FILES,
        ca_file=placement.CA_FILE,
        entrypoint=entrypoint(launch),
        one_shot=launch.user is not None or launch.engine == "ollama",
        services=[
            {
                "name": service_name(launch, index),
                "port": f"127.0.0.1:{launch.port + index}:{launch.port}",
                "devices": list(devices),
                "visible": ",".join(devices),
            }
            for index, devices in enumerate(launch.local_devices)
        ],
    )
    files = {"compose.yaml": text}
    if launch.engine == "ollama":
        files["Modelfile"] = modelfile(plan)
    if launch.derived_from is not None:
        from planner.render.artifacts.image import FILE, dockerfile

        files[FILE] = dockerfile(plan)
    if watched:
        names = [service_name(launch, index) for index in range(len(launch.local_devices))]
        files |= monitoring.files(plan, launch, names)
    return files


def service_name(launch: Launch, index: int) -> str:
    """`server`, or `server-1` … when several replicas share the host."""
    return "server" if len(launch.local_devices) == 1 else f"server-{index}"


def entrypoint(launch: Launch) -> tuple[str, ...] | None:
    """What replaces the image's entrypoint: a reader of the token's file, the launcher, or nothing."""
    if launch.token == "required":
        return ("/bin/sh", "-c", READ_TOKEN, "sh", *launch.entry)
    return launch.command


def image(launch: Launch) -> str:
    """The image as Compose text: a reference, or a demand for a digest where the tag floats."""
    if launch.fixed_image:
        return launch.image.replace("$", "$$")
    repository = launch.image.rpartition(":")[0].replace("$", "$$").replace("}", "")
    return "${IMAGE:?set IMAGE to " + repository + "@sha256:DIGEST}"


def paths(plan: Plan) -> tuple[str, ...]:
    """What the services build, create and mount."""
    return (*docker.paths(plan), *monitoring.paths(plan))


TARGET = Target("compose", "Docker Compose", ("compose.yaml",), docker.refuses, render, extra=paths)
