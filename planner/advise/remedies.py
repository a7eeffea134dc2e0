"""Ways out of an infeasible request, cheapest effort first, each tried before it is offered.

A remedy is a changed request that was surveyed and fits; its figures are what the survey found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from planner.advise.brief import Brief, make_brief
from planner.advise.command import command
from planner.advise.consult import consult_guide
from planner.advise.rank import meets, ordered
from planner.advise.survey import Survey, survey
from planner.errors import PlannerError
from planner.sources.machines import resolve_machine
from planner.spec.plan import Remedy
from planner.units import GIB, gib, round_up

if TYPE_CHECKING:
    from planner.advise.evaluate import Assessment
    from planner.sources.catalog import Catalog
    from planner.spec.hardware import Accelerator
    from planner.spec.request import Request

MAX_REMEDIES = 8
_COUNTS = (2, 4, 8, 16)
_OTHER_DEVICES = 2
"""Other accelerators offered, the smallest that work."""


def remedies(catalog: Catalog, brief: Brief, *, too_slow: bool = False) -> tuple[Remedy, ...]:
    """The ladder for `brief`; with `too_slow` only what also meets the latency targets."""
    ladder: list[Remedy] = []
    for action, request in _variations(catalog, brief, too_slow):
        remedy = _tried(catalog, brief, action, request, too_slow)
        if remedy is not None and all(remedy.command != other.command for other in ladder):
            ladder.append(remedy)
    ladder += _other_devices(catalog, brief, too_slow)
    return tuple(ladder[:MAX_REMEDIES])


def _variations(catalog: Catalog, brief: Brief, too_slow: bool) -> Iterator[tuple[str, Request]]:
    request = brief.request

    def changed(**update: object) -> Request:
        return request.model_copy(update=update)

    if request.quantization is not None:
        yield "another quantization", changed(quantization=None)
    if request.engine is not None or request.engine_version is not None:
        yield "another engine", changed(engine=None, engine_version=None)
    if request.policy == "maintained":
        yield "let the guide decide, maintained or not", changed(policy="guide")
    if request.require:
        yield "drop the requirements", changed(require=())
    layout = ("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel", "replicas")
    if any(getattr(request, field) is not None for field in layout):
        yield "let the planner choose the layout", changed(**dict.fromkeys(layout))
    if request.kv_cache_dtype is None:
        yield "FP8 KV cache", changed(kv_cache_dtype="fp8")
    if request.max_model_len is not None:
        yield from _shorter_contexts(request)
    if not too_slow and request.min_quality is None and request.quantization is None:
        yield "fewer than 4 bits (noticeably worse answers)", changed(min_quality="gguf:Q2_K")
    if too_slow and brief.workload.concurrency > 1:
        yield from _fewer_users(catalog, brief)
    if brief.machine.accelerator is not None and request.ram is None and not too_slow:
        yield "part of the layers on the CPU (slow)", changed(ram=_ram_for(brief), engine=None)
    if brief.machine.accelerator is None:
        yield "more memory", changed(ram=_ram_for(brief))
        return
    name = brief.machine.label.split("x", 1)[-1]
    if brief.machine.instance is None and brief.machine.accelerator.devices_per_node > 1:
        for count in _COUNTS:
            if count > brief.machine.count:
                update: dict[str, object] = {"gpus": f"{count}x{name}", **dict.fromkeys(layout)}
                yield f"{count} of the same devices", changed(**update)


def _shorter_contexts(request: Request) -> Iterator[tuple[str, Request]]:
    """Halve the context until it is what the workload needs."""
    assert request.max_model_len is not None
    needed = request.input_tokens + request.output_tokens
    context = request.max_model_len // 2
    while context >= needed:
        yield "a shorter context", request.model_copy(update={"max_model_len": context})
        context //= 2


def _fewer_users(catalog: Catalog, brief: Brief) -> Iterator[tuple[str, Request]]:
    """The most users that meet the targets, by bisection over the quick estimate."""
    low, high = 0, brief.workload.concurrency
    while high - low > 1:
        middle = (low + high) // 2
        request = brief.request.model_copy(update={"concurrency": middle})
        tried = make_brief(request, brief.model, brief.machine)
        found = survey(catalog, tried)
        best = _best(found, tried, consult_guide(catalog, tried, found).engine)
        if best is not None and meets(best, tried):
            low = middle
        else:
            high = middle
    if low:
        yield "fewer concurrent users", brief.request.model_copy(update={"concurrency": low})


def _ram_for(brief: Brief) -> str:
    """Host memory for the model at about 5 bits a weight, with room for the system."""
    from planner.estimate.tensors import parameter_count

    needed = parameter_count(brief.model) * 5 // 8 + 8 * GIB
    return f"{round_up(needed, 16 * GIB) // GIB}GiB"


def _tried(catalog: Catalog, brief: Brief, action: str, request: Request, too_slow: bool) -> Remedy | None:
    """The remedy, when the changed request fits (and is fast enough, when that was the trouble)."""
    try:
        machine = brief.machine
        if request.gpus != brief.request.gpus or request.ram != brief.request.ram:
            machine = resolve_machine(catalog, request.gpus or machine.label, request.ram)
        changed = make_brief(request, brief.model, machine)
        found = survey(catalog, changed)
        best = _best(found, changed, consult_guide(catalog, changed, found).engine)
    except PlannerError:
        return None  # the variation is itself refused: no way out
    if best is None or (too_slow and not meets(best, changed)):
        return None
    return _remedy(action, request, best)


def _best(found: Survey, brief: Brief, engine: str | None) -> Assessment | None:
    """What `recommend` would choose: the guide's engine, the objective's best."""
    front = ordered([a for a in found.fitting if a.candidate.release.engine == engine], brief)
    return front[0] if front else None


def _remedy(action: str, request: Request, best: Assessment) -> Remedy:
    memory = best.memory
    figures = {
        "configuration": best.candidate.label,
        "weights per device": gib(memory.bytes_of("weights")),
        "context": f"{best.deployment.limits.max_model_len:,} tokens",
        "TTFT": f"about {best.ttft_s * 1000:,.0f} ms",
        "ITL": f"about {best.itl_s * 1000:,.1f} ms",
        "throughput": f"about {best.output_tokens_per_s:,.0f} output tokens/s",
    }
    return Remedy(action=action, detail=best.candidate.label, command=command(request), figures=figures)


def _other_devices(catalog: Catalog, brief: Brief, too_slow: bool) -> list[Remedy]:
    """The smallest other accelerators, one device each, on which the request works."""
    found: list[Remedy] = []
    present = brief.machine.accelerator
    for accelerator in _by_memory(catalog, brief):
        if present is not None and accelerator.id == present.id:
            continue
        request = brief.request.model_copy(
            update={"gpus": f"1x{accelerator.id}", "tensor_parallel": None, "pipeline_parallel": None,
                    "data_parallel": None, "expert_parallel": None, "replicas": None}
        )  # fmt: skip
        remedy = _tried(
            catalog, replace(brief, request=brief.request), f"another device: {accelerator.name}", request, too_slow
        )
        if remedy is not None:
            found.append(remedy)
            if len(found) == _OTHER_DEVICES:
                break
    return found


def _by_memory(catalog: Catalog, brief: Brief) -> list[Accelerator]:
    """Server and workstation accelerators with room for 4-bit weights, smallest first."""
    from planner.estimate.tensors import parameter_count

    least = parameter_count(brief.model) // 2
    kinds = ("datacenter", "workstation", "consumer")
    usable = [
        a for a in catalog.accelerators() if a.plannable and a.device_class in kinds and a.usable_memory_bytes > least
    ]
    return sorted(usable, key=lambda a: (a.usable_memory_bytes, -a.mem_bandwidth_bytes_per_s, a.id))[:12]
