"""Which rows fit which coefficients, in what order: the table behind `benchmarks/fit.py`.

A fit starts from an earlier, wider one and moves away from it only as far as its rows insist. Rows
that are left out are left out here, each with the reason. Knows no arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from planner.estimate.ops import UNCALIBRATED
from planner.spec.measurement import SpeedRow

Row = SpeedRow

HARDWARE = (
    "mem_fraction", "fp8_mem", "int8_mem", "int4_mem", "int4_unpack", "fp4_mem", "gguf_mem", "moe_mem", "kv_fraction",
    "narrow_kv", "narrow_kv_read", "flop_fraction", "half_width", "fp8_flop", "int8_flop", "fp4_flop", "dequant_flop",
    "fp4_dequant_flop", "gguf_flop", "moe_flop", "attention_flop_fraction", "link_fraction",
)  # fmt: skip
SERVING = (
    "mem_fraction", "fp8_mem", "int4_unpack", "fp4_mem", "moe_mem", "kv_fraction", "narrow_kv", "narrow_kv_read",
    "flop_fraction", "half_width", "fp8_flop", "fp4_flop", "dequant_flop", "fp4_dequant_flop", "moe_flop",
    "fp8_moe_flop", "tile_tokens", "fp8_tile", "dequant_sharpness", "dequant_layer_s", "quant_passes", "norm_s",
    "inner_norm_s", "sync_step_s", "sync_seq_s", "expert_tile_tokens", "expert_half_width", "attention_flop_fraction",
    "layer_s", "moe_layer_s", "fp4_moe_layer_s", "launch_layer_s", "piece_layer_s", "quant_layer_s", "expert_evenness",
    "expert_skew", "step_s", "seq_s", "request_s", "prompt_token_s", "activation_passes", "slice_passes",
    "link_fraction", "link_latencies", "stage_latencies",
)  # fmt: skip
STATIC = tuple(
    k
    for k in SERVING
    if k
    not in (
        "request_s", "prompt_token_s", "fp4_mem", "fp4_flop", "int4_unpack", "dequant_flop", "fp4_dequant_flop",
        "dequant_sharpness", "dequant_layer_s", "sync_step_s", "sync_seq_s", "fp8_tile", "narrow_kv_read",
        "piece_layer_s",
    )
)  # fmt: skip
LOCAL = (
    "mem_fraction", "gguf_mem", "moe_mem", "kv_fraction", "flop_fraction", "half_width", "gguf_flop", "moe_flop",
    "tile_tokens", "expert_tile_tokens", "attention_flop_fraction", "layer_s", "moe_layer_s", "mixer_layer_s", "norm_s",
    "inner_norm_s", "step_s", "seq_s",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One fit: whose rows, which coefficients move, from which earlier fit they start.

    `hardware_from` takes the hardware's coefficients from another fit than the software's.
    """

    engine: str
    scope: str
    devices: tuple[str, ...]
    free: tuple[str, ...]
    start: tuple[str, str] | None = None
    hardware_from: tuple[str, str] | None = None
    sigma: float = 0.5
    where: Callable[[Row], bool] = lambda row: True
    row_engines: tuple[str, ...] = ()
    fixed: tuple[tuple[str, float], ...] = ()
    """Coefficients that the rows cannot tell from others, and what they are taken to be."""
    also: tuple[str, ...] = field(default=())
    """Scopes that inherit this fit."""

    @property
    def name(self) -> str:
        """For people and for `--only`."""
        return f"{self.engine} / {self.scope}"


CPU_FREE = tuple(k for k in LOCAL if k != "gguf_flop")
CPU_FIXED = (("gguf_flop", 1.0),)
"""No row on a CPU has 16-bit weights; integer dot products are no slower there than widened halves."""

HOPPER, AMPERE, ADA = ("vllm", "Hopper"), ("tensorrt_llm", "Ampere"), ("tensorrt_llm", "Ada Lovelace")
M = tuple(f"m{n}{k}" for n in range(1, 6) for k in ("", "-pro", "-max", "-ultra"))
APPLE = (*M, *(f"{m}-{n}gpu" for m in M for n in (8, 14, 16, 24, 30, 32, 48, 60)))
ADA_GEFORCE = ("rtx-4070-ti", "rtx-4080", "rtx-4080-super", "rtx-4090")
ADA_PRO = ("rtx-4000-ada", "rtx-5000-ada", "rtx-6000-ada", "l40s")
AMPERE_GEFORCE = ("rtx-3070", "rtx-3080", "rtx-3080-ti", "rtx-3090")
AMPERE_PRO = ("rtx-a6000", "a40")
BLACKWELL_BOARDS = (
    "rtx-5090",
    "rtx-5080",
    "rtx-5060-ti-16gb",
    "rtx-pro-6000-blackwell",
    "rtx-pro-6000-blackwell-max-q",
)
A100S = ("a100-pcie-40gb", "a100-pcie-80gb", "a100-sxm4-80gb")
HOPPERS = ("h100-pcie", "h100-sxm", "h200-nvl", "h200-sxm")
BOARDS = (*ADA_GEFORCE, *ADA_PRO, *AMPERE_GEFORCE, *AMPERE_PRO, *BLACKWELL_BOARDS, *A100S, *HOPPERS)
SERVERS = ("xeon-8375c", "epyc-9r14", "altra-q80")


def _of(prefix: str, devices: Iterable[str]) -> tuple[str, ...]:
    return tuple(d for d in devices if d.startswith(prefix))


def _stable(row: Row) -> bool:
    """Leaves out three Qwen3-32B FP8 rows that are faster than reading their KV cache in bf16 allows."""
    return not (row.model == "Qwen/Qwen3-32B" and row.quantization == "fp8")


def _few(row: Row) -> bool:
    """Leaves out large batches on CPUs: those builds ran attention over the cells of all sequences."""
    return bool(row.concurrency <= 8)


def _v0(row: Row) -> bool:
    """vLLM of 2024: one scheduler step per batch in Python, no chunked prefill; 0.6.0 is 2.7 times faster than 0.5."""
    return row.engine_version in ("0.4", "0.6.1")


HOPPER_KERNELS = (("fp8_tile", 3.5e-3), ("narrow_kv_read", 3.5e-3), ("narrow_kv", 0.95), ("int4_unpack", 2.2e-3))
OTHER_KERNELS = (
    ("fp8_tile", UNCALIBRATED["fp8_tile"]),
    ("narrow_kv_read", UNCALIBRATED["narrow_kv_read"]),
    ("narrow_kv", UNCALIBRATED["narrow_kv"]),
    ("int4_unpack", UNCALIBRATED["int4_unpack"]),
    ("dequant_sharpness", UNCALIBRATED["sharpness"]),
)
"""Of vLLM on Hopper: FP8 kernels go from tiles of 16 rows to tiles of 64, and memory is faster than those take in
weights, than an FP8 cache is widened and than 4-bit weights are unpacked, and little of that overlaps. Nobody measured
any of it elsewhere, so that other devices start without."""
PLANS = (
    Plan("tensorrt_llm", "Hopper", ("h100-sxm",), STATIC),
    Plan(*AMPERE, ("a100-sxm4-80gb",), STATIC, ("tensorrt_llm", "Hopper"), sigma=0.35),
    Plan(*ADA, ("l40s",), STATIC, ("tensorrt_llm", "Hopper"), sigma=0.35),
    Plan("nim", "Hopper", ("h100-sxm",), SERVING, ("tensorrt_llm", "Hopper"), sigma=0.35, also=("cuda",)),
    Plan(
        *HOPPER,
        ("h100-sxm", "h200-sxm"),
        SERVING,
        hardware_from=("tensorrt_llm", "Hopper"),
        where=lambda r: _stable(r) and not _v0(r),
        fixed=HOPPER_KERNELS,
    ),
    Plan("vllm", "cuda", (), (), HOPPER, fixed=OTHER_KERNELS),
    Plan(
        "vllm",
        "Blackwell/datacenter",
        ("b200-sxm",),
        SERVING,
        HOPPER,
        sigma=0.6,
        fixed=OTHER_KERNELS[:3],
        also=("Blackwell Ultra",),
    ),
    Plan("vllm", "Ampere", (), (), HOPPER, AMPERE, fixed=OTHER_KERNELS),
    Plan("vllm", "Ada Lovelace", (), (), HOPPER, ADA, fixed=OTHER_KERNELS),
    Plan("vllm-v0", "Ampere", ("a100-sxm4-40gb",), STATIC, HOPPER, AMPERE, sigma=0.4, where=_v0, row_engines=("vllm",)),
    Plan("vllm-v0", "CDNA2", ("mi250",), STATIC, HOPPER, sigma=0.5, where=_v0, row_engines=("vllm",)),
    Plan("vllm-v0", "Hopper", ("h100-sxm",), STATIC, HOPPER, sigma=0.4, where=_v0, row_engines=("vllm",)),
    Plan("vllm", "CDNA2", (), (), HOPPER, ("vllm-v0", "CDNA2"), fixed=OTHER_KERNELS),
    Plan(
        "vllm",
        "CDNA3",
        ("mi300x",),
        ("mem_fraction", "kv_fraction", "layer_s", "seq_s", "link_fraction", "link_latencies"),
        HOPPER,
        sigma=0.35,
        fixed=OTHER_KERNELS,
        also=("CDNA4", "rocm"),
    ),
    Plan(
        "vllm",
        "Gaudi 2",
        ("gaudi2",),
        (
            "mem_fraction",
            "fp8_mem",
            "kv_fraction",
            "narrow_kv",
            "flop_fraction",
            "half_width",
            "fp8_flop",
            "attention_flop_fraction",
            "layer_s",
            "seq_s",
        ),
        HOPPER,
        sigma=0.5,
        fixed=OTHER_KERNELS,
        also=("gaudi",),
    ),
    Plan(
        "vllm",
        "Gaudi 3",
        ("gaudi3",),
        ("mem_fraction", "kv_fraction", "narrow_kv", "flop_fraction", "half_width", "layer_s", "seq_s"),
        ("vllm", "Gaudi 2"),
        sigma=0.35,
    ),
    Plan("llamacpp", "cuda", BOARDS, LOCAL, sigma=0.7),
    Plan("llamacpp", "Ada Lovelace/consumer", ADA_GEFORCE, LOCAL, ("llamacpp", "cuda"), sigma=0.4),
    Plan("llamacpp", "Ampere/consumer", AMPERE_GEFORCE, LOCAL, ("llamacpp", "cuda"), sigma=0.4),
    Plan(
        "llamacpp",
        "Blackwell",
        BLACKWELL_BOARDS,
        LOCAL,
        ("llamacpp", "Ada Lovelace/consumer"),
        sigma=0.4,
    ),
    Plan("llamacpp", "Blackwell/integrated", ("gb10",), LOCAL, ("llamacpp", "cuda"), sigma=0.5),
    Plan("llamacpp", "Ampere/datacenter", A100S, LOCAL, ("llamacpp", "cuda"), sigma=0.4),
    Plan("llamacpp", "Ada Lovelace", ADA_PRO, LOCAL, ("llamacpp", "cuda"), sigma=0.4),
    Plan("llamacpp", "Ampere", AMPERE_PRO, LOCAL, ("llamacpp", "cuda"), sigma=0.4),
    Plan("llamacpp", "Hopper", HOPPERS, LOCAL, ("llamacpp", "cuda"), sigma=0.4),
    Plan("llamacpp", "metal", APPLE, LOCAL, sigma=0.7),
    *(
        Plan("llamacpp", f"Apple M{n}", _of(f"m{n}", APPLE), LOCAL, ("llamacpp", "metal"), sigma=0.2)
        for n in range(1, 6)
    ),
    Plan(
        "llamacpp",
        "rocm",
        ("rx-7900-xtx", "rx-9070", "rx-9070-xt", "radeon-ai-pro-r9700", "strix-halo"),
        LOCAL,
        ("llamacpp", "cuda"),
        sigma=0.5,
        also=("xpu",),
    ),
    Plan("llamacpp", "RDNA3.5", ("strix-halo",), LOCAL, ("llamacpp", "rocm"), sigma=0.35),
    Plan("llamacpp", "RDNA4", ("rx-9070", "rx-9070-xt", "radeon-ai-pro-r9700"), LOCAL, ("llamacpp", "rocm"), sigma=0.4),
    Plan("llamacpp", "RDNA3", ("rx-7900-xtx",), LOCAL, ("llamacpp", "rocm"), sigma=0.2),
    Plan("llamacpp", "cpu", (*SERVERS, "raspberry-pi-5"), CPU_FREE, sigma=0.9, where=_few, fixed=CPU_FIXED),
    Plan(
        "llamacpp",
        "x86_64",
        ("xeon-8375c", "epyc-9r14"),
        CPU_FREE,
        ("llamacpp", "cpu"),
        sigma=0.3,
        where=_few,
        fixed=CPU_FIXED,
    ),
    Plan(
        "llamacpp",
        "xeon-8375c",
        ("xeon-8375c",),
        CPU_FREE,
        ("llamacpp", "x86_64"),
        sigma=0.3,
        where=_few,
        fixed=CPU_FIXED,
    ),
    Plan(
        "llamacpp",
        "epyc-9r14",
        ("epyc-9r14",),
        CPU_FREE,
        ("llamacpp", "x86_64"),
        sigma=0.3,
        where=_few,
        fixed=CPU_FIXED,
    ),
    Plan(
        "llamacpp", "altra-q80", ("altra-q80",), CPU_FREE, ("llamacpp", "cpu"), sigma=0.3, where=_few, fixed=CPU_FIXED
    ),
    Plan(
        "llamacpp",
        "aarch64",
        ("raspberry-pi-5", "altra-q80"),
        CPU_FREE,
        ("llamacpp", "cpu"),
        sigma=0.3,
        where=_few,
        fixed=CPU_FIXED,
    ),
    Plan("llamacpp", "raspberry-pi-5", ("raspberry-pi-5",), CPU_FREE, ("llamacpp", "cpu"), sigma=0.3, fixed=CPU_FIXED),
    Plan(
        "llamacpp",
        "Ampere/embedded",
        ("jetson-orin-nano-8gb", "jetson-orin-nano-super"),
        ("mem_fraction", "int4_mem", "layer_s"),
        ("llamacpp", "cuda"),
        sigma=0.3,
        row_engines=("mlc",),
    ),
    Plan(
        "llamacpp",
        "Blackwell/embedded",
        ("jetson-agx-thor",),
        ("mem_fraction", "int4_mem", "layer_s"),
        ("llamacpp", "Blackwell/integrated"),
        sigma=0.3,
        row_engines=("mlc",),
    ),
)
