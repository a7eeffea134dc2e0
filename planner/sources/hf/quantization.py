"""`quantization_config` of a checkpoint, read into a format id, a group size and what it leaves alone.

What is left alone is said as tensor roles of `estimate.tensors` (`attn_q`, `router` …), with the
layers in brackets where only some are (`attn_q[0-2,60]`), so that no engine's naming survives here.
Knows the spellings of transformers, compressed-tensors, AutoAWQ, GPTQ, ModelOpt and bitsandbytes.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from planner.errors import UnknownNameError, UsageError
from planner.sources.hf.common import Config, Decoder

KNOWN_METHODS = (
    "fp8", "compressed-tensors", "awq", "gptq", "auto-round", "mxfp4", "modelopt", "quark", "bitsandbytes",
    "fbgemm_fp8", "eetq", "torchao",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantized:
    """`format` is a quantization id of the catalog."""

    format: str
    group_size: int | None = None
    unquantized: tuple[str, ...] = ()
    fp8_roles: tuple[str, ...] = ()
    also_quantized: tuple[str, ...] = ()


_ATTENTION: dict[str, tuple[str, ...]] = {
    "attn_q": ("self_attn.q_proj", "self_attn.qkv_proj", "mixer.q_proj"),
    "attn_k": ("self_attn.k_proj", "self_attn.qkv_proj", "mixer.k_proj"),
    "attn_v": ("self_attn.v_proj", "self_attn.qkv_proj", "mixer.v_proj"),
    "attn_output": ("self_attn.o_proj", "mixer.o_proj"),
}
_MLA: dict[str, tuple[str, ...]] = {
    "q_a": ("self_attn.q_a_proj", "self_attn.fused_qkv_a_proj"),
    "q_b": ("self_attn.q_b_proj",),
    "attn_q": ("self_attn.q_proj",),
    "kv_a": ("self_attn.kv_a_proj_with_mqa", "self_attn.fused_qkv_a_proj"),
    "kv_b": ("self_attn.kv_b_proj",),
    "attn_output": ("self_attn.o_proj",),
    "indexer_q": ("self_attn.indexer.wq_b", "self_attn.indexers.wq_b"),
    "indexer_k": ("self_attn.indexer.wk", "self_attn.indexers.wk"),
    "indexer_weights": ("self_attn.indexer.weights_proj", "self_attn.indexers.weights_proj"),
}
_STATE: dict[str, tuple[str, ...]] = {
    "ssm_in": ("mixer.in_proj", "linear_attn.in_proj_qkv", "linear_attn.in_proj_qkvz", "mamba.in_proj"),
    "ssm_gates": ("linear_attn.in_proj_ba", "linear_attn.in_proj_b", "linear_attn.in_proj_a"),
    "ssm_out": ("mixer.out_proj", "linear_attn.out_proj", "mamba.out_proj"),
}
_DENSE: dict[str, tuple[str, ...]] = {
    "ffn_gate": ("mlp.gate_proj", "mixer.gate_proj", "feed_forward.gate_proj"),
    "ffn_up": ("mlp.up_proj", "mixer.up_proj", "feed_forward.up_proj"),
    "ffn_down": ("mlp.down_proj", "mixer.down_proj", "feed_forward.down_proj"),
}
_EXPERTS: dict[str, tuple[str, ...]] = {
    "ffn_gate_exps": ("mlp.experts.0.gate_proj", "block_sparse_moe.experts.0.w1", "mlp.experts"),
    "ffn_up_exps": ("mlp.experts.0.up_proj", "block_sparse_moe.experts.0.w3", "mlp.experts", "mixer.experts.0.up_proj"),
    "ffn_down_exps": (
        "mlp.experts.0.down_proj",
        "block_sparse_moe.experts.0.w2",
        "mlp.experts",
        "mixer.experts.0.down_proj",
    ),
    "ffn_gate_shexp": ("mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj"),
    "ffn_up_shexp": ("mlp.shared_experts.up_proj", "mlp.shared_expert.up_proj", "mixer.shared_experts.up_proj"),
    "ffn_down_shexp": ("mlp.shared_experts.down_proj", "mlp.shared_expert.down_proj", "mixer.shared_experts.down_proj"),
    "latent_in": ("mixer.fc1_latent_proj",),
    "latent_out": ("mixer.fc2_latent_proj",),
}
_BESIDE_DENSE: dict[str, tuple[str, ...]] = {
    "ffn_gate_exps": ("experts", "experts.0.gate_proj"),
    "ffn_up_exps": ("experts", "experts.0.up_proj"),
    "ffn_down_exps": ("experts", "experts.0.down_proj"),
}
"""Gemma 4: the experts are a module beside `mlp`."""
_FP8_BESIDE_FP4 = (
    "attn_output", "attn_output_a", "ffn_down_shexp", "ffn_gate_shexp", "ffn_up_shexp", "indexer_q", "kv_a", "q_a",
    "q_b",
)  # fmt: skip
"""DeepSeek V4: the experts are FP4, every other linear FP8."""
_PREFIXES = ("model.layers.{}.", "model.language_model.layers.{}.", "language_model.model.layers.{}.",
             "backbone.layers.{}.", "language_model.layers.{}.")  # fmt: skip


def read(c: Config, decoder: Decoder) -> Quantized | None:
    """The checkpoint's own quantization, None when it has none. Unknown methods are an error."""
    q = c.sub("quantization_config")
    if not q.data:
        q = c.sub("text_config").sub("quantization_config")
    if not q.data:
        return None
    method = q.text("quant_method") or q.text("quant_algo")
    if method in ("fp8", "fbgemm_fp8"):
        block = q.sequence("weight_block_size")
        kept = _kept(q.sequence("modules_to_not_convert") or q.sequence("ignored_layers") or (), decoder, _contains)
        if block and q.text("moe_quant_algo") == "NVFP4":
            return Quantized("nvfp4", 16, fp8_roles=_FP8_BESIDE_FP4)
        if block and c.text("expert_dtype") == "fp4":
            return Quantized("mxfp4", 32, kept, fp8_roles=_FP8_BESIDE_FP4)
        if block:
            return Quantized("fp8-block", None, kept)
        dynamic = method == "fbgemm_fp8" or q.text("activation_scheme") == "dynamic"
        return Quantized("fp8-dynamic" if dynamic else "fp8", None, kept)
    if method == "compressed-tensors":
        return _compressed(q, decoder)
    if method == "awq":
        kept = _kept(q.sequence("modules_to_not_convert") or (), decoder, _contains)
        return Quantized("awq", q.positive("group_size", "q_group_size", default=128), kept)
    if method == "gptq":
        bits = q.positive("bits", default=4)
        if bits not in (4, 8):
            raise UnknownNameError("quantization", f"gptq with {bits} bits", ("gptq-int4", "gptq-int8"))
        group = q.data.get("group_size", 128)
        return Quantized(f"gptq-int{bits}", 0 if group == -1 else q.positive("group_size", default=128))
    if method in ("auto-round", "intel/auto-round"):
        return _auto_round(q)
    if method == "quark":
        return _quark(q, decoder)
    if method == "torchao":
        return _torchao(q, decoder)
    if method == "eetq":
        return Quantized("eetq", None, _kept(q.sequence("modules_to_not_convert") or (), decoder, _contains))
    if method == "mxfp4":
        return Quantized("mxfp4", 32, _kept(q.sequence("modules_to_not_convert") or (), decoder, _contains))
    if method == "modelopt" or method in ("NVFP4", "FP8", "MIXED_PRECISION"):
        return _modelopt(q, decoder)
    if method == "bitsandbytes":
        kept = _kept(q.sequence("llm_int8_skip_modules") or (), decoder, _contains)
        return Quantized(
            "bnb-nf4" if q.flag("load_in_4bit") else "bnb-int8", 64 if q.flag("load_in_4bit") else None, kept
        )
    raise UsageError(
        f"the checkpoint is quantized with {method[:80]}, which no engine planned here loads; name the model that it "
        f"was made from (read are {', '.join(KNOWN_METHODS)})"
    )


def _auto_round(q: Config) -> Quantized:
    """Intel's AutoRound packs as GPTQ does, or as AWQ where `packing_format` says so."""
    bits, group = q.positive("bits", default=4), q.data.get("group_size", 128)
    size = 0 if group == -1 else q.positive("group_size", default=128)
    if bits == 4 and "awq" in q.text("packing_format"):
        return Quantized("awq", size)
    if bits not in (4, 8):
        raise UnknownNameError("quantization", f"auto-round with {bits} bits", ("gptq-int4", "gptq-int8"))
    return Quantized(f"gptq-int{bits}", size)


def _torchao(q: Config, decoder: Decoder) -> Quantized:
    """PyTorch's torchao: the name of its configuration class, new (a table) or old (its snake-case name)."""
    given = q.data.get("quant_type")
    table = q.sub("quant_type").sub("default") if isinstance(given, Mapping) else Config({})
    name = table.text("_type") if table.data else str(given)
    data = table.sub("_data")
    kept = _kept(q.sequence("modules_to_not_convert") or (), decoder, _contains)
    folded = name.replace("_", "").casefold()
    if folded.startswith(("int4weightonly", "uintxweightonly")):
        size = data.opt_int("group_size") or q.sub("quant_type_kwargs").opt_int("group_size") or 128
        return Quantized("gptq-int4", size, kept)
    if folded.startswith("int8dynamicactivationint8weight"):
        return Quantized("int8-w8a8", None, kept)
    if folded.startswith("int8weightonly"):
        return Quantized("int8-w8a16", None, kept)
    if folded.startswith(("float8dynamicactivationfloat8weight", "float8weightonly")):
        return Quantized("fp8-dynamic", None, kept)
    raise UnknownNameError(
        "quantization", f"torchao {name[:60]}", ("Int4WeightOnlyConfig", "Float8DynamicActivationFloat8WeightConfig")
    )


def _quark(q: Config, decoder: Decoder) -> Quantized:
    """AMD's Quark: one scheme for all linears, `exclude` names those without. Source: vLLM's quark.py."""
    every = q.sub("global_quant_config")
    weight, acts = every.sub("weight"), every.sub("input_tensors")
    dtype = weight.text("dtype")
    kept = _kept(q.sequence("exclude") or (), decoder, _glob)
    if dtype == "fp8_e4m3":
        return Quantized("fp8-dynamic" if acts.flag("is_dynamic") else "fp8", None, kept)
    if dtype == "fp4":
        return Quantized("mxfp4", weight.positive("group_size", default=32), kept)
    if dtype == "int8":
        return Quantized("int8-w8a8" if acts.data else "int8-w8a16", None, kept)
    raise UnknownNameError(
        "quantization", f"quark {dtype or 'without global_quant_config'}", ("fp8", "mxfp4", "int8-w8a8")
    )


def _compressed(q: Config, decoder: Decoder) -> Quantized:
    groups = q.sub("config_groups")
    kinds = {(w.positive("num_bits", default=8), w.text("type", "int")) for w in (
        groups.sub(name).sub("weights") for name in groups.data)}  # fmt: skip
    if kinds == {(4, "float"), (8, "float")}:
        return _mixed(q, decoder, _kept(q.sequence("ignore") or (), decoder, _exact_or_regex), _exact_or_regex)
    if len(kinds) > 1:
        told = " and ".join(f"{kind}{bits}" for bits, kind in sorted(kinds))
        raise UnknownNameError("quantization", f"compressed-tensors with {told}", ("float4 and float8",))
    first = groups.sub(next(iter(groups.data), "group_0"))
    weights, acts = first.sub("weights"), first.sub("input_activations")
    bits, kind = weights.positive("num_bits", default=8), weights.text("type", "int")
    group = weights.opt_int("group_size") if weights.data.get("group_size") not in (-1, None) else None
    kept = _kept(q.sequence("ignore") or (), decoder, _exact_or_regex)
    if kind == "float" and bits == 8:
        if weights.text("strategy") == "block":
            return Quantized("fp8-block", None, kept)
        return Quantized("fp8-dynamic" if acts.flag("dynamic") else "fp8", None, kept)
    if kind == "float" and bits == 4:
        mx = "mxfp4" in (first.text("format") + q.text("format")) or group == 32
        return Quantized("mxfp4" if mx else "nvfp4", 32 if mx else 16, kept)
    if kind == "int" and bits == 8:
        return Quantized("int8-w8a8" if acts.data else "int8-w8a16", group, kept)
    if kind == "int" and bits == 4:
        return Quantized("gptq-int4", group if group is not None else 0, kept)
    raise UnknownNameError("quantization", f"compressed-tensors {kind}{bits}", ("fp8-dynamic", "int8-w8a8", "nvfp4"))


def _modelopt(q: Config, decoder: Decoder) -> Quantized:
    algorithm = q.text("quant_algo") or q.text("quant_method")
    kept = _kept(q.sequence("ignore") or q.sequence("exclude_modules") or (), decoder, _glob)
    if algorithm == "MIXED_PRECISION":
        return _mixed(q, decoder, kept)
    if "NVFP4" in algorithm:
        return Quantized("nvfp4", 16, kept)
    if algorithm in ("FP8", "modelopt"):
        return Quantized("fp8", None, kept)
    raise UnknownNameError("quantization", f"modelopt {algorithm}", ("NVFP4", "FP8"))


def _mixed(q: Config, decoder: Decoder, kept: tuple[str, ...], match: Match | None = None) -> Quantized:
    """A mix: groups of named modules, some in FP8, some in NVFP4; the rest stays as it is (ModelOpt's by default)."""
    match = match or _glob
    groups = q.sub("config_groups")
    targets: dict[int, list[object]] = {4: [], 8: []}
    for name in groups.data:
        group = groups.sub(name)
        bits = group.sub("weights").positive("num_bits", default=4)
        if bits not in targets:
            raise UnknownNameError("quantization", f"modelopt with {bits} bits", ("4", "8"))
        targets[bits].extend(group.sequence("targets") or ())
    everything = [*targets[4], *targets[8]]
    if "Linear" in targets[8] and "Linear" not in targets[4]:
        raise UnknownNameError(
            "quantization", "a mix whose FP8 group is every Linear", ("FP8 by name, NVFP4 the rest",)
        )
    named = _kept(everything, decoder, match)
    covered = {role.partition("[")[0] for role in named}
    roles = {role for plan in decoder.layers for role, _ in _roles_of(plan.mixers, plan.ffns)}
    return Quantized(
        "nvfp4",
        16,
        kept if "Linear" in everything else tuple(sorted({*kept, *(roles - covered)})),
        fp8_roles=_kept(targets[8], decoder, match),
        also_quantized=("output",) if "lm_head" in targets[4] else (),
    )


Match = Callable[[str, str], bool]


def _contains(pattern: str, name: str) -> bool:
    """transformers and vLLM: the listed text occurs in the module's name as whole parts."""
    parts = pattern.replace("*", "")
    if "*" in pattern:
        return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name, pattern + ".*")
    return name == parts or name.startswith(parts + ".") or f".{parts}." in f".{name}."


def _exact_or_regex(pattern: str, name: str) -> bool:
    if pattern.startswith("re:"):
        return re.match(pattern[3:], name) is not None
    return pattern == name


def _glob(pattern: str, name: str) -> bool:
    return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name, pattern + ".*")


def _kept(patterns: Sequence[object], decoder: Decoder, match: Match) -> tuple[str, ...]:
    """Roles that `patterns` exempt, with layers where not all of a role's layers are."""
    texts = [str(p) for p in patterns]
    if not texts:
        return ()
    found: dict[str, list[int]] = {}
    owners: dict[str, list[int]] = {}
    for index, plan in enumerate(decoder.layers):
        by_layer = _by_layer(texts, index)
        for role, names in _roles_of(plan.mixers, plan.ffns):
            owners.setdefault(role, []).append(index)
            full = [prefix.format(index) + name for prefix in _PREFIXES for name in names]
            if any(match(p, n) for p in by_layer for n in full):
                found.setdefault(role, []).append(index)
    kept = [role if layers == owners[role] else f"{role}[{_ranges(layers)}]" for role, layers in sorted(found.items())]
    return tuple(kept)


def _by_layer(texts: list[str], index: int) -> list[str]:
    """Patterns that could speak of layer `index` (long lists name each layer)."""
    return [t for t in texts if (m := re.search(r"layers\.(\d+)(?:\.|$|\*)", t)) is None or int(m[1]) == index]


def _roles_of(mixers: Sequence[object], ffns: Sequence[object]) -> list[tuple[str, tuple[str, ...]]]:
    roles: dict[str, tuple[str, ...]] = {}
    for part in (*mixers, *ffns):
        kind = getattr(part, "kind", "")
        if kind == "attention":
            roles |= _ATTENTION
        elif kind == "mla":
            roles |= _MLA
        elif kind in ("gated_deltanet", "mamba1", "mamba2"):
            roles |= _STATE
        elif kind == "dense":
            roles |= _DENSE
        elif kind == "moe":
            if getattr(part, "dense_intermediate", 0):
                roles |= _BESIDE_DENSE | _DENSE
            else:
                roles |= _EXPERTS
    return list(roles.items())


def _ranges(layers: list[int]) -> str:
    """Sorted indices as "0-2,5"."""
    out: list[str] = []
    start = previous = layers[0]
    for i in [*layers[1:], -1]:
        if i != previous + 1:
            out.append(str(start) if start == previous else f"{start}-{previous}")
            start = i
        previous = i
    return ",".join(out)
