"""`helm/`: a chart whose templates hold no value; every planned figure is in values.yaml.

The templates and the schema are files that are copied as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import placement, pod
from planner.render.artifacts import kubernetes
from planner.render.artifacts.docker import headline
from planner.render.launch import PROBE_PERIOD_S, Launch, plan_launch, why_no_container
from planner.render.registry import Target
from planner.render.templating import fill, static

if TYPE_CHECKING:
    from planner.spec.plan import Plan

STATIC = (
    "values.schema.json",
    "templates/NOTES.txt",
    "templates/_helpers.tpl",
    "templates/configmap.yaml",
    "templates/deployment.yaml",
    "templates/networkpolicy.yaml",
    "templates/pdb.yaml",
    "templates/priorityclass.yaml",
    "templates/pvc.yaml",
    "templates/service.yaml",
    "templates/serviceaccount.yaml",
    "templates/tests/test-health.yaml",
)


def refuses(plan: Plan) -> str | None:
    """What no container, or no pod, can do."""
    return why_no_container(plan) or kubernetes.cluster_cannot(plan)


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """Chart.yaml and values.yaml from the plan, the rest copied."""
    launch = plan_launch(plan)
    positional, flags = split_flags(launch.args)
    files = {f"helm/{path}": static(f"helm/{path}") for path in STATIC}
    files["helm/Chart.yaml"] = fill("helm/Chart.yaml.j2", title=headline(plan), engine_version=plan.best.engine.version)
    files["helm/values.yaml"] = fill(
        "helm/values.yaml.j2",
        launch=launch,
        title=headline(plan),
        image=launch.image if launch.fixed_image else "",
        command=pod.command(launch) or (),
        args=positional if launch.engine != "ollama" else (),
        flags=flags,
        environment=pod.settings(launch),
        caller=pod.CALLER,
        files=pod.start_files(plan),
        ready_file=pod.READY_FILE if launch.engine == "ollama" else "",
        access_mode="ReadWriteOnce" if launch.replicas == 1 else "ReadWriteMany",
        node_selector=pod.node_selector(plan),
        alike=pod.alike(plan),
        min_gpu_memory_mib=pod.min_gpu_memory_mib(plan),
        probe_period_s=PROBE_PERIOD_S,
        ca_config_map=placement.CA_CONFIG_MAP,
        ca_folder=placement.CA_FOLDER,
        drain_s=pod.DRAIN_S,
        grace_s=launch.grace_s + pod.DRAIN_S,
        test_command=test_command(launch),
        limits=[(name, value) for name, value in plan.best.limits.model_dump().items() if value is not None],
    )
    return files


def split_flags(words: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str | bool]]:
    """(words that stand alone, flag → value): `--flag=value` becomes an entry, a bare `--flag` is true.

    An option with several words (`--lora-modules a=x b=y`) stands with those that stand alone.

    A parser that takes flags and values as two words (llama-server) keeps them all in order.
    """
    if not any(word.startswith("--") and "=" in word for word in words):
        return words, {}
    positional: list[str] = []
    flags: dict[str, str | bool] = {}
    several: str | None = None
    for index, word in enumerate(words):
        if not word.startswith("--"):
            assert index == 0 or several, word
            positional += [several, word] if several and several not in positional else [word]
        elif "=" not in word and index + 1 < len(words) and not words[index + 1].startswith("--"):
            several = word
        else:
            name, equals, value = word[2:].partition("=")
            flags[name] = value if equals else True
    return tuple(positional), flags


def test_command(launch: Launch) -> tuple[str, ...]:
    """What `helm test` runs, in the server's own image; URL is set for it."""
    if launch.engine == "ollama":
        return ("/bin/ollama", "list")
    if launch.engine == "llamacpp":
        return ("/bin/sh", "-c", 'curl -fsS -o /dev/null "$URL"')
    return ("python3", "-c", "import os, urllib.request as u; u.urlopen(os.environ['URL'], timeout=30)")


FILES = tuple(sorted(f"helm/{path}" for path in ("Chart.yaml", "values.yaml", *STATIC)))
TARGET = Target("helm", "Helm chart", FILES, refuses, render)
