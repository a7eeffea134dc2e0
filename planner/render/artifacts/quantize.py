"""`quantize.sh`: make the planned checkpoint where nobody publishes one, by llm-compressor or llama-quantize.

Checks memory and disk before it downloads anything. For llm-compressor the work itself is `quantize.py` beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render.artifacts.docker import headline
from planner.render.recipe import Making, making, why_nothing_to_make
from planner.render.registry import Target
from planner.render.templating import fill
from planner.sources.recipes import is_made
from planner.units import GIB, ceil_div, gib

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE, SCRIPT = "quantize.sh", "quantize.py"
SEQUENCE_TOKENS = 2048
"""Length of one calibration text."""
_MOE_ROUTERS = ("re:.*gate$", "re:.*router$", "re:.*shared_expert_gate$")
"""Linears that choose experts: small, and a wrong choice costs more than a rounded weight."""


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One script, or two."""
    work, model = making(plan), plan.resolved.model
    shared = {
        "title": headline(plan),
        "work": work,
        "token": {True: "required", None: "optional", False: "none"}[False if work.local else model.gated],
        "host_gib": ceil_div(work.host_bytes, GIB),
        "gpu_gib": ceil_div(work.gpu_bytes, GIB),
        "disk_gib": ceil_div(work.disk_bytes, GIB),
        "notes": machine_notes(plan, work),
        "file": SCRIPT,
        "outtype": work.kind.lower(),
    }
    files = {FILE: fill("quantize/quantize.sh.j2", **shared)}
    if work.recipe is not None:
        files[SCRIPT] = fill(
            "quantize/quantize.py.j2",
            **shared,
            recipe=work.recipe,
            ignored=("lm_head", *(_MOE_ROUTERS if model.is_moe else ())),
            smooth="smooth" in work.recipe.steps and not model.is_moe,
            sequence=min(SEQUENCE_TOKENS, model.context_length),
            instruct=model.instruct,
        )
    return files


def machine_notes(plan: Plan, work: Making) -> list[str]:
    """How the planned machine compares with what the making takes."""
    notes = []
    if plan.best.engine.quantization_flag is not None:
        notes.append(
            f"{plan.best.engine.name} also makes this format while it loads the 16-bit weights, as the plan has it; "
            "a made checkpoint is smaller on disk and starts sooner."
        )
    accelerator, ram = plan.resolved.machine.accelerator, plan.best.hardware.ram_bytes
    if work.gpu_bytes:
        if accelerator is None or accelerator.platform != "cuda":
            notes.append("The planned machine has no NVIDIA GPU: run this on one that has.")
        else:
            fits = "is enough" if accelerator.usable_memory_bytes >= work.gpu_bytes else "is too small"
            notes.append(f"The planned {accelerator.name} ({gib(accelerator.usable_memory_bytes)}) {fits}.")
    if ram is not None:
        fits = "is enough" if ram >= work.host_bytes else "is too small: add swap or use another machine"
        notes.append(f"The planned host memory ({gib(ram)}) {fits}.")
    return notes


def paths(plan: Plan) -> tuple[str, ...]:
    """llm-compressor's half."""
    return () if plan.best.quantization.startswith("gguf:") else (SCRIPT,)


def needed(plan: Plan) -> bool:
    """True when the plan's files load what this makes."""
    return is_made(plan.best.model.id, plan.best.model.checkpoint, plan.best.quantization)


TARGET = Target(
    "quantize",
    "Recipe for a quantized checkpoint that nobody publishes (llm-compressor, llama-quantize)",
    (FILE,),
    why_nothing_to_make,
    render,
    default=False,
    extra=paths,
    needed=needed,
)
