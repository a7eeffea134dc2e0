"""What making a quantized checkpoint takes: from what, to where, and how much memory and disk.

Sizes are arithmetic on the model's tensors plus the tool's own share (catalog/recipes.yaml); they are estimates and
say so. Knows nothing of the script that does it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from planner.estimate.tensors import parameter_count, tensors
from planner.records import dataclass
from planner.render.arguments import is_local
from planner.render.quoting import printable
from planner.sources.recipes import is_made, made_path, recipe_for, recipes, tool

if TYPE_CHECKING:
    from planner.spec.model import ModelSpec
    from planner.spec.plan import Plan
    from planner.spec.recipe import Recipe, RecipeTool

_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
_WHOLE = ("F32", "F16", "BF16")
"""GGUF types that the converter writes by itself."""
DISK_MARGIN_PERCENT = 10


@dataclass(frozen=True, slots=True)
class Making:
    """One checkpoint to be made. `recipe` is None for GGUF; bytes are estimates."""

    source: str
    revision: str | None
    local: bool
    output: str
    kind: str
    """GGUF type, or the planned format's id."""
    recipe: Recipe | None
    tool: RecipeTool
    imatrix: bool
    host_bytes: int
    gpu_bytes: int
    disk_bytes: int


def why_nothing_to_make(plan: Plan) -> str | None:
    """Why no recipe makes the plan's weights; None when one does."""
    best, model = plan.best, plan.resolved.model
    quantization = best.quantization
    if quantization == model.quantization or quantization in _BYTES:
        return f"the plan serves {model.quantization} weights as they are published; nothing is quantized"
    if model.quantization not in _BYTES:
        return f"the model is published in {model.quantization}; quantizing it again would lose quality twice"
    if model.id.endswith(".gguf"):
        return "the model is a GGUF file already"
    if made_path(model.id, quantization) is None:
        return f"no recipe makes {quantization}; there is one for " + ", ".join(
            [q for recipe in recipes().recipes for q in recipe.quantizations] + ["every gguf:TYPE"]
        )
    gguf = quantization.startswith("gguf:")
    if model.modality not in (("text", "embedding") if gguf else ("text",)):
        return f"the recipes quantize text models, and {printable(model.id)[:80]} is a {model.modality} model"
    if not is_made(model.id, best.model.checkpoint, quantization) and best.engine.quantization_flag is None:
        return (
            f"{printable(best.model.ollama_tag or best.model.checkpoint)[:80]} is published in {quantization} already; "
            "to make one of your own, plan for a folder that holds the 16-bit weights"
        )
    return None


def making(plan: Plan) -> Making:
    """What a plan that `why_nothing_to_make` lets through needs made."""
    model, quantization = plan.resolved.model, plan.best.quantization
    gguf, kind = quantization.startswith("gguf:"), quantization.removeprefix("gguf:")
    found = None if gguf else recipe_for(quantization)
    used = tool("llama-quantize" if gguf else "llm-compressor")
    output, layers = made_path(model.id, quantization), found.layers_on_gpu if found else 0
    assert output is not None
    source_bytes = parameter_count(model) * _BYTES[model.quantization]
    written = plan.best.limits.disk_bytes + (source_bytes if gguf and kind not in _WHOLE else 0)
    return Making(
        source=model.id,
        revision=model.revision,
        local=is_local(plan.best.model.model_copy(update={"checkpoint": model.id})),
        output=output.removeprefix("./"),
        kind=kind,
        recipe=found,
        tool=used,
        imatrix=kind in recipes().imatrix_types,
        host_bytes=used.host_base_bytes + (largest_tensor(model) * 4 if gguf else source_bytes),
        gpu_bytes=used.gpu_base_bytes + layers * layer_bytes(model) if layers else 0,
        disk_bytes=source_bytes * (100 + DISK_MARGIN_PERCENT) // 100 + written,
    )


def layer_bytes(model: ModelSpec) -> int:
    """Bytes of the largest decoder layer as published."""
    sizes: Counter[int] = Counter()
    for tensor in tensors(model):
        for layer in tensor.layers:
            sizes[layer] += tensor.rows * tensor.cols * tensor.experts
    return max(sizes.values(), default=0) * _BYTES[model.quantization]


def largest_tensor(model: ModelSpec) -> int:
    """Elements of the largest tensor; the experts of a layer are one tensor in GGUF."""
    return max(tensor.rows * tensor.cols * tensor.experts for tensor in tensors(model))
