"""Arguments of `vllm serve`, 0.26 to 0.33."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.arguments import container_model_path, dtype_flag, is_local, kv_cache_flag, options
from planner.spec.features import adapter_name, adapter_repository

if TYPE_CHECKING:
    from planner.spec.plan import Configuration, Resolved


def arguments(configuration: Configuration, resolved: Resolved) -> tuple[str, ...]:
    """The model first (`vllm serve` takes it as its positional argument), then options in groups.

    `--quantization` is given only for quantization while loading: for a quantized checkpoint it must
    equal what its config.json says, which vLLM reads by itself.
    """
    model, limits, parallel = configuration.model, configuration.limits, configuration.parallelism
    local = is_local(model)
    words = [container_model_path(model) if local else hub_name(configuration)]
    words += options(
        ("--revision", None if local else model.revision),
        ("--tokenizer", tokenizer(configuration, resolved)),
        ("--served-model-name", model.served_name),
        ("--dtype", dtype_flag(configuration, resolved)),
        ("--quantization", configuration.engine.quantization_flag),
        ("--kv-cache-dtype", kv_cache_flag(configuration, resolved)),
        ("--tensor-parallel-size", parallel.tensor),
        ("--pipeline-parallel-size", parallel.pipeline if parallel.pipeline > 1 else None),
        ("--data-parallel-size", parallel.data if parallel.data > 1 else None),
    )
    if parallel.expert > 1:
        words.append("--enable-expert-parallel")
    words += options(
        ("--max-model-len", limits.max_model_len),
        ("--max-num-seqs", limits.max_num_seqs),
        ("--max-num-batched-tokens", limits.max_num_batched_tokens),
        ("--gpu-memory-utilization", None if on_cpu(configuration) else limits.gpu_memory_utilization),
        ("--kv-cache-memory-bytes", configuration.memory.bytes_of("kv_cache") if on_cpu(configuration) else None),
    )
    if resolved.engine.startup is not None and resolved.engine.startup.drain_flag is not None:
        words += options((resolved.engine.startup.drain_flag, resolved.engine.startup.drain_s))
    return (*words, *feature_words(configuration, resolved))


def feature_words(configuration: Configuration, resolved: Resolved) -> tuple[str, ...]:
    """Options of what was asked beyond answering. Adapters come last: their option takes any number of words.

    Plain options only, no JSON: NIM and KServe's presets split words at spaces. Releases that lack them are refused.
    """
    features = configuration.features
    if features is None:
        return ()
    drafts = features.draft_tokens if features.speculative else None
    words = [
        *options(
            ("--spec-method", features.speculative), ("--spec-model", features.draft_model), ("--spec-tokens", drafts)
        )
    ]
    if features.prefix_caching is not None:
        words.append("--enable-prefix-caching" if features.prefix_caching else "--no-enable-prefix-caching")
    if features.tool_calling:
        words.append("--enable-auto-tool-choice")
    words += options(
        ("--tool-call-parser", features.tool_parser),
        ("--reasoning-parser", features.reasoning_parser),
    )
    if features.structured_output not in (None, "auto"):
        words.append(f"--structured-outputs-config.backend={features.structured_output}")
    if features.lora_adapters:
        count = len(features.lora_adapters)
        words += ["--enable-lora", f"--max-loras={count}", f"--max-lora-rank={features.max_lora_rank}"]
        words += ["--lora-modules", *(f"{adapter_name(a)}={adapter_repository(a)}" for a in features.lora_adapters)]
    return tuple(words)


def hub_name(configuration: Configuration) -> str:
    """The repository, with the GGUF type behind a colon where one file of several is meant."""
    quantization = configuration.quantization
    suffix = ":" + quantization.removeprefix("gguf:") if quantization.startswith("gguf:") else ""
    return configuration.model.checkpoint + suffix


def tokenizer(configuration: Configuration, resolved: Resolved) -> str | None:
    """A GGUF file's own tokenizer is slow to convert and may differ: name the original model's."""
    original = resolved.model.id
    is_gguf = configuration.quantization.startswith("gguf:")
    return original if is_gguf and "/" in original and not original.startswith(("/", ".", "~")) else None


def on_cpu(configuration: Configuration) -> bool:
    """True for the CPU build, whose KV pool is an amount and not a share."""
    return configuration.engine.platform == "cpu"


def environment(configuration: Configuration, resolved: Resolved) -> dict[str, str]:
    """On Gaudi what graphs may take."""
    memory = resolved.engine.memory
    if configuration.engine.platform == "gaudi" and memory is not None and "gaudi_graph_share" in memory.coefficients:
        return {"VLLM_GRAPH_RESERVED_MEM": f"{memory.coefficients['gaudi_graph_share']:g}"}
    return {}


def listen(port: int) -> tuple[str, ...]:
    """Listen on every address of the container, on `port`."""
    return options(("--host", "0.0.0.0"), ("--port", port))
