"""Environment of a NIM for LLMs: its own variables for what they cover, vLLM's words for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.arguments import vllm

if TYPE_CHECKING:
    from planner.spec.plan import Configuration, Resolved

_SAID_BY_VARIABLES = (
    "--served-model-name",
    "--tensor-parallel-size",
    "--pipeline-parallel-size",
    "--max-model-len",
)


def environment(configuration: Configuration, resolved: Resolved) -> dict[str, str]:
    """Variable → value. NIM_PASSTHROUGH_ARGS outranks NIM's variables, so nothing is said twice."""
    parallel, model = configuration.parallelism, configuration.model
    words = vllm.arguments(configuration, resolved)[1:]
    values = {
        "NIM_MODEL_PATH": f"hf://{model.checkpoint}",
        "NIM_SERVED_MODEL_NAME": model.served_name,
        "NIM_MAX_MODEL_LEN": str(configuration.limits.max_model_len),
        "NIM_TENSOR_PARALLEL_SIZE": str(parallel.tensor),
        "NIM_PASSTHROUGH_ARGS": " ".join(w for w in words if w.partition("=")[0] not in _SAID_BY_VARIABLES),
    }
    if parallel.pipeline > 1:
        values["NIM_PIPELINE_PARALLEL_SIZE"] = str(parallel.pipeline)
    return dict(sorted(values.items()))
