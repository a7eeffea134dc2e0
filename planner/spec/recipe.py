"""How a quantized checkpoint is made: the tool, its scheme, its steps, and what the machine must have."""

from __future__ import annotations

from typing import Literal

from planner.spec.base import Provenance, Spec

Step = Literal["awq", "smooth", "gptq", "round"]


class RecipeTool(Spec):
    """A quantizing program. `host_base_bytes` and `gpu_base_bytes` are needed besides the model's own share."""

    id: Literal["llm-compressor", "llama-quantize"]
    requirements: tuple[str, ...]
    """Python packages, pinned where the tool's own interface matters."""
    release: str | None = None
    """Tag of the source that is built, for a tool that is no Python package."""
    host_base_bytes: int
    gpu_base_bytes: int
    provenance: Provenance


class Recipe(Spec):
    """One way to a checkpoint in any of `quantizations`."""

    quantizations: tuple[str, ...]
    tool: Literal["llm-compressor"]
    scheme: str
    """Name of a preset of compressed-tensors."""
    steps: tuple[Step, ...]
    samples: int
    """Calibration texts; 0 for a format that needs none."""
    layers_on_gpu: int
    """Decoder layers' worth of weights on the GPU at once (a Hessian counts as one); 0 works without a GPU."""
    provenance: Provenance


class Recipes(Spec):
    """The file catalog/recipes.yaml. GGUF types need no recipe of their own: llama-quantize takes their names."""

    schema_version: int
    tools: tuple[RecipeTool, ...]
    imatrix_types: tuple[str, ...]
    """GGUF types that are not made without an importance matrix."""
    recipes: tuple[Recipe, ...]
