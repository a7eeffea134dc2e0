"""Enumerate what could run: engine release × checkpoint or quantization × parallelism × KV dtype.

Refuses what cannot run and keeps the reason. Knows support matrices and divisibility; memory and
time come later (`evaluate.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.advise.brief import Brief
from planner.advise.split import divides
from planner.advise.support import kernel_for, resolve_quantization
from planner.errors import UnknownNameError
from planner.estimate.deployment import Extras
from planner.records import dataclass
from planner.sources.catalog import Catalog
from planner.spec.engine import LAYER_SPLIT_ENGINES, EngineRelease, KernelSupport
from planner.spec.model import Checkpoint, ModelSpec
from planner.spec.plan import Parallelism, Rejection
from planner.spec.quantization import KvFormat, QuantizationFormat

ADVISED_ENGINES = ("vllm", "tgi", "ollama")
SIXTEEN_BITS = frozenset({"bf16", "fp16", "fp32"})
"""Formats from which an engine or a tool makes others."""
_OLLAMA_TYPES = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "BF16")
_BELOW_FOUR_BITS = ("Q3_K_M", "Q2_K")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that could be deployed, kernels and divisibility checked, memory not yet."""

    release: EngineRelease
    quantization: QuantizationFormat
    checkpoint: Checkpoint | None
    support: KernelSupport
    native: bool
    kv_format: KvFormat
    kv_name: str
    """What the engine's flag is given (`auto` when its default)."""
    parallelism: Parallelism
    extras: Extras | None = None
    """What was asked beyond answering, resolved for the release; None when nothing was."""

    @property
    def label(self) -> str:
        """For people: engine, quantization and layout on one line."""
        p = self.parallelism
        layout = "".join(
            f" {name}{n}"
            for name, n in (("TP", p.tensor), ("PP", p.pipeline), ("DP", p.data), ("EP", p.expert), ("×", p.replicas))
            if n > 1
        )
        kv = "" if self.kv_name == "auto" else f" KV {self.kv_name}"
        return f"{self.release.engine} {self.release.version} {self.quantization.id}{layout}{kv}"


def releases_for(catalog: Catalog, brief: Brief) -> tuple[tuple[EngineRelease, ...], tuple[Rejection, ...]]:
    """The release of each engine to consider on this platform, and the engines refused by name."""
    request, platform = brief.request, brief.machine.platform
    engines = ADVISED_ENGINES if request.engine is None else (request.engine,)
    chosen, refused = [], []
    for engine in engines:
        if next(catalog.newest_releases(engine), None) is None:
            known = sorted({r.engine for r in catalog.releases()})
            raise UnknownNameError("engine", engine, known, hint=f"known: {', '.join(known)}")
        if request.engine_version is not None:
            chosen.append(nearest_release(catalog.releases(engine), request.engine_version))
            continue
        running = (
            r for r in catalog.newest_releases(engine) if r.image_for(platform) or platform in r.native_platforms
        )
        newest = next(running, None)
        if newest is not None:
            chosen.append(newest)
        else:
            refused.append(
                Rejection(candidate=engine, reason=f"no {engine} image or build for {platform}", rule="platform")
            )
    return tuple(chosen), tuple(refused)


def nearest_release(releases: tuple[EngineRelease, ...], version: str) -> EngineRelease:
    """The catalogued release nearest to `version` (0.26, 0.26.1 → 0.26.0)."""
    from planner.sources.catalog import version_key

    def distance(release: EngineRelease) -> tuple[int, ...]:
        ours, theirs = version_key(release.version), version_key(version)
        width = max(len(ours), len(theirs))
        padded = zip(ours + (0,) * width, theirs + (0,) * width, strict=False)
        return tuple(abs(a - b) for a, b in list(padded)[:width])

    return min(releases, key=distance)


def enumerate_candidates(
    catalog: Catalog, brief: Brief, releases: tuple[EngineRelease, ...]
) -> tuple[list[Candidate], list[Rejection]]:
    """Every candidate of `releases`, and what was refused before memory was looked at."""
    candidates: list[Candidate] = []
    refused: list[Rejection] = []
    for release in releases:
        if reason := _architecture_refusal(release, brief.model):
            refused.append(Rejection(candidate=release.engine, reason=reason, rule="architecture"))
            continue
        extras = _extras(catalog, brief, release)
        if isinstance(extras, str):
            refused.append(Rejection(candidate=release.engine, reason=extras, rule="feature"))
            continue
        layouts = list(_layouts(release, brief))
        if extras is not None and extras.features.disaggregated:
            layouts = _apart(layouts, release, brief, refused)
        if release.engine in LAYER_SPLIT_ENGINES and brief.machine.count > brief.machine.devices_per_node:
            reason = f"one {release.engine} server sees one host; {brief.machine.label} is several"
            refused.append(Rejection(candidate=release.engine, reason=reason, rule="platform"))
            continue
        if release.engine in LAYER_SPLIT_ENGINES and brief.machine.count > 1 and _sliced(brief):
            reason = f"one {release.engine} server sees one slice of a device, and there are {brief.machine.count}"
            refused.append(Rejection(candidate=release.engine, reason=reason, rule="platform"))
            continue
        for quantization, checkpoint in _formats(catalog, brief, release, refused):
            kernel = kernel_for(release, brief.machine, quantization.id)
            label = f"{release.engine} {quantization.id}"
            if isinstance(kernel, str):
                refused.append(Rejection(candidate=label, reason=kernel, rule="kernel"))
                continue
            if reason := _float16_refusal(release, brief, quantization.id):
                refused.append(Rejection(candidate=label, reason=reason, rule="dtype"))
                continue
            support, native = kernel
            own = quantization.id == brief.model.quantization
            if checkpoint is None and not own and support.checkpoint_only and quantization.needs_checkpoint:
                reason = f"no published {quantization.id} checkpoint of {brief.model.id} is known"
                if brief.request.quantization is None:
                    refused.append(Rejection(candidate=label, reason=reason, rule="checkpoint"))
                    continue
            fitting = []
            for layout in layouts:
                reason = _alignment_refusal(brief.model, quantization, layout)
                if not reason:
                    fitting.append(layout)
                else:
                    refused.append(Rejection(candidate=f"{label} TP{layout.tensor}", reason=reason, rule="alignment"))
            for kv_name, kv_format in _kv_formats(catalog, brief, release, refused):
                candidates += [
                    Candidate(release, quantization, checkpoint, support, native, kv_format, kv_name, layout, extras)
                    for layout in fitting
                ]
    return candidates, refused


def _extras(catalog: Catalog, brief: Brief, release: EngineRelease) -> Extras | str | None:
    """Adapters, drafts and parsers as `release` does them, or why it cannot. Raises UnknownNameError for a draft."""
    asked = brief.request.features
    if asked is None:
        return None
    from planner.advise.features import draft_reason, extras_of, resolve_features

    features = resolve_features(asked, release, brief.model, brief.machine)
    if isinstance(features, str):
        return features
    extras = extras_of(catalog, features.model_copy(update={"draft_tokens": brief.request.speculative_tokens}))
    reason = draft_reason(extras.draft, brief.model) if extras.draft is not None else None
    return extras if reason is None else reason


def _architecture_refusal(release: EngineRelease, model: ModelSpec) -> str:
    if model.model_type in release.unsupported_model_types:
        return f"{release.engine} {release.version} does not run {model.model_type} models"
    if release.supported_model_types and model.model_type not in release.supported_model_types:
        return f"{release.engine} {release.version} is not known to run {model.model_type} models"
    return ""


def _float16_refusal(release: EngineRelease, brief: Brief, quantization_id: str) -> str:
    """Why the activations cannot be float16, where they would have to be; else an empty string."""
    if brief.model.model_type not in release.no_float16_model_types:
        return ""
    title = f"{release.engine} {release.version} refuses float16 for {brief.model.model_type}"
    accelerator = brief.machine.accelerator
    if accelerator is not None and accelerator.lacks_bf16:
        return f"{title}, and {accelerator.name} has no bfloat16"
    return title if quantization_id == "fp16" else ""


def _formats(
    catalog: Catalog, brief: Brief, release: EngineRelease, refused: list[Rejection]
) -> Iterator[tuple[QuantizationFormat, Checkpoint | None]]:
    """(format, checkpoint) pairs worth trying, the asked one alone when the user named one."""
    model, request = brief.model, brief.request
    layered = release.engine in LAYER_SPLIT_ENGINES
    published: dict[str, Checkpoint] = {}
    for checkpoint in sorted(model.checkpoints, key=lambda c: _doubt(c, release)):
        published.setdefault(checkpoint.quantization, checkpoint)
    if request.quantization is not None:
        asked = resolve_quantization(request.quantization, release.engine, catalog)
        yield catalog.format(asked), published.get(asked)
        return
    if layered:
        ids = [q for q in published if q.startswith("gguf:")]
        if model.quantization in SIXTEEN_BITS:
            ids += [f"gguf:{t}" for t in _OLLAMA_TYPES]
            ids += [f"gguf:{t}" for t in _BELOW_FOUR_BITS] if request.min_quality is not None else []
        elif not ids:
            reason = f"no GGUF of {model.id} is known, and one is not made from {model.quantization} weights"
            refused.append(Rejection(candidate=release.engine, reason=reason, rule="checkpoint"))
    else:
        ids = [model.quantization, *{"bf16": ("fp16",), "fp32": ("bf16", "fp16")}.get(model.quantization, ())]
        upcast = SIXTEEN_BITS if model.quantization not in SIXTEEN_BITS else frozenset()  # larger, and no better
        ids += [q for q in published if not q.startswith("gguf:") and q not in upcast]
        ids += _online(catalog, brief, release, set(ids))
    floor = _quality_floor(catalog, brief, release)
    bf16_runs = not isinstance(kernel_for(release, brief.machine, "bf16"), str)
    for identifier in dict.fromkeys(ids):
        quantization = catalog.format(identifier)
        if identifier == "fp16" and bf16_runs and model.quantization in ("bf16", "fp32"):
            continue  # same bytes, same speed, less range
        if floor is not None and quantization.quality_rank > floor:
            refused.append(
                Rejection(candidate=f"{release.engine} {identifier}", reason="below the quality floor", rule="quality")
            )
            continue
        if floor is None and quantization.weight_bits < 4:
            refused.append(
                Rejection(
                    candidate=f"{release.engine} {identifier}",
                    reason="below 4 bits, which is used only when asked for (--min-quality or --quantization)",
                    rule="quality",
                )
            )
            continue
        yield quantization, published.get(identifier)


def _doubt(checkpoint: Checkpoint, release: EngineRelease) -> tuple[bool, bool]:
    """Sort key: seen before merely named by pattern; for Ollama first of all its own tag, which brings the template."""
    named = checkpoint.provenance.basis == "estimated"
    if release.engine == "ollama":
        return checkpoint.ollama_tag is None, named
    return named, checkpoint.repo is None


def _online(catalog: Catalog, brief: Brief, release: EngineRelease, published: set[str]) -> list[str]:
    """Formats that a stock image quantizes 16-bit weights to while loading, the best of each kind.

    A kind with a published checkpoint needs none; what needs a plugin is used only when asked for.
    """
    if brief.model.quantization not in SIXTEEN_BITS:
        return []
    have = {catalog.format(q).kind for q in published} | {"float"}
    rows = [s for s in release.support if s.platform == brief.machine.platform and s.via == "core"]
    formats = [catalog.format(s.quantization) for s in rows if not s.checkpoint_only]
    best: dict[str, QuantizationFormat] = {}
    for quantization in sorted(formats, key=lambda f: f.quality_rank):
        if quantization.kind not in have:
            best.setdefault(quantization.kind, quantization)
    return [quantization.id for quantization in best.values()]


def _quality_floor(catalog: Catalog, brief: Brief, release: EngineRelease) -> float | None:
    if brief.request.min_quality is None:
        return None
    return catalog.format(resolve_quantization(brief.request.min_quality, release.engine, catalog)).quality_rank


def _kv_formats(
    catalog: Catalog, brief: Brief, release: EngineRelease, refused: list[Rejection]
) -> Iterator[tuple[str, KvFormat]]:
    asked = brief.request.kv_cache_dtype
    default = "fp16" if release.engine in LAYER_SPLIT_ENGINES or brief.model.dtype == "fp16" else "bf16"
    if asked in (None, "auto"):
        yield "auto", catalog.kv_format(default)
        if release.engine not in LAYER_SPLIT_ENGINES and fp8_kv_is_native(brief) and "fp8" in release.kv_cache_dtypes:
            yield "fp8", catalog.kv_format("fp8")
        return
    assert asked is not None
    if asked in ("f16", "fp16", "float16", "bf16", "bfloat16"):
        yield asked, catalog.kv_format(asked)
        return
    known = release.kv_cache_dtypes
    kv_format = catalog.kv_format(asked)
    label, gate = f"{release.engine} KV {asked}", release.kv_min_compute_capability.get(kv_format.id)
    accelerator = brief.machine.accelerator
    if asked not in known and kv_format.id not in known:
        reason = f"{release.engine} {release.version} takes a KV cache in {', '.join(known)}, not in {asked}"
        refused.append(Rejection(candidate=label, reason=reason, rule="kernel"))
    elif gate is not None and accelerator is not None and accelerator.sm is not None and accelerator.sm < gate * 10:
        reason = f"a KV cache in {asked} needs compute capability {gate:.1f}; {accelerator.name} has less"
        refused.append(Rejection(candidate=label, reason=reason, rule="kernel"))
    else:
        yield asked, kv_format


def fp8_kv_is_native(brief: Brief) -> bool:
    """True where attention kernels read an FP8 cache without losing their speed (Ada, Hopper, CDNA3 on)."""
    accelerator = brief.machine.accelerator
    return (
        accelerator is not None and accelerator.fp8_flops_per_s is not None and accelerator.platform in ("cuda", "rocm")
    )


def _sliced(brief: Brief) -> bool:
    return brief.machine.accelerator is not None and brief.machine.accelerator.is_slice


def _layouts(release: EngineRelease, brief: Brief) -> Iterator[Parallelism]:
    """Ways to use the machine's devices, best use of all devices first."""
    request, machine, model = brief.request, brief.machine, brief.model
    if release.engine in LAYER_SPLIT_ENGINES or machine.accelerator is None:
        if (request.replicas or 1) == 1:  # one server takes the whole machine
            yield Parallelism()
        return
    count, per_node = machine.count, machine.devices_per_node
    if machine.accelerator.is_slice:  # checked in the brief: no more than one device to a replica is asked for
        yield Parallelism(replicas=request.replicas or max(1, min(count, brief.workload.concurrency)))
        return
    fixed = any((request.tensor_parallel, request.pipeline_parallel, request.data_parallel, request.expert_parallel))
    tensors = [request.tensor_parallel] if request.tensor_parallel else _widths(min(count, per_node))
    pipelines = [request.pipeline_parallel] if request.pipeline_parallel else [1] if fixed else _divisors(count)
    for tensor in tensors:
        whole = (request.expert_parallel or 1) > 1
        if not divides(model, tensor, experts_whole=whole) or (tensor > 1 and not release.has("tensor_parallel")):
            continue
        for pipeline in pipelines:
            data = request.data_parallel or 1
            devices = tensor * pipeline * data
            if devices > count or pipeline > model.n_layers or (pipeline > 1 and not release.has("pipeline_parallel")):
                continue
            if devices <= per_node < count and per_node % devices:
                continue
            apart = request.features is not None and request.features.disaggregated
            busy = max(brief.workload.concurrency, 2 if apart else 1)
            replicas = request.replicas or max(1, min(count // devices, busy))
            if devices * replicas > count:
                continue
            yield Parallelism(
                tensor=tensor, pipeline=pipeline, data=data, expert=request.expert_parallel or 1, replicas=replicas
            )
    if not fixed and model.is_moe and release.has("expert_parallel") and 2 <= count <= per_node:
        yield Parallelism(data=count, expert=count)
        yield (
            Parallelism(tensor=count, expert=count)
            if divides(model, count, experts_whole=True)
            else Parallelism(data=count)
        )


def _apart(
    layouts: list[Parallelism], release: EngineRelease, brief: Brief, refused: list[Rejection]
) -> list[Parallelism]:
    """Those of `layouts` that can prefill and decode in pods of their own: target llm-d keeps a replica on one node."""
    per_node = brief.machine.devices_per_node
    single = [p for p in layouts if p.devices_per_replica <= per_node]
    fitting = [p for p in single if p.replicas > 1]
    if len(single) < len(layouts):
        reason = f"target llm-d, which runs prefill and decode apart, keeps a replica on one node of {per_node} devices"
        refused.append(Rejection(candidate=f"{release.engine} over nodes", reason=reason, rule="feature"))
    if len(fitting) < len(single) or not fitting:
        asked = brief.request.replicas == 1
        told = "--replicas 1 asks for one" if asked else f"{brief.machine.label} has devices for one"
        reason = f"prefill and decode apart need two replicas or more, and {told}"
        label = f"{release.engine} " + ", ".join(sorted({f"TP{p.tensor}" for p in single if p.replicas < 2}))
        refused.append(Rejection(candidate=label.strip(), reason=reason, rule="feature"))
    return fitting


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _widths(n: int) -> list[int]:
    """Tensor-parallel sizes worth trying on `n` devices: divisors and powers of two."""
    return sorted({*_divisors(n), *(1 << i for i in range(n.bit_length()) if 1 << i <= n)})


def _alignment_refusal(model: ModelSpec, quantization: QuantizationFormat, layout: Parallelism) -> str:
    """Why grouped weights do not split as `layout` asks; empty when they do (vllm#13640)."""
    tensor = layout.tensor
    group = quantization.group_size or (quantization.block[1] if quantization.block else 0)
    if tensor == 1 or group <= 1 or quantization.kind == "gguf":
        return ""
    for layer_group in model.layers:
        for ffn in layer_group.ffns:
            if ffn.kind == "moe" and layout.expert > 1:
                continue  # experts are kept whole
            if ffn.intermediate % (group * tensor):
                return (
                    f"intermediate size {ffn.intermediate} is no multiple of group size {group} × "
                    f"tensor parallel {tensor}"
                )
    return ""
