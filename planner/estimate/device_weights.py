"""Bytes of weights on one device of a deployment: its release's rules, or what the file's header says.

`weights` knows formats and sharding; this knows which of its rules a deployment falls under.
"""

from __future__ import annotations

from planner.estimate.allocator import NEVER_SPLIT_ABOVE
from planner.estimate.deployment import Deployment
from planner.estimate.gguf_tables import LayerBytes, layer_bytes
from planner.estimate.identity import remembered
from planner.estimate.loading import Repack, excess_bytes
from planner.estimate.weights import TGI, device_tensors, rotary_tables, stage_layers, vllm_rules
from planner.spec.engine import EngineRelease
from planner.spec.model import Checkpoint, Mla, ModelSpec
from planner.spec.quantization import QuantizationFormat
from planner.units import ceil_div


def device_weights(d: Deployment, stage: int) -> int:
    """Bytes of weights on one device of `stage`, as the engine reports them after loading."""
    p = d.parallelism
    sm = d.machine.accelerator.sm if d.machine.accelerator else None
    own = _weights(
        d.model,
        d.quantization,
        d.checkpoint,
        d.engine,
        p.tensor,
        p.pipeline,
        stage,
        expert_ranks(d),
        sm,
        _workspace_bytes(d, sm),
    )
    if d.extras is None:
        return own
    from planner.estimate.extras import extra_weight_bytes

    return own + extra_weight_bytes(d, stage)


def expert_ranks(d: Deployment) -> int:
    """Ranks that the experts are spread over: with data-parallel attention, all of them."""
    p = d.parallelism
    if not d.model.is_moe:
        return 1
    if p.expert > 1:
        return p.expert
    return p.data * p.tensor if p.data > 1 else 1


def _workspace_bytes(d: Deployment, sm: int | None) -> int:
    """DeepGEMM's cuBLASLt workspace: a release with the coefficient makes it with the first FP8 quantizer."""
    k = d.engine.memory.coefficients if d.engine.memory else {}
    if sm is None or not (sm == 90 or 100 <= sm < 110):
        return 0
    quantizes = d.quantization.kind == "fp8" or d.kv_format.id.startswith("fp8")
    latent = any(isinstance(m, Mla) for group in d.model.layers for m in group.mixers)
    return int(k.get("deep_gemm_workspace_bytes", 0)) if quantizes or latent else 0


@remembered
def _weights(
    model: ModelSpec,
    quant: QuantizationFormat,
    checkpoint: Checkpoint | None,
    release: EngineRelease,
    tp: int,
    pp: int,
    stage: int,
    ep: int,
    sm: int | None,
    workspace_bytes: int,
) -> int:
    if quant.kind == "gguf":
        return _gguf_share(
            model, layer_bytes(model, quant, None, checkpoint.stored if checkpoint else None), tp, pp, stage
        )
    k = release.memory.coefficients if release.memory else {}
    rules = vllm_rules(
        sm,
        mxfp4_hidden_multiple=int(k.get("mxfp4_hidden_multiple", 256)),
        mxfp4_scale_multiples=(int(k.get("mxfp4_scale_rows", 1)), int(k.get("mxfp4_scale_groups", 1))),
    )
    rows = device_tensors(
        model,
        quant,
        tp=tp,
        pp=pp,
        stage=stage,
        ep=ep,
        rules=TGI if release.engine == "tgi" else rules,
        group_size=checkpoint.group_size if checkpoint else None,
        unquantized=(checkpoint.unquantized or None) if checkpoint else None,
    )
    size = sum(row.bytes for row in rows)
    if release.engine != "vllm" or sm is None:
        return size
    repack: Repack = "" if model.is_moe or sm != 90 else _REPACKS.get(quant.id, "")
    excess = excess_bytes(
        rows,
        rotary_tables(model),
        stage_layers(model.n_layers, pp, stage),
        quant.weight_bits if quant.kind != "float" else 0,
        int(k.get("load_max_split_bytes", 0)) or NEVER_SPLIT_ABOVE,
        repack,
    )
    return size + excess + workspace_bytes


_REPACKS: dict[str, Repack] = {"awq": "awq", "gptq-int4": "prepack"}
"""Formats that Hopper's kernel for them lays out anew."""


def _gguf_share(model: ModelSpec, file: LayerBytes, tp: int, pp: int, stage: int) -> int:
    """One device's share of a GGUF: its stage's tensors, split evenly. A tied head is the embedding itself."""
    size = sum(file.layers[i] for i in stage_layers(model.n_layers, pp, stage)) + file.towers
    last = stage == pp - 1
    if stage == 0 and not (last and model.tie_word_embeddings):
        size += file.embedding
    if last:
        size += file.output
    return ceil_div(size, tp)
