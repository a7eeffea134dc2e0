"""A finalist written out in full: the `Configuration` that a plan, a table or a template reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.advise.brief import Brief
from planner.advise.candidates import SIXTEEN_BITS, Candidate
from planner.advise.split import attention_heads
from planner.estimate.cost import cost
from planner.estimate.serving import serve
from planner.estimate.tensors import active_parameters, parameter_count
from planner.spec.engine import LAYER_SPLIT_ENGINES
from planner.spec.plan import Configuration, EngineChoice, HardwareChoice, ModelChoice, Reason
from planner.units import ceil_div, gib

if TYPE_CHECKING:
    from planner.estimate.deployment import Deployment
    from planner.spec.calibration import Calibration
    from planner.spec.hardware import Machine
    from planner.spec.model import Checkpoint
    from planner.spec.plan import Limits, MemoryLedger, Performance


def configure(
    candidate: Candidate,
    deployment: Deployment,
    memory: MemoryLedger,
    brief: Brief,
    calibration: Calibration,
    *,
    score: float = 0.0,
) -> Configuration:
    """Everything about one deployment; performance is None when it does not fit."""
    performance = None
    if memory.fits:
        performance = serve(
            deployment, brief.workload, calibration, memory.kv_cache_tokens, gpu_layers=memory.offloaded_layers
        )
    machine, layout = brief.machine, candidate.parallelism
    layered = candidate.release.engine in LAYER_SPLIT_ENGINES
    used = machine.count if layered else layout.devices_per_replica * layout.replicas
    limits = deployment.limits
    on_host = memory.host_bytes
    if machine.accelerator is None and not layered:
        on_host = sum(memory.bytes_of(item) for item in ("weights", "kv_cache", "activations", "runtime"))
    if on_host:
        limits = limits.model_copy(update={"host_memory_bytes": _host_memory(machine, limits, on_host)})
    on_device = memory.offloaded_layers
    if memory.fits and machine.accelerator is not None and on_device is not None and on_device != memory.total_layers:
        # pinned: an engine that counts free memory at its start would choose another split than the planned one
        cores = machine.cpu.cores * machine.sockets if machine.cpu else limits.num_thread
        limits = limits.model_copy(update={"num_gpu": on_device, "num_thread": cores})
    return Configuration(
        engine=_engine(candidate, brief),
        model=_model(candidate, brief),
        hardware=HardwareChoice(
            label=machine.label,
            accelerator=machine.accelerator.id if machine.accelerator else None,
            count=used,
            nodes=max(1, ceil_div(used, max(1, machine.devices_per_node))),
            platform=machine.platform,
            ram_bytes=machine.ram_bytes,
        ),
        quantization=candidate.quantization.id,
        kv_cache_dtype=candidate.kv_name,
        parallelism=layout,
        limits=limits,
        memory=memory,
        performance=performance,
        cost=cost(machine, performance),
        meets_slo=meets_targets(performance, brief) if performance else None,
        score=round(score, 6),
        reasons=_reasons(candidate, deployment, memory, performance, brief),
        features=candidate.extras.features if candidate.extras else None,
    )


def _host_memory(machine: Machine, limits: Limits, on_host: int) -> int:
    """Bytes of RAM one container asks for, `on_host` of weights and caches among them: on a CPU no more than it has."""
    total = limits.host_memory_bytes + on_host
    return total if machine.accelerator is not None or not machine.ram_bytes else min(total, machine.ram_bytes)


def meets_targets(performance: Performance, brief: Brief, slack: float = 1.0) -> bool:
    """True when TTFT and ITL are within `slack` times their targets at the asked percentile, and an asked arrival
    rate is served."""
    if not brief.keeps_up(performance.requests_per_s.value):
        return False
    percentile = brief.request.slo_percentile
    ttft = performance.ttft_ms_at(percentile)
    return ttft <= slack * brief.ttft_ms and performance.itl_ms_at(percentile) <= slack * brief.itl_ms


def _engine(candidate: Candidate, brief: Brief) -> EngineChoice:
    release, platform = candidate.release, brief.machine.platform
    image = release.image_for(platform)
    return EngineChoice(
        name=release.engine,
        version=release.version,
        image=image.reference if image else None,
        image_verified=bool(image and image.verified),
        platform=platform,
        plugin=None if candidate.support.via == "core" else candidate.support.via,
        quantization_flag=candidate.support.flag if candidate.checkpoint is None else None,
    )


def _model(candidate: Candidate, brief: Brief) -> ModelChoice:
    model, checkpoint = brief.model, _loadable(candidate)
    name = model.id.rsplit("/", 1)[-1].casefold()
    return ModelChoice(
        id=model.id,
        revision=checkpoint.revision if checkpoint else model.revision,
        checkpoint=(checkpoint.repo or checkpoint.ollama_tag or model.id)
        if checkpoint
        else _to_be_made(candidate, brief) or model.id,
        file=checkpoint.file if checkpoint else None,
        ollama_tag=checkpoint.ollama_tag if checkpoint else None,
        served_name=name,
        parameters=parameter_count(model),
        active_parameters=active_parameters(model),
        license=model.license,
        gated=bool(checkpoint.gated) if checkpoint else model.gated,
    )


def _loadable(candidate: Candidate) -> Checkpoint | None:
    """The published checkpoint, where the engine can fetch it: a tag of Ollama's library is Ollama's alone."""
    checkpoint = candidate.checkpoint
    own = candidate.release.engine == "ollama"
    return checkpoint if checkpoint and (own or checkpoint.repo or not checkpoint.ollama_tag) else None


def _to_be_made(candidate: Candidate, brief: Brief) -> str | None:
    """Path of a checkpoint that the user makes first (target quantize); None where the engine needs none."""
    quantization, model = candidate.quantization, brief.model
    while_loading = not candidate.support.checkpoint_only and quantization.kind != "gguf"
    if while_loading or quantization.id == model.quantization or quantization.kind == "float":
        return None
    if candidate.release.engine not in ("vllm", "tgi", "ollama", "llamacpp") or model.quantization not in SIXTEEN_BITS:
        return None
    from planner.sources.recipes import made_path

    return made_path(model.id, quantization.id)


def _reasons(
    candidate: Candidate, deployment: Deployment, memory: MemoryLedger, performance: Performance | None, brief: Brief
) -> tuple[Reason, ...]:
    """Why this format, layout and context, each with the figures that decide it."""
    quantization, layout, limits = candidate.quantization, candidate.parallelism, deployment.limits
    weights, pool = memory.bytes_of("weights"), memory.kv_cache_tokens
    need = (
        brief.workload.concurrency
        // max(1, layout.decoders * layout.data)
        * (brief.workload.input_tokens + brief.workload.output_tokens)
    )
    where = memory.device
    reasons = [
        Reason(
            subject="quantization",
            choice=quantization.id,
            because=(
                f"{gib(weights)} of weights on the fullest {where} leave room for {pool:,} tokens of KV cache; "
                + (f"the load keeps about {need:,} in use" if need <= pool else f"the load would keep {need:,} in use")
                + ("" if candidate.native else f"; kernels widen {quantization.id} to 16 bits before multiplying")
            ),
            rule="memory-ledger",
        )
    ]
    if candidate.release.engine in LAYER_SPLIT_ENGINES:
        reasons.append(_split_reason(memory, brief))
    else:
        reasons.append(
            Reason(
                subject="parallelism",
                choice=_layout(candidate),
                because=_layout_reason(candidate, brief),
                rule="parallelism",
            )
        )
    if candidate.kv_name != "auto":
        reasons.append(
            Reason(
                subject="kv_cache_dtype",
                choice=candidate.kv_name,
                because=f"{memory.kv_bytes_per_token:,} bytes per token per device instead of twice that",
                rule="kv-cache",
            )
        )
    reasons.append(
        Reason(
            subject="context",
            choice=f"{limits.max_model_len:,} tokens",
            because=(
                f"input + output need {brief.workload.input_tokens + brief.workload.output_tokens:,}; the memory "
                f"allows up to {memory.largest_context_tokens:,} for one request"
            ),
            rule="context",
        )
    )
    startup = candidate.release.startup
    if startup is not None:
        line = (
            f", and over a line of {startup.download_bytes_per_s * 8 / 1e6:.0f} Mbit/s the first one downloads as well"
        )
        reasons.append(
            Reason(
                subject="limits",
                choice=f"{limits.startup_budget_seconds:,} s to start",
                because=f"a start takes about {limits.load_seconds:,.0f} s{line if brief.fetches_weights else ''}",
                rule="startup",
            )
        )
    running = performance.effective_concurrency * layout.replicas if performance is not None else None
    if running is not None and layout.prefill:  # the figures are those of whole replicas, but decoders hold every user
        held = pool / (brief.workload.input_tokens + brief.workload.output_tokens)
        running = min(running, layout.decoders * layout.data * held)
    if running is not None and running < 0.9 * brief.workload.concurrency:
        reasons.append(
            Reason(
                subject="limits",
                choice=f"about {running:.0f} requests at once",
                because=f"{brief.workload.concurrency} users are asked for; the rest wait for a slot or for KV cache",
                rule="admission",
            )
        )
    return tuple(reasons)


def _split_reason(memory: MemoryLedger, brief: Brief) -> Reason:
    """Where llama.cpp's layers go."""
    total = memory.total_layers or brief.model.n_layers
    if brief.machine.accelerator is None:
        choice, because = (
            f"{total} layers on the CPU",
            "there is no accelerator; decode runs at the speed of host memory",
        )
    elif memory.offloaded_layers == memory.total_layers:
        choice, because = f"all {total} layers on the device", "the whole model fits; no layer waits for host memory"
        if brief.machine.count > 1:
            because = "layers are split over the devices, not tensors: more devices add memory, not speed"
    else:
        choice = f"{memory.offloaded_layers} of {total} layers on the device"
        because = f"the rest, {gib(memory.host_bytes)}, runs on the CPU at the speed of host memory"
    return Reason(subject="parallelism", choice=choice, because=because, rule="layer-split")


def _layout_reason(candidate: Candidate, brief: Brief) -> str:
    layout = candidate.parallelism
    devices = layout.devices_per_replica
    parts = [f"{devices} device{'s hold' if devices > 1 else ' holds'} one copy of the weights"]
    if layout.tensor > 1:
        link = brief.machine.link.name if brief.machine.link else "PCIe"
        heads = " and ".join(map(str, attention_heads(brief.model)))
        parts.append(f"{layout.tensor} divides the {heads} attention heads and every layer is shared over {link}")
    if layout.pipeline > 1:
        parts.append(f"{layout.pipeline} stages pass activations on instead of sharing each layer")
    if layout.replicas > 1:
        parts.append(
            f"{layout.prefill} of {layout.replicas} copies prefill and {layout.decoders} decode for every user"
            if layout.prefill
            else f"{layout.replicas} copies share the load"
        )
    return "; ".join(parts)


def _layout(candidate: Candidate) -> str:
    p = candidate.parallelism
    parts = [f"tensor {p.tensor}"]
    parts += [f"{name} {n}" for name, n in (("pipeline", p.pipeline), ("data", p.data), ("expert", p.expert)) if n > 1]
    if p.replicas > 1:
        parts.append(f"{p.replicas} replicas")
    return ", ".join(parts)
