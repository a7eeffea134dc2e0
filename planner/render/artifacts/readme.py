"""`PLAN.md`: the plan for a person. What, why, does it fit, how fast, what to run, what else.

Prints figures of the plan; computes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.artifacts.bench import workload
from planner.render.launch import find_image, plan_launch, token_need
from planner.render.registry import Target, all_targets
from planner.render.templating import fill
from planner.units import gib, significant

if TYPE_CHECKING:
    from planner.spec.features import Features
    from planner.spec.plan import Configuration, Figure, Percentiles, Plan, Resolved

_HOW = {
    "docker": "bash docker-run.sh",
    "compose": "docker compose up --detach",
    "kubernetes": "kubectl apply -f k8s.yaml",
    "helm": "helm install llm helm/",
    "ollama": "bash ollama-create.sh",
    "quantize": "bash quantize.sh",
    "preload": "bash preload.sh, where there is a network",
    "image": "docker build --tag NAME ., as its first lines say",
    "kustomize": "kubectl apply -k .",
    "hpa": "kubectl apply -f k8s.yaml -f hpa.yaml",
    "keda": "kubectl apply -f k8s.yaml -f keda.yaml",
    "kserve": "kubectl apply -f kserve.yaml",
    "openshift": "oc apply -f openshift.yaml",
    "lws": "kubectl apply -f lws.yaml",
    "ray": "kubectl apply -f ray.yaml",
    "production-stack": "helm install llm vllm/vllm-stack --values production-stack.yaml",
    "llm-d": "helm install llm llm-d-modelservice/llm-d-modelservice --values llm-d.yaml",
    "nim": "bash nim.sh",
    "nim-operator": "kubectl apply -f nim-operator.yaml",
    "endpoints": "python endpoints.py create",
    "systemd": "sudo systemctl enable --now, as its first lines say",
    "windows": "powershell -ExecutionPolicy Bypass -File windows.ps1",
    "launchd": "launchctl bootstrap, as its first lines say",
    "llama-server": "bash llama-server.sh",
    "ollama-helm": "helm install llm otwld/ollama --values ollama-helm.yaml",
    "bench": "bash bench.sh smoke",
    "plan": "planner generate plan.yaml",
    "readme": "this text",
}
"""Slug → what starts or applies the target's first file."""


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One Markdown file."""
    best, request = plan.best, plan.request
    load = workload(plan)
    text = fill(
        "common/PLAN.md.j2",
        plan=plan,
        best=best,
        title=f"{best.model.id} on {best.hardware.label} with {plan.resolved.engine.title} {best.engine.version}",
        facts=facts(best, plan.resolved),
        load=load,
        gated=token_need(best, plan.resolved) == "required",
        objective=request.objective or "the default objective",
        ledger=[(row.item, gib(row.bytes), row.formula, row.why, row.basis) for row in best.memory.rows],
        device_total=gib(best.memory.device_bytes),
        shortfall=gib(best.memory.shortfall_bytes),
        figures=figures(best),
        limits=limits(best),
        files=files(plan, slugs),
        refused=[
            *(
                (target.slug, reason)
                for target in all_targets()
                if target.default and target.slug not in slugs and (reason := target.supports(plan)) is not None
            ),
            *(
                (f"{target.slug}: {what}", why)
                for target in all_targets()
                if target.slug in slugs and target.omits is not None
                for what, why in target.omits(plan)
            ),
        ],
        remote=best.hardware.nodes > 1,
        ports=_ports(plan) if {"docker", "compose"} & set(slugs) else None,
        alternatives=[alternative(other) for other in plan.alternatives],
    )
    return {"PLAN.md": text}


def files(plan: Plan, slugs: tuple[str, ...]) -> list[tuple[list[str], str]]:
    """(files of a target, a folder as one; what starts them) of every target rendered, those always there too."""
    rows = []
    for target in all_targets():
        if target.slug in slugs or target.always:
            named = ["".join(path.partition("/")[:2]) for path in target.paths(plan)]
            rows.append((list(dict.fromkeys(named)), _HOW[target.slug]))
    return rows


def _ports(plan: Plan) -> tuple[int, int] | None:
    """First and last host port when several replicas share a host."""
    launch = plan_launch(plan)
    count = len(launch.local_devices)
    return (launch.port, launch.port + count - 1) if count > 1 else None


def facts(best: Configuration, resolved: Resolved) -> list[tuple[str, str]]:
    """The choice as rows of a table."""
    parallel, engine = best.parallelism, best.engine
    rows = [
        ("Model", f"{best.model.id} at revision {best.model.revision}" if best.model.revision else best.model.id),
        ("Loaded from", best.model.ollama_tag or best.model.checkpoint),
        ("Served as", best.model.served_name),
        ("Licence", best.model.license or "not known"),
        ("Quantization", best.quantization),
        ("KV cache", best.kv_cache_dtype),
        ("Hardware", f"{best.hardware.label} ({best.hardware.count} devices, {best.hardware.nodes} node(s))"),
        (
            "Parallelism",
            f"tensor {parallel.tensor}, pipeline {parallel.pipeline}, data {parallel.data}, "
            f"expert {parallel.expert}, replicas {parallel.replicas}",
        ),
        ("Engine", f"{engine.name} {engine.version}"),
    ]
    if engine.image:
        rows.append(("Image", engine.image + ("" if engine.image_verified else " (tag not verified)")))
    image = find_image(best, resolved)
    if image is not None and image.note:
        rows.append(("Image needs", image.note))
    if best.features is not None:
        rows.append(("Features", features(best.features)))
    if engine.plugin:
        rows.append(("Plugin", f"{engine.plugin} (not in the stock image: target image derives one that has it)"))
    return rows


def features(held: Features) -> str:
    """What was asked beyond answering, on one line: `speculative ngram, draft tokens 4, tool calling`."""
    said = [
        name.replace("_", " ")
        + ("" if value is True else f" {', '.join(value) if isinstance(value, tuple) else value}")
        for name, value in held.model_dump(exclude_defaults=True).items()
    ]
    return ", ".join(said)


def limits(best: Configuration) -> list[tuple[str, float, str]]:
    """(name, value, the same in GiB where it counts bytes) of every limit that is set."""
    rows = [(name, value) for name, value in best.limits.model_dump().items() if value is not None]
    return [(name, value, gib(value) if name.endswith("_bytes") else "") for name, value in rows]


def band(figure: Figure) -> str:
    """`value (low – high) unit`."""
    value, low, high = (significant(number) for number in (figure.value, figure.low, figure.high))
    return f"{value} ({low} – {high}) {figure.unit}"


def figures(best: Configuration) -> list[tuple[str, str, str]]:
    """(what, value with band, basis) of every serving figure."""
    rows: list[tuple[str, str, str]] = []

    def add(what: str, figure: Figure) -> None:
        rows.append((what, band(figure), f"{figure.basis}, n = {figure.n}"))

    def latency(what: str, percentiles: Percentiles) -> None:
        for name in ("mean", "p50", "p90", "p99"):
            add(f"{what} {name}", getattr(percentiles, name))

    if best.performance is not None:
        latency("TTFT", best.performance.usual_ttft_ms)
        if best.performance.start_matters:
            add("TTFT p99 when all users start at once", best.performance.ttft_ms.p99)
        if best.performance.itl_ms is not None:
            latency("ITL", best.performance.itl_ms)
        add("Output", best.performance.output_tokens_per_s)
        add("Input and output", best.performance.total_tokens_per_s)
        add("Requests", best.performance.requests_per_s)
    if best.cost.usd_per_million_output_tokens is not None:
        add("Cost of output", best.cost.usd_per_million_output_tokens)
    return rows


def alternative(other: Configuration) -> tuple[str, str, str, str]:
    """(engine, quantization, devices, throughput) of a runner-up."""
    parallel = other.parallelism
    speed = band(other.performance.output_tokens_per_s) if other.performance else "not estimated"
    where = f"{other.hardware.label}, tp {parallel.tensor} pp {parallel.pipeline} × {parallel.replicas}"
    return f"{other.engine.name} {other.engine.version}", other.quantization, where, speed


TARGET = Target("readme", "The plan for people", ("PLAN.md",), lambda plan: None, render, always=True)
