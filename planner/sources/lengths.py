"""How long requests are: a distribution by name, or the lengths of requests that were seen, from a file.

Knows the request's fields for it; draws nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from planner.errors import UsageError
from planner.sources.given import read_given

MOST_SAMPLES: Final = 1024
"""Pairs that a plan keeps: quantiles of what the file holds, by total length."""
_MOST_BYTES: Final = 64 << 20
_COLUMNS: Final = (
    ("input_tokens", "output_tokens"),
    ("prompt_tokens", "completion_tokens"),
    ("input_len", "output_len"),
    ("ContextTokens", "GeneratedTokens"),
)
"""Names of the two columns: ours, OpenAI's usage object, load generators', the Azure traces'."""
_FORMS: Final = "fixed, uniform:0.5, lognormal:0.8, or a .csv or .jsonl file of input_tokens and output_tokens"


def length_fields(text: str) -> dict[str, Any]:
    """Request fields of `text`: `fixed`, `uniform[:SHARE]`, `lognormal[:VARIATION]` or a file. Raises UsageError."""
    name, colon, number = text.strip().partition(":")
    if name in ("fixed", "uniform", "lognormal"):
        fields: dict[str, Any] = {"length_distribution": name}
        if colon:
            try:
                fields["length_variation"] = float(number)
            except ValueError:
                raise UsageError(f"lengths {text!a}: {number!a} is not a number; write {_FORMS}") from None
        return fields
    path = Path(text)
    if path.suffix not in (".csv", ".jsonl"):
        raise UsageError(f"lengths {text!a} are not known; write {_FORMS}")
    return sample_fields(read_lengths(path))


def sample_fields(pairs: list[tuple[int, int]]) -> dict[str, Any]:
    """Request fields of measured (input, output) tokens; the means are those of all `pairs`."""
    n = len(pairs)
    kept = sorted(pairs, key=sum)
    if n > MOST_SAMPLES:
        kept = [kept[int((i + 0.5) * n / MOST_SAMPLES)] for i in range(MOST_SAMPLES)]
    return {
        "length_distribution": "empirical",
        "length_samples": tuple(kept),
        "input_tokens": max(1, round(sum(i for i, _ in pairs) / n)),
        "output_tokens": max(1, round(sum(o for _, o in pairs) / n)),
    }


def read_lengths(path: Path) -> list[tuple[int, int]]:
    """(input, output) tokens of each request in a CSV with a header, or in JSON lines. Raises UsageError."""
    try:
        file = io.StringIO(read_given(path, _MOST_BYTES), newline="")
        rows: Iterable[Any] = csv.DictReader(file) if path.suffix == ".csv" else _json_lines(file, path.name)
        pairs = [_pair(row, i, path.name) for i, row in enumerate(rows, 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"lengths {str(path)!a} cannot be read: {type(error).__name__}") from None
    if not pairs:
        raise UsageError(f"{path.name} holds no requests")
    return pairs


def _json_lines(lines: Iterable[str], name: str) -> Iterable[Any]:
    for i, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                raise UsageError(f"{name}, line {i}: not JSON") from None


def _pair(row: Any, number: int, name: str) -> tuple[int, int]:
    for columns in _COLUMNS:
        if isinstance(row, dict) and all(row.get(column) not in (None, "") for column in columns):
            try:
                pair = (int(row[columns[0]]), int(row[columns[1]]))
            except (TypeError, ValueError):
                break
            if min(pair) < 1:
                raise UsageError(f"{name}, request {number}: lengths are at least 1 token")
            return pair
    raise UsageError(f"{name}, request {number}: needs whole numbers input_tokens and output_tokens")
