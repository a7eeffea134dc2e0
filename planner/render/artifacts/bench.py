"""`bench.sh`: try the server, then load it as planned with `vllm bench serve`, GuideLLM 0.8 or AIPerf 0.13.

Knows the forms of these tools' command lines; the figures to compare with are in PLAN.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.render.arguments import is_local
from planner.render.artifacts.docker import headline
from planner.render.launch import plan_launch, why_no_container
from planner.render.registry import Target
from planner.render.templating import fill

if TYPE_CHECKING:
    from planner.spec.plan import Plan

_NATIVE_PORTS = {"ollama": 11434, "llamacpp": 8080}
"""Where an engine listens that is not started in a container of ours; 8000 for the others."""


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
    running = best.limits.max_num_seqs * best.parallelism.decoders * best.parallelism.data
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
    """One script with four verbs: smoke, vllm, guidellm, aiperf."""
    load, best, model = workload(plan), plan.best, plan.resolved.model
    served, engine = best.model.served_name, best.engine.name
    own = engine in ("vllm", "tgi") and not is_local(best.model) and not best.quantization.startswith("gguf:")
    tokenizer = best.model.checkpoint if own else model.id
    container = why_no_container(plan) is None
    endpoint, body = _smoke(plan)
    # vLLM's own completions endpoint can be told to ignore the end token: every answer is as long as planned
    backend, path = ("vllm", "/v1/completions") if engine == "vllm" else ("openai-chat", "/v1/chat/completions")
    if not model.instruct and engine != "vllm":
        backend, path = "openai", "/v1/completions"
    return {
        "bench.sh": fill(
            "common/bench.sh.j2",
            title=headline(plan),
            port=plan_launch(plan).port if container else _NATIVE_PORTS.get(engine, 8000),
            endpoint=endpoint,
            body=json.dumps({"model": served, **body}),
            served_name=served,
            tokenizer=tokenizer,
            backend=backend,
            path=path,
            aiperf_type="chat" if model.instruct else "completions",
            ignores_end=engine == "vllm",
            load=load,
            guidellm_backend=json.dumps({"kind": "openai_http", "model": served}),
            guidellm_tokenizer=json.dumps({"kind": "huggingface_auto", "model": tokenizer}),
        )
    }


def _smoke(plan: Plan) -> tuple[str, dict[str, object]]:
    """(endpoint, body without the model) of the shortest request that the model can answer."""
    model = plan.resolved.model
    if model.modality == "embedding":
        return "/v1/embeddings", {"input": "Say hello."}
    if not model.instruct:
        return "/v1/completions", {"prompt": "Hello, my name is", "max_tokens": 16}
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}


TARGET = Target("bench", "Smoke test and load", ("bench.sh",), lambda plan: None, render, always=True)
