"""Ways out of an infeasible request, cheapest effort first, each tried before it is offered.

A remedy is a changed request that was surveyed and fits; its figures are what the survey found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from planner.advise.brief import Brief, make_brief
from planner.advise.command import command
from planner.advise.consult import consult_guide
from planner.advise.finals import finals
from planner.advise.survey import survey
from planner.errors import PlannerError
from planner.sources.local_calibration import corrected
from planner.sources.machines import resolve_machine
from planner.spec.plan import Remedy
from planner.units import GIB, gib, round_up, significant

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.hardware import Accelerator
    from planner.spec.plan import Configuration, Percentiles
    from planner.spec.request import Request

MAX_REMEDIES = 8
_COUNTS = (2, 4, 8, 16)
_TOO_LONG_MS = 600_000.0
"""Ten minutes to the first token is no way out."""
_DEVICES_TRIED = 12
_OTHER_DEVICES = 2
"""Other accelerators offered, the smallest that work."""


def remedies(catalog: Catalog, brief: Brief, *, too_slow: bool = False) -> tuple[Remedy, ...]:
    """The ladder for `brief`; with `too_slow` only what also meets the latency targets."""
    ladder: list[Remedy] = []
    done: set[str] = set()
    for action, request in _variations(catalog, brief, too_slow):
        kind = action.split(" ", 1)[-1] if action[0].isdigit() else action
        if kind in done:
            continue  # the least of its kind that works is enough
        remedy = _tried(catalog, brief, action, request)
        if remedy is not None and all(
            remedy.command != other.command and remedy.figures != other.figures for other in ladder
        ):
            ladder.append(remedy)
            done.add(kind)
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
    features = request.features
    if features is not None and features.structured_output not in (None, "auto"):
        auto = features.model_copy(update={"structured_output": "auto"})
        yield "let the engine choose what holds answers to a schema", changed(features=auto)
    layout = ("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel", "replicas")
    if any(getattr(request, field) is not None for field in layout):
        yield "let the planner choose the layout", changed(**dict.fromkeys(layout))
    if request.kv_cache_dtype is None:
        yield "FP8 KV cache", changed(kv_cache_dtype="fp8")
    if request.max_model_len is not None:
        yield from _shorter_contexts(request)
    if not too_slow and request.min_quality is None and request.quantization is None:
        yield "fewer than 4 bits (noticeably worse answers)", changed(min_quality="gguf:Q2_K")
    if request.min_quality is not None:
        yield "a lower quality floor", changed(min_quality=None)
    if too_slow and brief.workload.concurrency > 1:
        yield from _fewer_users(catalog, brief)
    if brief.machine.accelerator is not None and request.ram is None and not too_slow:
        offloaded = changed(ram=_ram_for(brief), engine=None, concurrency=1, objective="latency")
        yield "part of the layers on the CPU, for one user (slow)", offloaded
    if brief.machine.accelerator is None:
        for factor in (1, 2, 4):
            yield "more memory", changed(ram=_ram_for(brief, factor))
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
    """The most users that meet the targets after simulation, by bisection."""
    low, high = 0, brief.workload.concurrency
    while high - low > max(1, high // 8):
        middle = (low + high) // 2
        request = brief.request.model_copy(update={"concurrency": middle})
        best = _best(catalog, make_brief(request, brief.model, brief.machine))
        if best is not None and best.meets_slo:
            low = middle
        else:
            high = middle
    if low:
        yield "fewer concurrent users", brief.request.model_copy(update={"concurrency": low})


def _ram_for(brief: Brief, factor: int = 1) -> str:
    """Host memory for the model at about 5 bits a weight, with room for the system; `factor` times as much."""
    from planner.estimate.tensors import parameter_count

    needed = factor * (parameter_count(brief.model) * 5 // 8 + 8 * GIB)
    return f"{round_up(needed, 16 * GIB) // GIB}GiB"


def _tried(catalog: Catalog, brief: Brief, action: str, request: Request) -> Remedy | None:
    """The remedy, when `recommend` would answer the changed request with a plan."""
    try:
        machine = brief.machine
        if request.gpus != brief.request.gpus or request.ram != brief.request.ram:
            machine = resolve_machine(catalog, request.gpus or machine.label, request.ram)
            machine = corrected(machine, request.local_calibration)
        changed = make_brief(request, brief.model, machine)
        best = _best(catalog, changed)
    except PlannerError:
        return None  # the variation is itself refused: no way out
    if best is None or (changed.slo_is_explicit and not best.meets_slo):
        return None
    if best.performance is not None and best.performance.ttft_ms.p50.value > _TOO_LONG_MS:
        return None
    return _remedy(action, request, best)


def _best(catalog: Catalog, brief: Brief) -> Configuration | None:
    """What `recommend` would choose: the guide's engine, the objective's best after simulation."""
    found = survey(catalog, brief)
    engine = consult_guide(catalog, brief, found).engine
    pool = [a for a in found.fitting if a.candidate.release.engine == engine]
    return finals(catalog, brief, pool)[0] if pool else None


def _remedy(action: str, request: Request, best: Configuration) -> Remedy:
    memory, speed, layout = best.memory, best.performance, best.parallelism
    shape = "".join(
        f" {name}{n}"
        for name, n in (("TP", layout.tensor), ("PP", layout.pipeline), ("DP", layout.data), ("×", layout.replicas))
        if n > 1
    )
    figures = {
        "weights per device": gib(memory.bytes_of("weights")),
        "context": f"{best.limits.max_model_len:,} tokens",
    }
    if memory.offloaded_layers is not None and memory.offloaded_layers != memory.total_layers:
        figures["layers on the device"] = f"{memory.offloaded_layers} of {memory.total_layers}"
    if speed is not None:
        figures["TTFT"] = _latency(speed.usual_ttft_ms)
        if speed.itl_ms is not None:
            figures["ITL"] = _latency(speed.itl_ms)
        figures["throughput"] = f"{significant(speed.output_tokens_per_s.value)} output tokens/s"
    label = f"{best.engine.name} {best.engine.version} {best.quantization}{shape}"
    return Remedy(action=action, detail=label, command=command(request), figures=figures)


def _latency(times: Percentiles) -> str:
    return f"p50 {significant(times.p50.value)} ms, p99 {significant(times.p99.value)} ms"


def _other_devices(catalog: Catalog, brief: Brief, too_slow: bool) -> list[Remedy]:
    """The smallest other accelerators (or, when speed is short, the slowest faster ones) that work alone."""
    found: list[Remedy] = []
    present = brief.machine.accelerator
    layout = dict.fromkeys(("tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel", "replicas"))
    users = brief.workload.concurrency
    for name, accelerator in _ranked_devices(catalog, brief, too_slow):
        if present is not None and accelerator.id == present.id and not accelerator.memory_options_bytes:
            continue
        update = {"gpus": f"1x{name}", "ram": None, "concurrency": users, "objective": brief.objective, **layout}
        remedy = _tried(catalog, brief, f"another device: {accelerator.name}", brief.request.model_copy(update=update))
        if remedy is not None:
            found.append(remedy)
            if len(found) == _OTHER_DEVICES:
                break
    return found


def _ranked_devices(catalog: Catalog, brief: Brief, too_slow: bool) -> list[tuple[str, Accelerator]]:
    """(name, device) with room for 4-bit weights, of the same kind of machine first."""
    from planner.estimate.tensors import parameter_count

    least = parameter_count(brief.model) // 2
    apple = brief.machine.device_class == "apple"
    kinds = ("apple",) if apple else ("datacenter", "workstation", "consumer")
    usable: list[tuple[tuple[float, float, str], str, Accelerator]] = []
    for a in catalog.accelerators():
        if not a.plannable or a.device_class not in kinds:
            continue
        for size in a.memory_options_bytes or (a.usable_memory_bytes,):
            if size <= least * (1.4 if apple else 1):
                continue
            name = f"{a.id}-{size // GIB}gb" if a.memory_options_bytes else a.id
            speed = a.mem_bandwidth_bytes_per_s
            usable.append(((speed, size, name) if too_slow else (size, -speed, name), name, a))
    if too_slow:
        present = brief.machine.accelerator
        slowest = present.mem_bandwidth_bytes_per_s if present else 0.0
        usable = [row for row in usable if row[0][0] > slowest]
    usable.sort(key=lambda row: row[0])
    step = max(1, len(usable) // _DEVICES_TRIED) if too_slow else 1
    return [(name, a) for _, name, a in usable[::step][:_DEVICES_TRIED]]
