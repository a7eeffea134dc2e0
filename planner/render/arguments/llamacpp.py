"""Arguments of `llama-server`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.arguments import container_model_path, is_local, kv_cache_flag, options

if TYPE_CHECKING:
    from planner.spec.plan import Configuration, Resolved


def arguments(configuration: Configuration, resolved: Resolved) -> tuple[str, ...]:
    """`--ctx-size` is shared by the slots: context of one slot × `--parallel`."""
    model, limits = configuration.model, configuration.limits
    slots = limits.num_parallel or limits.max_num_seqs
    context = limits.num_ctx or limits.max_model_len
    kv_cache = kv_cache_flag(configuration, resolved)
    if is_local(model):
        where = options(("--model", container_model_path(model)))
    else:
        kind = configuration.quantization.removeprefix("gguf:")
        where = options(("--hf-repo", f"{model.checkpoint}:{kind}"), ("--hf-file", model.file))
    return as_pairs(
        where
        + options(
            ("--alias", model.served_name),
            ("--ctx-size", context * slots),
            ("--parallel", slots),
            ("--n-gpu-layers", limits.num_gpu),
            ("--threads", limits.num_thread),
            ("--batch-size", limits.num_batch),
            ("--cache-type-k", kv_cache),
            ("--cache-type-v", kv_cache),
        )
    )


def as_pairs(words: tuple[str, ...]) -> tuple[str, ...]:
    """`--flag=value` as two words: this parser takes the next word whatever it is, and knows no `=`."""
    return tuple(part for word in words for part in word.split("=", 1))


def environment(configuration: Configuration, resolved: Resolved) -> dict[str, str]:
    """Nothing beyond what the image sets."""
    return {}


def listen(port: int) -> tuple[str, ...]:
    """Listen on every address of the container, on `port`."""
    return as_pairs(options(("--host", "0.0.0.0"), ("--port", port)))
