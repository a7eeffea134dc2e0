"""The real tools on a plan's files: helm, docker compose, bash, Kubernetes' schemas.

Each function gives one Check; a tool that is not installed is a skipped check that says what to install. The tools
see a copy of the files in a folder of its own and no environment but PATH. Knows nothing of what was planned.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.validate import custom
from planner.validate.lint.documents import objects
from planner.validate.verdict import Check, failed, from_problems, passed, skipped

OLDEST_KUBERNETES, NEWEST_VERSIONS = "1.28", 3
"""Objects are checked by this minor version, and by as many of the newest that the installed schemas know."""
IMAGE_VOLUMES_SINCE = (1, 31)
"""Older versions know no volume that is an image, and a plan whose weights are one needs a newer cluster."""
EXTRA = "it comes with `pip install '.[validate]'` in a checkout"
TIMEOUT_S = 60
_CORE_GROUPS = frozenset(
    f"{name}.k8s.io"
    for name in ("networking", "rbac.authorization", "storage", "scheduling", "coordination", "discovery", "node")
)
ANY_DIGEST = "registry.example/image@sha256:" + "0" * 64
"""Stands for the digest that the user must give where the planned tag is a floating one."""


def find(name: str) -> str | None:
    """The tool beside this interpreter or on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def run(words: list[str], home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a tool with only PATH, HOME and `environment`; at most TIMEOUT_S."""
    clean = {"PATH": os.environ.get("PATH", ""), "HOME": str(home), **environment}
    try:
        return subprocess.run(
            words, env=clean, cwd=home, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 127, "", f"{Path(words[0]).name}: {error}")


def helm(folder: Path, floating: bool) -> tuple[list[Check], str]:
    """`helm lint --strict` and `helm template` of the chart in `folder`, and the manifests it gave."""
    tool = find("helm")
    if tool is None:
        return [skipped("helm lint", f"helm is not installed; {EXTRA}"), skipped("helm template", "no helm")], ""
    extra = ["--set", f"image.reference={ANY_DIGEST}"] if floating else []
    lint = run([tool, "lint", "--strict", "helm", *extra], folder)
    rendered = run([tool, "template", "release", "helm", *extra], folder)
    checks = [
        passed("helm lint", "strict, no findings")
        if lint.returncode == 0
        else failed("helm lint", _last(lint.stdout + lint.stderr)),
        passed("helm template", f"{rendered.stdout.count('kind:')} objects")
        if rendered.returncode == 0
        else failed("helm template", _last(rendered.stderr)),
    ]
    return checks, rendered.stdout if rendered.returncode == 0 else ""


def compose(folder: Path, floating: bool) -> tuple[Check, dict[str, Any]]:
    """`docker compose config` of compose.yaml, and the model it resolved to.

    Some builds exit 0 on errors: what counts is a printed model, and what stderr says.
    """
    name = "compose config"
    tool, docker = find("docker-compose"), find("docker")
    if tool is None and (docker is None or run([docker, "compose", "version"], folder).returncode != 0):
        return skipped(name, f"docker compose is not installed; {EXTRA}"), {}
    words = [tool] if tool else [docker or "", "compose"]
    secret = folder / "hf_token.txt"
    if not secret.exists():
        secret.write_text("placeholder\n", encoding="utf-8")
    done = run(
        [*words, "--file", str(folder / "compose.yaml"), "config", "--format", "json"],
        folder,
        **({"IMAGE": ANY_DIGEST} if floating else {}),
    )
    try:
        model = json.loads(done.stdout)
    except ValueError:
        model = None
    if done.returncode != 0 or not isinstance(model, dict) or not model.get("services"):
        return failed(name, _last(done.stderr or done.stdout) or "no services were resolved"), {}
    return passed(name, f"{len(model['services'])} services"), model


def shell(files: Mapping[str, str], folder: Path) -> Check:
    """`bash -n` of every script."""
    name, scripts = "shell syntax", [path for path in files if path.endswith(".sh")]
    tool = find("bash")
    if tool is None:
        return skipped(name, "bash is not installed")
    if not scripts:
        return skipped(name, "no shell scripts in these files")
    outcomes = {path: run([tool, "-n", str(folder / path)], folder) for path in scripts}
    problems = [f"{path}: {_last(done.stderr)}" for path, done in outcomes.items() if done.returncode != 0]
    return from_problems(name, problems, f"{len(scripts)} scripts: {', '.join(sorted(scripts))}")


def kubernetes(manifests: Mapping[str, str]) -> Check:
    """Every object of `manifests` (file → text) by Kubernetes' own schemas, custom ones by ours, their pods too."""
    name = "Kubernetes schema"
    try:
        import kubernetes_validate  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return skipped(name, f"kubernetes-validate is not installed; {EXTRA}")
    problems: list[str] = []
    without: set[str] = set()
    n_objects = 0

    checked_by = kubernetes_versions(kubernetes_validate.latest_version())

    def core(document: dict[str, Any], place: str) -> None:
        for version in checked_by:
            if _mounts_an_image(document) and tuple(map(int, version.split("."))) < IMAGE_VOLUMES_SINCE:
                continue
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                problems.append(f"{place}: {' '.join(str(error).split())[:160]}")
                return

    for path, text in manifests.items():
        for document in objects(text, path):
            if document["kind"] == "Kustomization":
                continue
            n_objects += 1
            place = f"{path}, {document['kind']}"
            if custom.has_schema(document):
                problems += [f"{place}: {problem}" for problem in custom.problems(document)]
            elif _is_core(str(document["apiVersion"])):
                core(document, place)
                continue
            else:
                without.add(str(document["kind"]))
            for pod in custom.pods(document):
                core({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, place)
    if not n_objects:
        return skipped(name, "no Kubernetes objects in these files")
    also = f"; no schema of ours for {', '.join(sorted(without))}, their pods were checked" if without else ""
    versions = ", ".join(checked_by)
    return from_problems(name, problems, f"{n_objects} objects in {len(manifests)} files, by {versions}{also}")


def kubernetes_versions(latest: str) -> tuple[str, ...]:
    """Minor versions to check by, oldest first, given the newest (`1.37.0`)."""
    major, minor = latest.split(".")[:2]
    newest = range(int(minor) - NEWEST_VERSIONS + 1, int(minor) + 1)
    return (OLDEST_KUBERNETES, *(f"{major}.{number}" for number in newest))


def _mounts_an_image(document: object) -> bool:
    """True when any pod in `document` has an image as a volume."""
    return any("image" in volume for pod in custom.pods(document) for volume in pod.get("volumes", ()))


def _is_core(api_version: str) -> bool:
    """True for the groups that Kubernetes itself ships: `v1`, `apps/v1`, `networking.k8s.io/v1` …"""
    group = api_version.rpartition("/")[0]
    return "." not in group or group in _CORE_GROUPS


def _last(text: str) -> str:
    """The most telling line of a tool's output: the last with "error" in it, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.casefold()] or lines
    return telling[-1][:300] if telling else ""
