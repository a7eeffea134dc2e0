"""Ollama: a Modelfile's content and the server's environment.

Its OpenAI endpoint cannot set a context length, so the planned one goes into the Modelfile; what
`num_ctx` allocates is multiplied by OLLAMA_NUM_PARALLEL, so both are always set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.arguments import is_local, kv_cache_flag, own_path

if TYPE_CHECKING:
    from planner.spec.plan import Configuration, Resolved

DEFAULT_LOAD_TIMEOUT_S = 300
LOAD_MARGIN = 1.5
"""Of the estimated load, which may stand still as long; what is downloaded comes before it."""
"""Ollama's own: a budget below it would only make loading fail earlier."""
KEEP_ALIVE = "-1"
"""Never unload: a planned server is not a desktop app that frees the GPU after five minutes."""


def arguments(configuration: Configuration, resolved: Resolved) -> tuple[str, ...]:
    """What follows `ollama`; every limit is in the environment and the Modelfile."""
    return ("serve",)


def source(configuration: Configuration, inside: str | None = None) -> str:
    """The value of FROM: a library tag, `hf.co/<repository>:<type>`, or a GGUF file.

    `inside` is where a container finds a local file.
    """
    model = configuration.model
    if model.ollama_tag:
        return model.ollama_tag
    if is_local(model):
        path = own_path(model)
        # without the dot a file that is not there yet would be asked of a registry
        return inside or (path if path.startswith("/") else f"./{path}")
    kind = configuration.quantization.removeprefix("gguf:")
    return f"hf.co/{model.checkpoint}:{kind}"


def parameters(configuration: Configuration, resolved: Resolved) -> tuple[tuple[str, str], ...]:
    """(name, value) of each PARAMETER line. Stop words only for a file that carries no template of its own."""
    limits = configuration.limits
    pairs: list[tuple[str, str]] = [("num_ctx", str(limits.num_ctx or limits.max_model_len))]
    for name, value in (
        ("num_gpu", limits.num_gpu),
        ("num_thread", limits.num_thread),
        ("num_batch", limits.num_batch),
    ):
        if value is not None:
            pairs.append((name, str(value)))
    if configuration.model.ollama_tag is None:
        pairs += [("stop", stop) for stop in resolved.model.chat_stop]
    return tuple(pairs)


def environment(configuration: Configuration, resolved: Resolved) -> dict[str, str]:
    """The server's environment. Flash attention must be on for a quantized KV cache."""
    limits = configuration.limits
    values = {
        "OLLAMA_CONTEXT_LENGTH": str(limits.num_ctx or limits.max_model_len),
        "OLLAMA_FLASH_ATTENTION": "1" if resolved.engine.defaults.flash_attention else "0",
        "OLLAMA_KEEP_ALIVE": KEEP_ALIVE,
        "OLLAMA_LOAD_TIMEOUT": f"{max(DEFAULT_LOAD_TIMEOUT_S, round(LOAD_MARGIN * limits.load_seconds))}s",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_NUM_PARALLEL": str(limits.num_parallel or limits.max_num_seqs),
    }
    if limits.max_queue is not None:
        values["OLLAMA_MAX_QUEUE"] = str(limits.max_queue)
    kv_cache = kv_cache_flag(configuration, resolved)
    if kv_cache is not None:
        values["OLLAMA_KV_CACHE_TYPE"] = kv_cache
        if kv_cache not in ("f16", "bf16", "f32"):
            values["OLLAMA_FLASH_ATTENTION"] = "1"
    return values


def listen(port: int) -> tuple[str, ...]:
    """Nothing: OLLAMA_HOST says it."""
    return ()
