"""Units: bytes, tokens and rates, parsed from what people type and printed with their label.

GiB is 2**30 bytes, GB is 10**9; a bare "48G" is refused because it says neither.
"""

from __future__ import annotations

import re
from typing import Final

from planner.errors import UsageError

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
MB: Final = 10**6
GB: Final = 10**9
TERA: Final = 10**12

_BYTES = {
    "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": 1 << 40,
    "KB": 10**3, "MB": MB, "GB": GB, "TB": TERA,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def parse_bytes(text: str) -> int:
    """Bytes in `text` ("48GiB", "64 GB"). Raises UsageError when number or unit is missing."""
    match = _QUANTITY.fullmatch(text)
    factor = _BYTES.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise UsageError(f"{text!r} is not an amount of memory; write a unit, e.g. 48GiB or 48GB")
    return round(float(match[1]) * factor)


def parse_tokens(text: str) -> int:
    """Tokens in `text` ("8192", "32k" = 32,000, "32K" = 32,768, as vLLM reads them)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmM]?)\s*", text)
    if match is None:
        raise UsageError(f"{text!r} is not a number of tokens; e.g. 8192, 32k or 32K")
    factor = {"": 1, "k": 1000, "K": KIB, "m": MB, "M": MIB}[match[2]]
    return round(float(match[1]) * factor)


def gib(n_bytes: float) -> str:
    """`n_bytes` as "14.96 GiB"."""
    return f"{n_bytes / GIB:.2f} GiB"


def significant(value: float) -> str:
    """Three significant digits, thousands separated: 0.0123, 12.3, 4,210; a reader meets a figure in one form."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}"


def ceil_div(a: int, b: int) -> int:
    """`a / b` rounded up."""
    return -(-a // b)


def round_up(a: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `a`."""
    return -(-a // multiple) * multiple
