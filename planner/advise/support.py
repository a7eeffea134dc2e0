"""Whether a release runs a quantization on a machine, and what a quantization's name means to an engine.

Reads the support matrix that each release carries; knows no memory, no speed and no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import UnknownNameError
from planner.estimate.identity import remembered
from planner.sources.index import fold
from planner.spec.engine import EngineRelease, KernelSupport
from planner.spec.hardware import Machine

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog


@remembered
def kernel_for(release: EngineRelease, machine: Machine, quantization_id: str) -> tuple[KernelSupport, bool] | str:
    """The support row for `quantization_id` on `machine` and whether the multiply itself is native.

    False as the second value means that weights are widened to 16 bits before the multiply. A string
    is the reason why not, with the values that would do.
    """
    platform = machine.platform
    title = f"{release.engine} {release.version}"
    rows = [row for row in release.support if row.quantization == quantization_id and row.platform == platform]
    if not rows:
        elsewhere = sorted({row.platform for row in release.support if row.quantization == quantization_id})
        where = f"; it has one on {', '.join(elsewhere)}" if elsewhere else ""
        return f"{title} has no {quantization_id} kernel on {platform}{where}"
    refusals = [reason for row in rows if (reason := _refusal(row, machine))]
    if len(refusals) == len(rows):
        return f"{title} {quantization_id}: {refusals[0]}"
    row = next(row for row in rows if not _refusal(row, machine))
    return row, _native(row, machine)


def resolve_quantization(name: str, engine: str, catalog: Catalog) -> str:
    """The format id that `name` means to `engine` (`int4` is AWQ to vLLM and Q4_K_M to Ollama).

    Raises UnknownNameError naming the nearest known names.
    """
    aliases: dict[str, str] = catalog.document("quantization")["engine_aliases"].get(engine, {})
    meant = {fold(alias): identifier for alias, identifier in aliases.items()}.get(fold(name))
    if meant is not None:
        return meant
    try:
        return catalog.format(name).id
    except UnknownNameError:
        raise UnknownNameError("quantization", name, {*catalog.names("format"), *aliases}) from None


def _refusal(row: KernelSupport, machine: Machine) -> str:
    """Why `row` is not for `machine`, or an empty string."""
    accelerator = machine.accelerator
    architecture = _architecture(machine)
    if row.architectures and architecture not in row.architectures:
        return f"runs on {', '.join(row.architectures)}, not on {architecture or 'an unknown architecture'}"
    if accelerator is None or row.platform != "cuda":
        return ""
    capability = _capability(machine)
    if capability is None:
        gated = row.min_compute_capability is not None
        return f"the compute capability of {accelerator.name} is not known" if gated else ""
    if row.min_compute_capability is not None and capability < _level(row.min_compute_capability):
        return (
            f"needs compute capability {row.min_compute_capability:.1f}, "
            f"{accelerator.name} has {accelerator.compute_capability}"
        )
    if row.max_compute_capability is not None and capability > _level(row.max_compute_capability):
        return (
            f"has kernels up to compute capability {row.max_compute_capability:.1f}, "
            f"{accelerator.name} has {accelerator.compute_capability}"
        )
    return ""


def _native(row: KernelSupport, machine: Machine) -> bool:
    if row.weight_only:
        return False
    if row.native_from is None or row.platform != "cuda":
        return True
    capability = _capability(machine)
    return capability is not None and capability >= _level(row.native_from)


def _architecture(machine: Machine) -> str | None:
    if machine.accelerator is not None:
        return machine.accelerator.gfx or machine.accelerator.architecture
    return machine.cpu.architecture if machine.cpu else "x86_64"


def _capability(machine: Machine) -> int | None:
    return machine.accelerator.sm if machine.accelerator else None


def _level(capability: float) -> int:
    """8.9 → 89, 10.0 → 100; compared as integers because 12.1 < 9.0 as text and 8.9 is inexact."""
    return round(capability * 10)
