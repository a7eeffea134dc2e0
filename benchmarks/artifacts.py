"""Every artifact of every combination, rendered and checked by the real tools: `python -m benchmarks.artifacts`.

Engine × platform × target × shape (small dense, 70B tensor-parallel, MoE, GGUF, features, a closed site,
several nodes): each is
rendered, or refused with a reason. What is rendered is checked by Kubernetes' schemas, our own, Helm,
Docker Compose, bash, systemd and Python, whichever the file is for. Prints counts, and fails on any
problem. `--pairwise` takes the sample that covers every pair of choices; `--markdown` prints the table.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import os
import plistlib
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import planner
from planner.errors import InfeasibleError, UsageError
from planner.render import render, targets
from planner.spec.plan import Plan
from planner.validate import custom
from planner.validate.lint.hardening import review

ENGINES = ("vllm", "tgi", "ollama", "llamacpp", "nim")
PLATFORMS = {
    "cuda": "{n}xH100",
    "rocm": "{n}xMI300X",
    "gaudi": "{n}xGaudi3",
    "xpu": "{n}xArc-Pro-B60",
    "metal": "1xM3-Max-128GB",
    "cpu": "cpu:epyc-9654",
}
SHAPES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "small-dense": ("llama3-8b", 1, {}),
    "70b-tensor-parallel": ("llama3-70b", 4, {"tensor_parallel": 4, "pipeline_parallel": 1}),
    "moe": ("qwen3-30b-a3b", 2, {}),
    "gguf": ("llama3-8b", 1, {"quantization": "Q4_K_M"}),
    "features": (
        "llama3.1-8b",
        1,
        {
            "features": {
                "speculative": "ngram",
                "tool_calling": True,
                "structured_output": "auto",
                "prefix_caching": True,
            }
        },
    ),
    "closed-site": (
        "llama3-8b",
        1,
        {
            "site": {
                "registry": "registry.example.com/mirror",
                "pull_secret": "mirror",
                "hub": False,
                "ca_bundle": "/etc/ssl/certs/ca.pem",
                "https_proxy": "http://proxy.example.com:3128",
            }
        },
    ),
    "multi-node": ("llama3.1-405b", 16, {"tensor_parallel": 8, "pipeline_parallel": 2}),
}
Combination = tuple[str, str, str, str]
"""(engine, platform, shape, target)."""
CORE_VERSIONS = ("1.37", "1.36", "1.35")
"""The newest three minor versions of Kubernetes; a sample is checked by the newest alone."""
DIGEST = "vault.example/engine@sha256:" + "0" * 64


@dataclass
class Outcome:
    """What became of the combinations."""

    rendered: int = 0
    checked_files: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    infeasible: int = 0
    problems: list[str] = field(default_factory=list)
    by_target: dict[str, Counter[str]] = field(default_factory=dict)
    hardening_checks: int = 0
    hardening_waived: Counter[str] = field(default_factory=Counter)
    """Rule of catalog/hardening.yaml → how often it was waived."""


def combinations() -> list[Combination]:
    """All of them, in a fixed order; targets that are always written come with the others."""
    slugs = [target.slug for target in targets() if not target.always]
    return list(itertools.product(ENGINES, PLATFORMS, SHAPES, slugs))


def pairwise(every: Iterable[Combination]) -> list[Combination]:
    """A sample in which every two choices that can be rendered together are: greedy, in a fixed order."""
    suits = {target.slug: target.supports for target in targets()}
    left = [one for one in every if (plan := plan_for(*one[:3])) is not None and suits[one[3]](plan) is None]
    open_pairs = {pair for one in left for pair in _pairs(one)}
    sample: list[Combination] = []
    while open_pairs:
        best = max(left, key=lambda one: len(open_pairs & _pairs(one)))
        sample.append(best)
        open_pairs -= _pairs(best)
    return sample


def _pairs(one: Combination) -> frozenset[tuple[int, str, int, str]]:
    return frozenset((i, one[i], j, one[j]) for i, j in itertools.combinations(range(len(one)), 2))


@cache
def plan_for(engine: str, platform: str, shape: str) -> Plan | None:
    """The advisor's plan, or None when there is none (the engine does not run there, or it does not fit)."""
    model, devices, parallel = SHAPES[shape]
    gpus = PLATFORMS[platform].format(n=devices)
    settings: dict[str, Any] = {"model": model, "gpus": gpus, "engine": engine}
    if platform == "cpu":
        settings["ram"] = "768GiB"
    if engine in ("vllm", "nim", "tgi") and platform not in ("cpu", "metal"):
        settings |= {k: v for k, v in parallel.items() if engine != "tgi" or k != "pipeline_parallel"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return planner.recommend(**settings).plan
    except (InfeasibleError, UsageError):
        return None


# --- the checks ----------------------------------------------------------------------------------


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def _run(*words: str, **environment: str) -> str:
    """What is wrong, empty when the tool is content."""
    settings = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}
    done = subprocess.run(words, env=settings, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-400:]


def check(files: Mapping[str, str], folder: Path, versions: Sequence[str] = CORE_VERSIONS) -> Iterator[str]:
    """Problems of the rendered files, one line each. `folder` is empty and gets them."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    (folder / "hf_token.txt").write_text("x")
    for path, text in files.items():
        for problem in _check_file(path, text, folder, versions):
            if problem:
                yield f"{path}: {problem}"
    if "helm/Chart.yaml" in files and (helm := _tool("helm")):
        digest = () if _reference(files["helm/values.yaml"]) else ("--set", f"image.reference={DIGEST}")
        problem = _run(helm, "lint", "--strict", str(folder / "helm"), *digest)
        if problem:
            yield f"helm/: {problem}"


def _reference(values: str) -> str:
    return str(yaml.safe_load(values)["image"]["reference"])


def _check_file(path: str, text: str, folder: Path, versions: Sequence[str]) -> Iterator[str]:
    name = Path(path).name
    if path.startswith("helm/") or name in ("plan.yaml", "PLAN.md", "Modelfile"):
        return
    if name.endswith(".sh"):
        yield _run("bash", "-n", str(folder / path))
        if shellcheck := _tool("shellcheck"):
            yield _run(shellcheck, str(folder / path))
    elif name == "Dockerfile":
        if hadolint := _tool("hadolint"):
            yield _run(hadolint, str(folder / path))
    elif name.endswith(".py"):
        ast.parse(text)
    elif name.endswith(".plist"):
        plistlib.loads(text.encode())
    elif name == "dashboard.json":
        json.loads(text)
    elif name == "compose.yaml":
        if compose := _tool("docker-compose"):
            words = (compose, "--file", str(folder / path), "--profile", "monitoring", "config", "-q")
            yield _run(*words, IMAGE=DIGEST)
    elif name == "systemd.service":
        yield from ("no ExecStart" for _ in range("\nExecStart=" not in text))
    elif name == "kustomization.yaml":
        if kubectl := _tool("kubectl"):
            yield _run(kubectl, "kustomize", str((folder / path).parent))
    elif name.endswith(".yaml"):
        yield from _check_yaml(path, text, versions)


def _check_yaml(path: str, text: str, versions: Sequence[str]) -> Iterator[str]:
    import kubernetes_validate as core

    if path.startswith("monitoring/"):
        yaml.safe_load(text)
        return
    for document in yaml.safe_load_all(text):
        if "kind" not in document:
            yield from custom.values_problems(Path(path).stem, document)
        elif custom.has_schema(document):
            yield from custom.problems(document)
            for spec in custom.pods(document):
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
                yield from _strict(core, pod, versions)
        else:
            yield from _strict(core, document, versions)


def _strict(core: Any, document: dict[str, Any], versions: Sequence[str]) -> Iterator[str]:
    for version in versions:
        try:
            core.validate(document, version, strict=True)
        except core.ValidationError as error:
            yield f"{document['kind']} ({version}): {error}"


# --- the run -------------------------------------------------------------------------------------


def run(chosen: Iterable[Combination], versions: Sequence[str] = CORE_VERSIONS, *, whole: bool = True) -> Outcome:
    """Render and check each combination; core objects against Kubernetes' `versions`.

    `whole` adds the files that come with every plan, once for each plan.
    """
    by_slug = {target.slug: target for target in targets()}
    told: set[tuple[str, str, str]] = set()
    outcome = Outcome()
    seen: set[tuple[str, str]] = set()
    for engine, platform, shape, slug in chosen:
        counts = outcome.by_target.setdefault(slug, Counter())
        key = (engine, platform, shape)
        plan = plan_for(*key)
        if plan is None:
            outcome.infeasible += 1
            continue
        target = by_slug[slug]
        reason = target.supports(plan)
        if reason is not None:
            outcome.refused[reason] += 1
            counts["refused"] += 1
            continue
        files = target.render(plan, (slug,))
        if whole and key not in told:
            told.add(key)
            files |= render(plan, [])
        outcome.rendered += 1
        counts["rendered"] += 1
        new = {path: text for path, text in files.items() if (path, text) not in seen}
        seen |= set(new.items())
        outcome.checked_files += len(new)
        security = review(new, plan)
        outcome.hardening_checks += security.checked
        outcome.hardening_waived.update(finding.rule.id for finding in security.waived)
        outcome.problems += [f"{'/'.join(key)}/{slug}: {finding}" for finding in security.failed]
        with tempfile.TemporaryDirectory() as folder:
            for problem in check(files if new else {}, Path(folder), versions):
                outcome.problems.append(f"{'/'.join(key)}/{slug}: {problem}")
    return outcome


def main() -> int:
    """Print the counts; 1 when a check failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairwise", action="store_true", help="the sample that covers every pair of choices")
    parser.add_argument("--reasons", action="store_true", help="print each reason of a refusal with its count")
    options = parser.parse_args()
    every = combinations()
    chosen = pairwise(every) if options.pairwise else every
    outcome = run(chosen)
    sys.stdout.write(
        f"{len(chosen)} combinations of {len(every)}: {outcome.rendered} rendered, "
        f"{outcome.checked_files} different files checked, {sum(outcome.refused.values())} refused with a reason, "
        f"{outcome.infeasible} without a plan, {len(outcome.problems)} problems\n"
    )
    sys.stdout.write(
        f"security pass: {outcome.hardening_checks} checks, {outcome.hardening_waived.total()} waived with a reason of "
        f"catalog/hardening.yaml ({', '.join(f'{rule} {n}' for rule, n in outcome.hardening_waived.most_common())})\n"
    )
    for slug, counts in outcome.by_target.items():
        sys.stdout.write(f"  {slug:<17} {counts['rendered']:>3} rendered  {counts['refused']:>3} refused\n")
    for reason, count in outcome.refused.most_common() if options.reasons else ():
        sys.stdout.write(f"  {count:>3} × {reason}\n")
    for problem in outcome.problems:
        sys.stdout.write(f"  PROBLEM {problem}\n")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
