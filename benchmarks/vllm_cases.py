"""What `measure_vllm.py` measures: one `Case` per engine start, by name.

Knows models, quantizations, limits and points; not how a point is taken. `audit-` cases keep a few layers and
stop after loading; `memory-` cases repeat the start-up profile; the rest measure speed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

BATCHES = (1, 4, 16, 32, 64, 128, 256)
CONTEXTS = (512, 4096, 16384)
PROMPTS = ((1, 128), (1, 1024), (1, 4096), (1, 16384), (8, 2048))
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}


@dataclass(frozen=True)
class Case:
    """One engine start. `engine` holds arguments of vLLM's own; `edit` replaces keys of the model config.

    `layers` keeps the first few only; `audit` stops after loading. `slices` keeps what one device of so many has of a
    dense model under tensor parallelism (heads, columns, vocabulary): its step lacks only what devices exchange.
    `clients` is a closed loop of an asynchronous engine of its own, `loops` are closed loops (clients, tokens in,
    tokens out) after the other points.
    """

    model: str
    quantization: str = "bf16"
    kv_dtype: str = "bf16"
    engine: dict[str, Any] = field(default_factory=dict)
    edit: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    batches: tuple[int, ...] = BATCHES
    contexts: tuple[int, ...] = CONTEXTS
    prompts: tuple[tuple[int, int], ...] = PROMPTS
    clients: tuple[int, ...] = ()
    loops: tuple[tuple[int, int, int], ...] = ()
    max_model_len: int = 20480
    limit_s: float = 150
    instead_of: str = ""
    layers: int = 0
    slices: int = 1
    audit: bool = False

    @property
    def devices(self) -> int:
        """Devices among which the model is sliced, whether the others are there or not."""
        return max(self.slices, int(self.engine.get("tensor_parallel_size", 1)))


_8B, _70B = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
_MOE, _MOE_FP8 = "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B-FP8"
_NO_DEEP_GEMM = {"VLLM_USE_DEEP_GEMM": "0"}
_JIT_LATE = {"VLLM_DEEP_GEMM_WARMUP": "skip", "DG_JIT_USE_NVRTC": "1"}
CASES: dict[str, Case] = {
    "8b": Case(_8B),
    "moe": Case(_MOE),
    "8b-fp8": Case(_8B, "fp8", engine={"quantization": "fp8"}),
    "8b-fp8-file": Case(
        _8B,
        "fp8",
        edit={"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}},
        instead_of="8b-fp8",
    ),
    "moe-fp8": Case(_MOE_FP8, "fp8-block", env=_NO_DEEP_GEMM),
    "8b-awq": Case(_8B, "awq", "fp16", edit={"quantization_config": _AWQ}, engine={"dtype": "float16"}),
    "8b-loop": Case(_8B, engine={"max_num_batched_tokens": 8192, "max_num_seqs": 1024}, clients=(1, 16, 64, 200)),
    "32b": Case("Qwen/Qwen3-32B"),
    "mla": Case("deepseek-ai/DeepSeek-V2-Lite", edit={"auto_map": None}),
    "gpt-oss": Case("openai/gpt-oss-20b", "mxfp4"),
    "8b-kv8": Case(_8B, kv_dtype="fp8", engine={"kv_cache_dtype": "fp8"}),
    "gemma": Case("google/gemma-3-12b-it", edit={"architectures": ["Gemma3ForCausalLM"], "torch_dtype": "bfloat16"}),
    "70b-awq": Case(_70B, "awq", "fp16", edit={"quantization_config": _AWQ}, engine={"dtype": "float16"}),
    "8b-eager": Case(_8B, engine={"enforce_eager": True}, batches=(1, 32, 128), prompts=((1, 128), (1, 1024))),
    "8b-long": Case(
        _8B, batches=(1,), contexts=(512, 16384, 65536), prompts=((1, 32768), (1, 65536)), max_model_len=131072
    ),
    "moe-fp8-deepgemm": Case(_MOE_FP8, "fp8-block", env=_JIT_LATE, limit_s=200),
}
for _name, _model in (("8b", _8B), ("32b", "Qwen/Qwen3-32B")):
    CASES[f"memory-{_name}"] = Case(
        _model,
        edit={"num_hidden_layers": 4, "max_window_layers": 4},
        engine={"worker_cls": "vllm_probe.SweepWorker", "compilation_config": {"cudagraph_mode": "NONE"}},
        batches=(),
        max_model_len=8192,
    )
CASES["memory-8b-small"] = Case(
    _8B,
    edit={"num_hidden_layers": 4},
    engine={
        "max_num_batched_tokens": 2048,
        "max_num_seqs": 64,
        "compilation_config": {"cudagraph_mode": "NONE"},
    },
    batches=(),
    prompts=(),
    max_model_len=8192,
)
_EVEN = {"VLLM_MOE_ROUTING_SIMULATION_STRATEGY": "uniform_random"}
_SPREAD: dict[str, Any] = {"worker_cls": "vllm_probe.SpreadWorker"}
_FILE_FP8 = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
_TEXT_GEMMA = {"architectures": ["Gemma3ForCausalLM"], "torch_dtype": "bfloat16"}
_MISTRAL = "mistralai/Mistral-Small-24B-Instruct-2501"
_AFTER = ((1, 512), (1, 2048), (1, 8192), (8, 2048))
CASES |= {
    "70b-awq-random": Case(_70B, "awq", "fp16", edit={"quantization_config": _AWQ},
                           engine={"dtype": "float16"} | _SPREAD, batches=(1, 8, 32, 128), contexts=(512, 4096),
                           prompts=_AFTER, max_model_len=16384),
    "gpt-oss-even": Case("openai/gpt-oss-20b", "mxfp4", engine=_SPREAD, batches=(1, 4, 8, 32, 128, 256),
                         contexts=(512, 8192), prompts=(*_AFTER, (1, 16384))),
    "gpt-oss-120b-even": Case("openai/gpt-oss-120b", "mxfp4", engine=_SPREAD, batches=(1, 4, 8, 32, 128, 256),
                              contexts=(512, 8192), prompts=_AFTER, limit_s=180),
    "moe-even": Case(_MOE, engine=_SPREAD, env=_EVEN, batches=(1, 2, 4, 8, 16, 32, 64, 128, 256), contexts=(512,),
                     prompts=_AFTER),
    "8b-prompt": Case(_8B, batches=(1,), contexts=(65536,), prompts=((1, 32768), (1, 65536), (1, 120000)),
                      max_model_len=131072),
    "8b-block": Case("Qwen/Qwen3-8B-FP8", "fp8-block", env=_JIT_LATE, engine=_SPREAD, batches=(1, 8, 32, 128),
                     contexts=(512, 4096), prompts=_AFTER, limit_s=200),
    "moe-block": Case(_MOE_FP8, "fp8-block", env=_JIT_LATE | _EVEN, engine=_SPREAD, batches=(1, 8, 32, 128),
                      contexts=(512,), prompts=_AFTER, limit_s=200),
    "gemma-27b": Case("google/gemma-3-27b-it", edit=_TEXT_GEMMA, batches=(1, 8, 32), contexts=(512, 8192),
                      prompts=_AFTER),
    "mistral-fp8": Case(_MISTRAL, "fp8", edit=_FILE_FP8, batches=(1, 8, 32, 128), contexts=(512, 4096),
                        prompts=_AFTER),
}  # fmt: skip
_FEW: dict[str, Any] = {
    "batches": (1, 16, 64, 256), "contexts": (512, 4096), "loops": ((32, 1024, 256),), "max_model_len": 12288,
    "prompts": ((1, 128), (1, 1024), (1, 2048), (1, 8192), (8, 1024)),
}  # fmt: skip
_SERVED: dict[str, Any] = {"max_num_batched_tokens": 8192}
_BF16: dict[str, Any] = {"dtype": "bfloat16"}
CASES |= {
    "other-qwen2.5-14b": Case("Qwen/Qwen2.5-14B", engine=_SERVED, **_FEW),
    "other-phi-4-fp8": Case("microsoft/phi-4", "fp8", edit=_FILE_FP8 | {"auto_map": None}, engine=_SERVED, **_FEW),
    "other-olmoe": Case("allenai/OLMoE-1B-7B-0125-Instruct", engine=_SERVED | _SPREAD | _BF16, env=_EVEN,
                        **_FEW | {"contexts": (512, 3072), "max_model_len": 4096,
                                  "prompts": ((1, 128), (1, 1024), (1, 2048), (1, 4000), (8, 1024))}),
    "other-qwen3-14b-awq": Case("Qwen/Qwen3-14B", "awq", "fp16", edit={"quantization_config": _AWQ},
                                engine=_SERVED | {"dtype": "float16"}, **_FEW),
    "other-gemma-2-9b": Case("google/gemma-2-9b", engine=_SERVED | _BF16,
                             **_FEW | {"max_model_len": 8192, "prompts": ((1, 1024), (1, 2048), (1, 8000), (8, 1024))}),
    "other-llama-3.2-3b": Case("meta-llama/Llama-3.2-3B", engine=_SERVED, **_FEW),
    "other-qwen2.5-32b-fp8": Case("Qwen/Qwen2.5-32B", "fp8", edit=_FILE_FP8, engine=_SERVED, **_FEW),
}  # fmt: skip
_BRIEF: dict[str, Any] = {
    "batches": (1, 8, 16, 17, 32, 64, 128), "contexts": (1024,), "prompts": ((1, 1024), (8, 1024)), "limit_s": 120,
    "max_model_len": 8192,
}  # fmt: skip
_GRAPHS: dict[str, Any] = {"compilation_config": {"cudagraph_capture_sizes": [1, 8, 16, 24, 32, 64, 128]}}
_STATIC_FP8 = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "static"}}
_KV8: dict[str, Any] = {"kv_cache_dtype": "fp8"}
for _name, _model in (("1.5b", "Qwen/Qwen2.5-1.5B-Instruct"), ("8b", _8B)):
    # A decode step as one graph, and as pieces with attention outside, as releases before 0.11 ran it.
    CASES[f"whole-{_name}"] = Case(_model, engine=_SERVED, **_BRIEF)
    CASES[f"pieces-{_name}"] = Case(
        _model, engine=_SERVED | {"compilation_config": {"cudagraph_mode": "PIECEWISE"}}, **_BRIEF
    )
for _n in (2, 4, 8):
    # What one of several devices does alone. The `tp2-` cases below add the all-reduces that it lacks, on two GPUs.
    CASES[f"slice-70b-fp8-{_n}"] = Case(
        _70B, "fp8", "fp8", engine=_SERVED | _GRAPHS | _KV8, edit=_STATIC_FP8, slices=_n, layers=20, **_BRIEF
    )
    CASES[f"slice-70b-{_n}"] = Case(_70B, engine=_SERVED | _GRAPHS, slices=_n, layers=20, **_BRIEF)
_TWO: dict[str, Any] = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
CASES |= {
    "tp2-70b-fp8": Case(_70B, "fp8", "fp8", engine=_SERVED | _GRAPHS | _KV8 | _TWO, edit=_STATIC_FP8, layers=20,
                        **_BRIEF),
    "tp2-70b": Case(_70B, engine=_SERVED | _GRAPHS | _TWO, layers=20, **_BRIEF),
}  # fmt: skip
for _name, _case in {
    "8b": Case(_8B), "8b-fp8": Case(_8B, "fp8", engine={"quantization": "fp8"}),
    "8b-fp8-file": Case(_8B, "fp8", edit=_FILE_FP8),
    "8b-kv8": Case(_8B, kv_dtype="fp8", engine={"kv_cache_dtype": "fp8"}), "32b": Case("Qwen/Qwen3-32B"),
    "8b-awq": Case(_8B, "awq", "fp16", edit={"quantization_config": _AWQ}, engine={"dtype": "float16"}),
    "70b-awq": Case(_70B, "awq", "fp16", edit={"quantization_config": _AWQ}, engine={"dtype": "float16"}),
    "gemma-12b": Case("google/gemma-3-12b-it", edit=_TEXT_GEMMA),
    "gemma-27b": Case("google/gemma-3-27b-it", edit=_TEXT_GEMMA),
    "mla": Case("deepseek-ai/DeepSeek-V2-Lite", edit={"auto_map": None}),
    "gpt-oss": Case("openai/gpt-oss-20b", "mxfp4"), "gpt-oss-120b": Case("openai/gpt-oss-120b", "mxfp4"),
    "moe": Case(_MOE), "moe-fp8": Case(_MOE_FP8, "fp8-block", env=_NO_DEEP_GEMM),
    "8b-block": Case("Qwen/Qwen3-8B-FP8", "fp8-block"), "mistral-fp8": Case(_MISTRAL, "fp8", edit=_FILE_FP8),
    "1.5b": Case("Qwen/Qwen2.5-1.5B-Instruct"), "phi": Case("microsoft/Phi-3.5-mini-instruct", edit={"auto_map": None}),
}.items():  # fmt: skip
    CASES[f"audit-{_name}"] = replace(_case, audit=True, layers=6 if "gemma" in _name else 4, batches=(), limit_s=60)
