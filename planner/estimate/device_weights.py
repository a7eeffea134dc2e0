"""Bytes of weights on one device of a deployment: its release's rules, or what the file's header says.

`weights` knows formats and sharding; this knows which of its rules a deployment falls under.
"""

from __future__ import annotations

from planner.estimate.deployment import Deployment
from planner.estimate.identity import remembered
from planner.estimate.weights import TGI, stage_layers, vllm_rules, weight_bytes
from planner.spec.model import Checkpoint, ModelSpec, StoredBytes
from planner.spec.quantization import QuantizationFormat
from planner.units import ceil_div


def device_weights(d: Deployment, stage: int) -> int:
    """Bytes of weights on one device of `stage`."""
    p = d.parallelism
    return _weights(
        d.model,
        d.quantization,
        d.checkpoint,
        p.tensor,
        p.pipeline,
        stage,
        expert_ranks(d),
        d.engine.engine == "tgi",
        d.machine.accelerator.sm if d.machine.accelerator else None,
        int(d.engine.memory.coefficients.get("mxfp4_hidden_multiple", 256)) if d.engine.memory else 256,
    )


def expert_ranks(d: Deployment) -> int:
    """Ranks that the experts are spread over: with data-parallel attention, all of them."""
    p = d.parallelism
    if not d.model.is_moe:
        return 1
    if p.expert > 1:
        return p.expert
    return p.data * p.tensor if p.data > 1 else 1


@remembered
def _weights(
    model: ModelSpec,
    quant: QuantizationFormat,
    checkpoint: Checkpoint | None,
    tp: int,
    pp: int,
    stage: int,
    ep: int,
    is_tgi: bool,
    sm: int | None,
    mxfp4_hidden_multiple: int,
) -> int:
    if quant.kind == "gguf" and checkpoint is not None and checkpoint.stored is not None:
        return _stored_share(model, checkpoint.stored, tp, pp, stage)
    return weight_bytes(
        model,
        quant,
        tp=tp,
        pp=pp,
        stage=stage,
        ep=ep,
        rules=TGI if is_tgi else vllm_rules(sm, mxfp4_hidden_multiple=mxfp4_hidden_multiple),
        group_size=checkpoint.group_size if checkpoint else None,
        unquantized=(checkpoint.unquantized or None) if checkpoint else None,
    )


def _stored_share(model: ModelSpec, stored: StoredBytes, tp: int, pp: int, stage: int) -> int:
    """One device's share of a GGUF whose header was read: its stage's tensors, split evenly."""
    size = sum(stored.layers[i] for i in stage_layers(model.n_layers, pp, stage)) + stored.towers
    if stage == 0 or (stage == pp - 1 and model.tie_word_embeddings):
        size += stored.embedding
    if stage == pp - 1:
        size += stored.output + stored.other
    return ceil_div(size, tp)
