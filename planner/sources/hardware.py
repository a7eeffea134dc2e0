"""What a typed device name means: one accelerator of the catalog, and what was assumed.

Knows how people write names (vendor words, `-80GB` suffixes, sizes of unified memory). Which names
exist, and which of them are ambiguous, is data (`aliases`, `assumed_aliases`). Knows no counts,
machines or prices; see `machines.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from planner.errors import UnknownNameError, UsageError
from planner.sources.index import fold
from planner.units import GIB

if TYPE_CHECKING:
    from planner.spec.hardware import Accelerator, Cpu, Instance, Interconnect

__all__ = ["HardwareCatalog", "checked_text", "resolve_accelerator", "typed_name"]

MAX_NAME_CHARS: Final = 96
SMALLEST_USEFUL_BYTES: Final = 16 * GIB
"""A unified-memory chip named without a size is taken as the smallest one of at least this."""

_ALLOWED = re.compile(r"[A-Za-z0-9 ._+,:()/\-]+")
_SIZE = re.compile(r"(?P<base>.+?)[ _-]?(?<![0-9.])(?P<size>\d{1,4}) ?(?:GB|GiB|G)", re.IGNORECASE)
_VENDOR_WORDS = re.compile(r"\b(?:nvidia|amd|intel|apple|geforce|tesla|instinct|radeon|generation)\b", re.IGNORECASE)
_SPOKEN = {"pcie": "PCIe"}
_CAPITALISED = re.compile(r"(?:[a-z]{4,}|max|pro|ada|arc|ti)\d*")


class HardwareCatalog(Protocol):
    """The part of the catalog that names are resolved against."""

    def accelerators(self) -> tuple[Accelerator, ...]: ...
    def accelerator_names(self) -> dict[str, str]: ...
    def accelerator(self, name: str, /) -> Accelerator: ...
    def cpus(self) -> tuple[Cpu, ...]: ...
    def cpu(self, name: str, /) -> Cpu: ...
    def interconnect(self, name: str, /) -> Interconnect: ...
    def instances(self) -> tuple[Instance, ...]: ...
    def instances_with(self, accelerator: str, /) -> tuple[Instance, ...]: ...
    def instance(self, provider: str, name: str, /) -> Instance: ...


def resolve_accelerator(catalog: HardwareCatalog, name: str) -> tuple[Accelerator, str | None]:
    """The accelerator that `name` means, and what was assumed when it could mean several.

    A chip with unified memory comes back with `memory_bytes` and `usable_memory_bytes` set to the
    size chosen. Raises UnknownNameError for a name nobody has, UsageError for a size that is not
    sold and for a device that is known but cannot be planned for.
    """
    text = checked_text(name)
    found = _by_name(catalog, text)
    size_gib: int | None = None
    if found is None:
        match = _SIZE.fullmatch(text)
        base = _by_name(catalog, match["base"]) if match else None
        if match is None or base is None:
            raise UnknownNameError("accelerator", name, lambda: _written_names(catalog))
        size_gib = int(match["size"])
        found = base if base[0].memory_options_bytes else _of_size(catalog, match["base"], base[0], size_gib)
    accelerator, assumption = found
    if not accelerator.plannable:
        raise UsageError(f"{accelerator.name} cannot be planned for: {accelerator.refused_because}")
    if accelerator.memory_options_bytes:
        return _with_memory(catalog, accelerator, size_gib, assumption)
    return accelerator, assumption


def checked_text(text: str, what: str = "an accelerator", limit: int = MAX_NAME_CHARS) -> str:
    """`text` without outer spaces. Raises UsageError when it cannot be a name at all."""
    stripped = text.strip()
    if not stripped:
        raise UsageError(f"the name of {what} is empty; e.g. A100, RTX-4090 or M3-Max-64GB")
    if len(stripped) > limit:
        raise UsageError(f"the name of {what} has {len(stripped)} characters; at most {limit} are read")
    if not _ALLOWED.fullmatch(stripped):
        odd = next(c for c in stripped if not _ALLOWED.fullmatch(c))
        raise UsageError(
            f"the name of {what} contains {odd!a}; letters, digits, spaces and . _ + , : ( ) / - are allowed"
        )
    return stripped


def typed_name(accelerator: Accelerator) -> str:
    """`accelerator` as a person would type it, size included: `A100-SXM4-80GB`, `M3-Max-64GB`.

    `resolve_accelerator` reads it back as the same device.
    """
    words = [
        _SPOKEN.get(word) or (word.capitalize() if _CAPITALISED.fullmatch(word) else word.upper())
        for word in accelerator.id.split("-")
    ]
    if accelerator.memory_options_bytes:
        words.append(f"{accelerator.memory_bytes // GIB}GB")
    return "-".join(words)


def _by_name(catalog: HardwareCatalog, text: str) -> tuple[Accelerator, str | None] | None:
    """The accelerator called `text`, with or without vendor words, and what that assumed."""
    names = catalog.accelerator_names()
    for written in (text, _VENDOR_WORDS.sub(" ", text)):
        folded = fold(written)
        if identifier := names.get(folded):
            accelerator = catalog.accelerator(identifier)
            said = {fold(alias): note for alias, note in accelerator.assumed_aliases.items()}
            return accelerator, said.get(folded) or said.get(fold(_VENDOR_WORDS.sub(" ", text)))
    return None


def _of_size(
    catalog: HardwareCatalog, typed_base: str, base: Accelerator, size_gib: int
) -> tuple[Accelerator, str | None]:
    """The variant of `typed_base` with `size_gib` of memory; sizes are matched by their label."""
    if _label_gib(base) == size_gib:
        return base, f"{typed_base} {size_gib} GB read as {base.name}"
    variants = [a for a in catalog.accelerators() if a is base or _starts_with(a.id, typed_base)]
    for variant in variants:
        if _label_gib(variant) == size_gib:
            return variant, f"{typed_base} {size_gib} GB read as {variant.name}"
    sizes = ", ".join(str(s) for s in sorted({_label_gib(a) for a in variants}))
    raise UsageError(f"{typed_base} is sold with {sizes} GB, not with {size_gib} GB")


def _with_memory(
    catalog: HardwareCatalog, chip: Accelerator, size_gib: int | None, assumption: str | None
) -> tuple[Accelerator, str | None]:
    """`chip` (or a sibling that is sold with `size_gib`) with its memory set to one size."""
    said = [assumption] if assumption else []
    if size_gib is None:
        size = _usual_size(chip)
        said.append(f"{chip.name} read as the one with {size // GIB} GB: no size was given")
    else:
        size = size_gib * GIB
    if size not in chip.memory_options_bytes:
        siblings = [a for a in catalog.accelerators() if _family(a) == _family(chip)] if assumption else [chip]
        sibling = next((a for a in siblings if size in a.memory_options_bytes), None)
        if sibling is None:
            sizes = ", ".join(str(s // GIB) for s in sorted({s for a in siblings for s in a.memory_options_bytes}))
            raise UsageError(f"{_family(chip)} is sold with {sizes} GB, not with {size_gib} GB")
        chip, said = sibling, [f"{_family(chip)} with {size_gib} GB is sold only as {sibling.name}"]
    sized = chip.model_copy(update={"memory_bytes": size, "usable_memory_bytes": size})
    return sized, "; ".join(said) or None


def _usual_size(chip: Accelerator) -> int:
    """The size assumed when none was given: on Apple the smallest useful one, else the largest."""
    useful = [s for s in chip.memory_options_bytes if s >= SMALLEST_USEFUL_BYTES]
    return min(useful) if useful and chip.device_class == "apple" else max(chip.memory_options_bytes)


def _family(accelerator: Accelerator) -> str:
    """The name without its variant: "Apple M3 Max (30-core GPU)" → "Apple M3 Max"."""
    return accelerator.name.split("(")[0].strip()


def _starts_with(identifier: str, typed: str) -> bool:
    """True when the first words of `identifier` spell `typed` (`l4` does not start `l40s`)."""
    wanted, so_far = fold(_VENDOR_WORDS.sub(" ", typed)), ""
    for word in identifier.split("-"):
        so_far += word
        if so_far == wanted:
            return True
    return False


def _label_gib(accelerator: Accelerator) -> int:
    return round(accelerator.memory_bytes / GIB)


def _written_names(catalog: HardwareCatalog) -> list[str]:
    """Names to suggest from: what a person would type first, then the aliases."""
    known = [a for a in catalog.accelerators() if a.plannable]
    return [typed_name(a) if not a.memory_options_bytes else a.id for a in known] + [
        n for a in known for n in a.aliases
    ]
