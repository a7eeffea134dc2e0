"""`bench.sh`: try the server, then load it as planned with `vllm bench serve` or GuideLLM 0.8.

Knows the forms of both tools' command lines; the figures to compare with are in PLAN.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.render.launch import plan_launch, why_no_container
from planner.render.registry import Target
from planner.render.targets.docker import headline
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

_OLLAMA_PORT = 11434
"""The native server's; every other plan has a container."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The planned load: `requests` in all, `concurrency` clients or `rate` per second."""

    arrival: str
    concurrency: int
    rate: float | None
    requests: int
    input_tokens: int
    output_tokens: int


def workload(plan: Plan) -> Workload:
    """The planned load; without an asked concurrency, as many clients as the deployment runs at once."""
    request, best = plan.request, plan.best
    running = best.limits.max_num_seqs * best.parallelism.replicas * best.parallelism.data
    concurrency = request.concurrency or running
    arrival = "poisson" if request.request_rate is not None else request.arrival
    return Workload(
        arrival=arrival,
        concurrency=concurrency,
        rate=request.request_rate,
        requests=concurrency if arrival == "burst" else max(20, 5 * concurrency),
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
    )


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One script with three verbs: smoke, vllm, guidellm."""
    load, best = workload(plan), plan.best
    served, engine = best.model.served_name, best.engine.name
    tokenizer = best.model.checkpoint if engine in ("vllm", "tgi") else plan.resolved.model.id
    chat = {"model": served, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}
    server = {"kind": "openai_http", "model": served}
    return {
        "bench.sh": fill(
            "common/bench.sh.j2",
            title=headline(plan),
            port=_OLLAMA_PORT if why_no_container(plan) else plan_launch(plan).port,
            chat=json.dumps(chat),
            served_name=served,
            tokenizer=tokenizer,
            native=engine == "vllm",
            load=load,
            vllm_load=_vllm_load(load),
            guidellm_backend=json.dumps(server),
            guidellm_profile=_guidellm_profile(load),
            guidellm_tokenizer=json.dumps({"kind": "huggingface_auto", "model": tokenizer}),
            guidellm_data=f"kind=synthetic_text,prompt_tokens={load.input_tokens},output_tokens={load.output_tokens}",
        )
    }


def _vllm_load(load: Workload) -> tuple[str, ...]:
    if load.arrival == "poisson" and load.rate is not None:
        return ("--request-rate", f"{load.rate:.12g}")
    return ("--request-rate", "inf", "--max-concurrency", str(load.concurrency))


def _guidellm_profile(load: Workload) -> str:
    if load.arrival == "poisson" and load.rate is not None:
        return f"kind=poisson,rate={load.rate:.12g}"
    if load.arrival == "burst":
        return f"kind=throughput,max_concurrency={load.concurrency}"
    return f"kind=concurrent,streams={load.concurrency}"


TARGET = Target("bench", "Smoke test and load", ("bench.sh",), lambda plan: None, render, always=True)
