"""A live endpoint against what its clients rely on and what its plan says.

`openai` and `native` ask for each promise of the API, `load` puts the planned load on it, `memory` reads what vLLM
says of its memory. Needs nothing but the standard library.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.validate.probe import load as load_
from planner.validate.probe import memory, native, openai
from planner.validate.probe.http import Client, EndpointError
from planner.validate.probe.subject import Promise, promise_of
from planner.validate.verdict import Check, Verdict, failed, of_depth, skipped

if TYPE_CHECKING:
    from planner.spec.plan import Plan

DEFAULT_LOAD = (4, 128, 32)
"""Clients, input and output tokens without a plan."""


def probe(
    url: str,
    plan: Plan | None = None,
    *,
    model: str | None = None,
    key: str | None = None,
    log: str | None = None,
    load: bool = True,
    concurrency: int | None = None,
    requests: int | None = None,
    load_seconds: float = 120.0,
    timeout_s: float = 120.0,
    progress: load_.Progress | None = None,
) -> Verdict:
    """The verdict over the endpoint at `url`, beside `plan` where there is one.

    `model` is the name to ask for (the plan's, else the first that the endpoint lists), `key` a bearer token, `log` the
    text of a start-up log. The load has `concurrency` clients (the plan's), in all
    `requests`, and starts none after `load_seconds`. Raises UsageError for an impossible URL.
    """
    promise = Promise() if plan is None else promise_of(plan)
    if model is not None:
        promise = replace(promise, served_name=model)
    client = Client(url, key=key, timeout_s=timeout_s)
    checks = probe_checks(
        client, promise, load=load, concurrency=concurrency, requests=requests, load_seconds=load_seconds, log=log,
        progress=progress,
    )  # fmt: skip
    return Verdict(client.url, of_depth("probe", checks))


def probe_checks(
    client: Client,
    promise: Promise,
    *,
    load: bool = True,
    concurrency: int | None = None,
    requests: int | None = None,
    load_seconds: float = 120.0,
    log: str | None = None,
    progress: load_.Progress | None = None,
) -> tuple[Check, ...]:
    """All checks, in order; an endpoint that cannot be reached fails once and is asked nothing more."""
    logged = () if log is None else memory.log_checks(log, promise.memory, promise.max_model_len)
    try:
        checks = [openai.health(client)]
        named, model = openai.models(client, promise)
        engine = promise.engine or native.detect(client)
        metrics = client.get("/metrics")
    except EndpointError as error:
        return (failed("reachable", str(error)), *logged)
    checks.append(named)
    model = model or promise.served_name  # a proxy may list no models and serve the planned one
    if model is None:
        checks.append(skipped("OpenAI API", "the endpoint names no model to ask for; --model names one"))
    else:
        target = openai.Target(client, model, promise)
        checks += openai.checks(target)
    checks += native.checks(client, model, engine)
    if load and model is not None:
        clients, prompt, answer = DEFAULT_LOAD
        clients = min(concurrency or promise.concurrency or clients, load_.MAX_CLIENTS)
        wanted = load_.Load(
            clients, requests or load_.ROUNDS * clients, promise.input_tokens or prompt,
            promise.output_tokens or answer, load_seconds,
        )  # fmt: skip
        checks += load_.checks(target, wanted, progress)
    elif not load:
        checks.append(skipped("load", "not asked for"))
    if metrics.status == 200 and engine == "vllm":
        try:
            checks += memory.metrics_checks(client.get("/metrics").body.decode("utf-8", "replace"), promise.memory)
        except EndpointError as error:
            checks.append(failed("metrics", str(error)))
    return (*checks, *logged)
