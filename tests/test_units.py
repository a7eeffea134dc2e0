"""Amounts as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import UnknownNameError, UsageError, nearest
from planner.units import ceil_div, parse_bytes, parse_tokens, round_up


@pytest.mark.parametrize(
    ("text", "expected"), [("48GiB", 48 << 30), ("48 GB", 48 * 10**9), ("1.5GiB", 3 << 29), ("512 MiB", 512 << 20)]
)
def test_memory_is_read_with_its_unit(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["48", "48G", "GiB", "-1GiB", "", "1e9GiB", "48 GiB; rm"])
def test_memory_without_a_clear_unit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="unit"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "expected"), [("8192", 8192), ("32k", 32000), ("32K", 32768), ("1M", 1 << 20)])
def test_tokens_are_read_as_vllm_reads_them(text: str, expected: int) -> None:
    assert parse_tokens(text) == expected


@given(st.integers(0, 10**15), st.integers(1, 10**6))
def test_rounding_up_is_the_least_multiple(a: int, b: int) -> None:
    assert round_up(a, b) - b < a <= round_up(a, b)
    assert round_up(a, b) == ceil_div(a, b) * b


def test_nearest_ignores_case_and_is_bounded() -> None:
    assert nearest("LLAMA3-70b", ["llama3-70b", "qwen3-32b"]) == ("llama3-70b",)
    assert nearest("x" * 100_000, ["llama3-70b"]) == ()


def test_an_unknown_name_is_one_printable_line() -> None:
    error = UnknownNameError("model", "a\nb" * 200, ["llama3-70b"])
    assert "\n" not in str(error)
    assert len(str(error)) < 200
