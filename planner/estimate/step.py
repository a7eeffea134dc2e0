"""How long one engine step takes: operators summed over a model's layers, plus fixed costs.

`StepModel` is built once per deployment and then only multiplies and adds, so that batch, context
and tokens may be floats or numpy arrays. Knows no queue; who runs in a step is `schedulers/`.
"""

from __future__ import annotations

from typing import Final

from planner.estimate import ops
from planner.estimate.deployment import Deployment
from planner.estimate.efficiency import Fit, efficiency
from planner.estimate.links import SLOW_LINK_BYTES_PER_S, fused_bytes, link_of, one_stage_bytes
from planner.estimate.ops import Quantity
from planner.estimate.shapes import Shapes, shapes
from planner.records import dataclass
from planner.spec.calibration import Calibration
from planner.spec.engine import LAYER_SPLIT_ENGINES
from planner.spec.hardware import Accelerator, Machine
from planner.spec.quantization import QuantizationFormat

HOST_BYTES_PER_S: Final = 50e9
"""Memory bandwidth assumed for a host whose CPU is not known: two channels of DDR5-4800, less losses."""
HOST_FLOPS_PER_S: Final = 1e12
"""FP32 peak assumed for such a host: 16 cores of AVX2 at 2 GHz."""
OFFLOAD_TOKENS: Final = 32
"""Tokens of a step from which on llama.cpp multiplies layers that lie on the host on the device: it copies their
weights there, for each micro-batch anew. Source: llama.cpp ggml/src/ggml-cuda/ggml-cuda.cu, offload_op
(GGML_OP_OFFLOAD_MIN_BATCH, pull request 18535); attention stays with its cache."""
MICRO_BATCH_TOKENS: Final = 512
"""llama.cpp's n_ubatch, and Ollama's num_batch."""
HIDDEN_BYTES: Final = 2.0
"""Bytes of one activation: every engine here keeps hidden states in 16 bits."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peak rates of one device: bytes/s and dense FLOP/s; `wide` is the 16-bit multiply."""

    bytes_per_s: float
    wide: float
    fp8: float | None = None
    int8: float | None = None
    fp4: float | None = None
    single: float | None = None


def peaks(machine: Machine) -> Peaks:
    """Peaks of the device that runs the model. A chip with only FP32 multiplies at that rate."""
    a = machine.accelerator
    if a is not None:
        wide = a.bf16_flops_per_s or a.fp16_flops_per_s or a.fp32_flops_per_s or _flops_guess(a)
        if a.sm is not None and a.sm < 80:
            wide = a.fp16_flops_per_s or wide
        return Peaks(
            a.mem_bandwidth_bytes_per_s, wide, a.fp8_flops_per_s, a.int8_ops_per_s, a.fp4_flops_per_s,
            a.tf32_flops_per_s or a.fp32_flops_per_s,
        )  # fmt: skip
    if machine.cpu is not None:
        n, c = machine.sockets, machine.cpu
        return Peaks(n * c.mem_bandwidth_bytes_per_s, n * c.fp32_flops_per_s, single=n * c.fp32_flops_per_s)
    return Peaks(HOST_BYTES_PER_S, HOST_FLOPS_PER_S)


def _flops_guess(a: Accelerator) -> float:
    """A chip that nobody published a peak for: 30 FLOP per byte of bandwidth, as small GPUs have."""
    return 30.0 * a.mem_bandwidth_bytes_per_s


def multiplies_narrow(quant: QuantizationFormat, native: bool, p: Peaks) -> bool:
    """True where both operands of a multiply are of less than 16 bits: activations are narrowed for it."""
    if not native or quant.activation_bits > 8:
        return False
    peak = {"fp8": p.fp8, "int8": p.int8, "nvfp4": p.fp4, "mxfp4": p.fp4}.get(quant.kind)
    return bool(peak)


def multiply_rate(quant: QuantizationFormat, native: bool, p: Peaks, c: dict[str, float]) -> float:
    """FLOP/s that large multiplies of `quant` weights reach."""
    wide = p.wide * c["flop_fraction"]
    kind = quant.kind
    if kind == "float":
        return wide if quant.weight_bits <= 16 else min(wide, (p.single or p.wide / 2) * c["flop_fraction"])
    if kind == "gguf":
        return wide if quant.weight_bits >= 16 else wide * c["gguf_flop"]
    if native and kind == "fp8" and p.fp8:
        return p.fp8 * c["flop_fraction"] * c["fp8_flop"]
    if native and kind == "int8" and quant.activation_bits == 8 and p.int8:
        return p.int8 * c["flop_fraction"] * c["int8_flop"]
    if native and kind in ("nvfp4", "mxfp4") and p.fp4 and quant.activation_bits <= 8:
        return p.fp4 * c["flop_fraction"] * c["fp4_flop"]
    return wide * c["fp4_dequant_flop" if kind in ("nvfp4", "mxfp4") else "dequant_flop"]


def stream_rate(quant: QuantizationFormat, p: Peaks, c: dict[str, float]) -> float:
    """Bytes/s at which weights stored in `quant` are read by a small batch."""
    scale = {
        "float": "", "fp8": "fp8_mem", "int8": "int8_mem", "int4": "int4_mem", "nf4": "int4_mem",
        "mxfp4": "fp4_mem", "nvfp4": "fp4_mem", "gguf": "gguf_mem" if quant.weight_bits < 16 else "",
    }[quant.kind]  # fmt: skip
    memory = p.bytes_per_s * c["mem_fraction"] * (c[scale] if scale else 1.0)
    if scale == "int4_mem":
        return _limited(memory, p.wide * c["int4_unpack"], c)
    return memory


def _limited(bytes_per_s: float, most_per_s: float, c: dict[str, float]) -> float:
    """What is left of a memory rate where kernels take in `most_per_s`."""
    return 1.0 / ops.knee(1.0 / most_per_s, 1.0 / bytes_per_s, c["sharpness"])


class StepModel:
    """Step times of one engine (one data-parallel rank of one replica) of `deployment`."""

    __slots__ = (
        "_c", "_copy_rate", "_data", "_dequantized", "_experts_rate", "_experts_stream", "_fused_bytes", "_head_rate",
        "_head_stream", "_host", "_kv_bytes", "_kv_rate", "_link", "_moe_layer_s", "_narrowed", "_on_device",
        "_one_stage_bytes", "_peaks", "_pieces", "_pp", "_prompt_rate", "_rank_link", "_rate", "_shapes",
        "_stage_link", "_state_rate", "_stream", "_sync", "_tile_cost", "_tp", "_wide", "_wide_stream", "fit",
        "pipelined",
    )  # fmt: skip

    def __init__(
        self,
        deployment: Deployment,
        calibration: Calibration,
        machine: Machine | None = None,
        fit: Fit | None = None,
        gpu_layers: int | None = None,
    ) -> None:
        """`machine` overrides the deployment's (the host that runs layers which do not fit).

        `fit` overrides the calibration's coefficients (while they are being fitted). `gpu_layers` of
        an engine that splits layers lie on the device, the output counted as one; None: the limits' own
        number, or all.
        """
        d, layout = deployment, deployment.parallelism
        here = machine or d.machine
        self.fit: Fit = fit or efficiency(calibration, d.engine.engine, here, d.engine.calibration_lines)
        c = self._c = self.fit.values
        split = d.engine.engine in LAYER_SPLIT_ENGINES
        self._tp, self._pp, self._data = layout.tensor, layout.pipeline, layout.data
        self.pipelined = self._pp > 1 and not split
        expert_devices = self._tp * (self._data if self._data > 1 else 1)
        checkpoint = d.checkpoint
        self._shapes: Shapes = shapes(
            d.model, d.quantization, self._tp, expert_devices,
            checkpoint.unquantized if checkpoint and checkpoint.unquantized else None,
            checkpoint.group_size if checkpoint else None,
        )  # fmt: skip
        p = self._peaks = peaks(here)
        self._rate = multiply_rate(d.quantization, d.native_compute, p, c)
        self._stream = stream_rate(d.quantization, p, c)
        self._wide, self._wide_stream = p.wide * c["flop_fraction"], p.bytes_per_s * c["mem_fraction"]
        kind = d.quantization.kind
        self._narrowed = multiplies_narrow(d.quantization, d.native_compute, p)
        self._dequantized = not self._narrowed and kind not in ("float", "gguf")
        tiled = self._narrowed and kind == "fp8" and d.quantization.block is None
        self._tile_cost = self._stream / _limited(self._stream, p.wide * c["fp8_tile"], c) - 1.0 if tiled else 0.0
        self._sync = d.engine.defaults.async_scheduling is False
        self._fused_bytes = fused_bytes(d.engine.defaults, here, self._tp)
        self._pieces = d.engine.defaults.decode_graphs == "piecewise"
        gguf = kind == "gguf"
        self._head_rate = self._rate if gguf else self._wide
        self._head_stream = self._stream if gguf else self._wide_stream
        grouped = c["moe_flop"] * (c["fp8_moe_flop"] if self._narrowed and d.quantization.kind == "fp8" else 1.0)
        self._experts_rate, self._experts_stream = self._rate * grouped, self._stream * c["moe_mem"]
        self._moe_layer_s = c["fp4_moe_layer_s" if d.quantization.kind in ("mxfp4", "nvfp4") else "moe_layer_s"]
        self._kv_bytes = d.kv_format.bits / 8
        self._state_rate = p.bytes_per_s * c["kv_fraction"]
        self._kv_rate = self._state_rate
        if self._kv_bytes < 2:
            self._kv_rate = _limited(self._state_rate * c["narrow_kv"], p.wide * c["narrow_kv_read"], c)
        self._prompt_rate = p.wide * c["attention_flop_fraction"]
        self._link, self._rank_link = link_of(here, self._tp), link_of(here, self._tp * self._data)
        self._one_stage_bytes = one_stage_bytes(d.engine.defaults, here, self._tp)
        self._stage_link = link_of(here, layout.devices_per_replica)
        self._host: StepModel | None = None
        self._on_device = 1.0
        self._copy_rate = 0.0
        gpu_layers = d.limits.num_gpu if gpu_layers is None else gpu_layers
        if split and machine is None and here.accelerator is not None and gpu_layers is not None:
            self._on_device = min(1.0, max(0, gpu_layers) / (d.model.n_layers + 1))
            if self._on_device < 1.0:
                self._host = StepModel(d, calibration, host_of(here))
                if not here.accelerator.unified_memory:
                    bus = here.pcie.bandwidth_bytes_per_s if here.pcie else SLOW_LINK_BYTES_PER_S
                    self._copy_rate = bus * c["link_fraction"]

    def front_end_s(self, prompt_tokens: float) -> float:
        """Seconds a request spends outside the engine before its first token: HTTP, tokenizer, block hashes."""
        return self._c["request_s"] + self._c["prompt_token_s"] * prompt_tokens

    @property
    def bends(self) -> tuple[float, ...]:
        """Contexts (tokens) at which the growth of a decode step changes: windows that are full from there on."""
        return tuple(float(w) for a in self._shapes.attention for w in (a.window, a.selects) if w is not None)

    @property
    def curved(self) -> bool:
        """Whether a decode step is no affine function of the context between bends (a sparse indexer reads on)."""
        return any(a.selects is not None for a in self._shapes.attention)

    @property
    def ranks(self) -> int:
        """Data-parallel ranks that step together, because they share experts; 1 where each goes its own way."""
        return self._data if self._shapes.moe_layers else 1

    def prefill_s(self, tokens: Quantity, context: Quantity = 0.0) -> Quantity:
        """One prompt's `tokens`, after `context` tokens that are cached already; no decode beside it."""
        return self._latency_s(0.0 * tokens, 0.0 * tokens, tokens, 1.0, self._attended(tokens, context))

    def chunk_s(self, tokens: Quantity, prompt_tokens: Quantity, context: Quantity) -> Quantity:
        """A step of `tokens` prompt tokens alone: parts of `prompt_tokens` of prompts that have `context` cached."""
        prompts = tokens / prompt_tokens
        attended = [pairs * prompts for pairs in self._attended(prompt_tokens, context)]
        return self._latency_s(0.0 * tokens, 0.0 * tokens, tokens, prompts, attended)

    def decode_s(self, batch: Quantity, mean_context: Quantity) -> Quantity:
        """One token for each of `batch` sequences of `mean_context` cached tokens."""
        return self.mixed_s(batch, mean_context, 0.0 * batch, 1.0)

    def mixed_s(
        self, decode_batch: Quantity, mean_context: Quantity, prefill_tokens: Quantity, prompt_tokens: Quantity
    ) -> Quantity:
        """A step that decodes `decode_batch` sequences and takes `prefill_tokens` of waiting prompts.

        The prompts are `prompt_tokens` long, and their tokens are met evenly, early ones and late.
        A pipeline keeps one batch per stage in flight: each is a stage-th part of the running ones.
        """
        attended = self._attended(prompt_tokens, 0.0 * prompt_tokens)
        share = [(r * prefill_tokens / prompt_tokens) for r in attended]
        prompts = prefill_tokens / prompt_tokens
        if self.pipelined:
            n = float(self._pp)
            return self._latency_s(
                decode_batch / n, mean_context, prefill_tokens / n, prompts / n, [s / n for s in share]
            )
        return self._latency_s(decode_batch, mean_context, prefill_tokens, prompts, share)

    def _attended(self, tokens: Quantity, context: Quantity) -> list[Quantity]:
        """Per attention group: (query, key) pairs of a prompt."""
        pairs = []
        for a in self._shapes.attention:
            window = a.window if a.selects is None else a.selects
            pairs.append(ops.attended_tokens(tokens, context, None if window is None else float(window)))
        return pairs

    def _latency_s(
        self, batch: Quantity, context: Quantity, new: Quantity, prompts: Quantity, attended: list[Quantity]
    ) -> Quantity:
        on_device = self._device_s(batch, context, new, prompts, attended)
        if self._host is None:
            return on_device
        f = self._on_device
        on_host = self._host._device_s(batch, context, new, prompts, attended)
        if self._copy_rate:
            tokens = batch + new
            sent = on_device + self._copied_s(tokens)
            sent = (
                sent - self._attention_s(batch, context, attended) + self._host._attention_s(batch, context, attended)
            )
            on_host = on_host + ops.beyond(tokens, OFFLOAD_TOKENS - 1.0) * (sent - on_host)
        return f * on_device + (1.0 - f) * on_host

    def _copied_s(self, tokens: Quantity) -> Quantity:
        """Seconds to copy all layers' weights from the host, once for each micro-batch of `tokens`."""
        s = self._shapes
        n_bytes: Quantity = s.quantized.bytes + s.plain.bytes
        for e in s.experts:
            touched = ops.experts_touched(tokens, e.experts, e.per_token, self._c["expert_evenness"])
            n_bytes = n_bytes + touched * e.bytes
        rounds = tokens / MICRO_BATCH_TOKENS
        return (rounds + 1.0 - ops.lesser(rounds, 1.0)) * n_bytes / self._copy_rate

    def _attention_s(self, batch: Quantity, context: Quantity, attended: list[Quantity]) -> Quantity:
        """Scores and sums of all layers: `attended` pairs of prompts, and `batch` sequences that decode."""
        total: Quantity = 0.0 * batch
        for a, pairs in zip(self._shapes.attention, attended, strict=True):
            held = context if a.window is None else ops.lesser(context, a.window)
            read = held if a.selects is None else ops.lesser(held, a.selects)
            n_bytes = batch * (read * a.kv_elements * self._kv_bytes + context * a.fixed_bytes)
            flops = batch * read * a.decode_flops + pairs * a.prefill_flops
            total = total + ops.knee(flops / self._prompt_rate, n_bytes / self._kv_rate, self._c["sharpness"])
        return total

    def _device_s(
        self, batch: Quantity, context: Quantity, new: Quantity, prompts: Quantity, attended: list[Quantity]
    ) -> Quantity:
        """The whole model once through, all stages one after the other."""
        c, s = self._c, self._shapes
        sharp, tile = c["sharpness"], c["tile_tokens"]
        tokens = batch + new
        sequences = batch + prompts
        total: Quantity = c["step_s"] + c["seq_s"] * sequences
        if self._sync:
            total = total + c["sync_step_s"] + c["sync_seq_s"] * sequences
        total = total + c["layer_s"] * s.n_layers + self._moe_layer_s * s.moe_layers
        norms: Quantity = s.norms
        if self._fused_bytes:
            apart = ops.beyond(tokens * s.hidden * HIDDEN_BYTES, self._fused_bytes)
            norms = norms - min(s.norms, s.reductions) * (1.0 - apart)
        total = total + c["mixer_layer_s"] * s.mixer_layers + c["norm_s"] * norms + c["inner_norm_s"] * s.inner_norms
        if self._pieces:
            total = total + c["piece_layer_s"] * s.n_layers
        slices = c["slice_passes"]
        if self._narrowed:
            total = total + c["quant_layer_s"] * s.n_layers
            slices += c["quant_passes"]
        elif self._dequantized:
            total = total + c["dequant_layer_s"] * s.n_layers
        passes = c["activation_passes"] + slices / self._tp
        total = total + passes * HIDDEN_BYTES * s.hidden * s.n_layers * tokens / self._wide_stream
        q, w, h = s.quantized, s.plain, s.head
        filled = 1.0 / (1.0 + c["half_width"] / s.hidden)
        if q.elements:
            packed = q.bytes
            if self._tile_cost:
                packed = packed * (1.0 + self._tile_cost * ops.beyond(tokens, ops.SMALL_TILE_ROWS))
            knee = c["dequant_sharpness"] if self._dequantized else sharp
            total = total + ops.gemm_s(tokens, q.elements, packed, filled * self._rate, self._stream, tile, knee)
        if w.elements:
            total = total + ops.gemm_s(tokens, w.elements, w.bytes, filled * self._wide, self._wide_stream, tile, sharp)
        if h.elements:
            total = total + ops.gemm_s(sequences, h.elements, h.bytes, self._head_rate, self._head_stream, tile, sharp)
        skew = c["expert_skew"] if self._data > 1 else 1.0
        for e in s.experts:
            total = total + skew * ops.grouped_gemm_s(
                batch * self._data + new, e.experts, e.per_token, e.elements, e.bytes,
                self._experts_rate / (1.0 + c["expert_half_width"] / e.width), self._experts_stream,
                c["expert_tile_tokens"], sharp, c["expert_evenness"],
            )  # fmt: skip
        total = total + self._attention_s(batch, context, attended)
        if s.state_bytes:
            total = total + 2.0 * sequences * s.state_bytes / self._state_rate
            total = total + new * s.state_flops_per_token / self._prompt_rate
        total = total + self._communication_s(tokens, batch * self._data + new)
        # Steps with prompts are launched kernel by kernel; decode steps replay a graph.
        return ops.knee(total, c["launch_layer_s"] * s.n_layers * ops.lesser(new, 1.0), sharp)

    def _communication_s(self, tokens: Quantity, shared: Quantity) -> Quantity:
        """`tokens` of this rank; `shared` are those that all ranks send through the experts together."""
        c, s = self._c, self._shapes
        payload = tokens * s.hidden * HIDDEN_BYTES
        rate, latency = self._link.bytes_per_s * c["link_fraction"], self._link.latency_s * c["link_latencies"]
        total: Quantity = 0.0 * payload
        if self._tp > 1:
            stage = self._link.latency_s * c["stage_latencies"]
            one = ops.allreduce_s(payload, self._tp, rate, latency, stage, self._link.reduces, self._one_stage_bytes)
            total = total + s.reductions * one
        if self._data > 1 and s.moe_layers:
            # Ranks exchange all tokens before the experts and their sums afterwards.
            ranks = self._rank_link
            rate, latency = ranks.bytes_per_s * c["link_fraction"], ranks.latency_s * c["link_latencies"]
            exchanged = shared * s.hidden * HIDDEN_BYTES
            total = total + s.moe_layers * ops.exchange_s(exchanged, self._data, rate, latency)
        if self._pp > 1:
            hop = ops.hop_s(payload, self._stage_link.bytes_per_s * c["link_fraction"], self._stage_link.latency_s)
            total = total + (self._pp - 1) * hop
        return total


def host_of(machine: Machine) -> Machine:
    """The host side of `machine`: its CPU, or, with unified memory, the same memory without the GPU."""
    return machine.model_copy(update={"accelerator": None, "label": f"host of {machine.label}"})
