"""Arguments of `text-generation-launcher`, 3.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.arguments import container_model_path, dtype_flag, is_local, kv_cache_flag, options
from planner.spec.features import adapter_repository

if TYPE_CHECKING:
    from planner.spec.plan import Configuration, Resolved

WATERMARK_GAMMA, WATERMARK_DELTA = 0.5, 2.0
"""The server's own: share of the vocabulary that is favoured, and by how much of a logit."""


def arguments(configuration: Configuration, resolved: Resolved) -> tuple[str, ...]:
    """Kebab-case options only (the launcher accepts no others).

    `--dtype` excludes `--quantize`; the longest prompt must be below the total. The launcher refuses
    requests beyond `--max-concurrent-requests`, so queued ones count too.
    """
    model, limits = configuration.model, configuration.limits
    quantize = configuration.engine.quantization_flag
    longest_prompt = limits.max_input_tokens or limits.max_model_len - 1
    local = is_local(model)
    return options(
        ("--model-id", container_model_path(model) if local else model.checkpoint),
        ("--revision", None if local else model.revision),
        ("--num-shard", configuration.parallelism.tensor),
        ("--quantize", quantize),
        ("--dtype", dtype_flag(configuration, resolved) if quantize is None else None),
        ("--kv-cache-dtype", kv_cache_flag(configuration, resolved)),
        ("--max-input-tokens", min(longest_prompt, limits.max_model_len - 1)),
        ("--max-total-tokens", limits.max_model_len),
        ("--max-batch-prefill-tokens", limits.max_batch_prefill_tokens),
        ("--max-batch-total-tokens", limits.max_batch_total_tokens),
        ("--max-concurrent-requests", max(limits.max_num_seqs, limits.max_queue or 0)),
        # Gaudi compiles graphs for batches up to this, and does not start without it
        ("--max-batch-size", limits.max_num_seqs if configuration.engine.platform == "gaudi" else None),
        ("--cuda-memory-fraction", limits.gpu_memory_utilization),
        ("--cuda-graphs", "0" if configuration.engine.platform in ("cpu", "xpu") else None),
        *_features(configuration),
    )


def _features(configuration: Configuration) -> tuple[tuple[str, object | None], ...]:
    """Drafts by n-grams, adapters by repository, and the watermark's two figures (a request still asks for it)."""
    features = configuration.features
    if features is None:
        return ()
    adapters = ",".join(adapter_repository(adapter) for adapter in features.lora_adapters)
    return (
        ("--speculate", features.draft_tokens if features.speculative else None),
        ("--lora-adapters", adapters or None),
        ("--watermark-gamma", WATERMARK_GAMMA if features.watermark else None),
        ("--watermark-delta", WATERMARK_DELTA if features.watermark else None),
    )


def environment(configuration: Configuration, resolved: Resolved) -> dict[str, str]:
    """Prefix caching has no option; nothing else beyond what the image sets."""
    wanted = configuration.features.prefix_caching if configuration.features else None
    return {} if wanted is None else {"PREFIX_CACHING": "1" if wanted else "0"}


def listen(port: int) -> tuple[str, ...]:
    """Listen on every address of the container, on `port`. Never `-p`: the launcher declares it twice."""
    return options(("--hostname", "0.0.0.0"), ("--port", port))
