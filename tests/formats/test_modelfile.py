"""Modelfiles: Ollama's grammar, its errors with their line, and quoting that reads back unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import FormatError
from planner.formats.modelfile import IGNORED_PARAMETERS, PARAMETERS, parse_modelfile, quote

WHOLE = '''# a comment
from llama3.1:8b
PARAMETER num_ctx 8192
Parameter temperature 0.5
PARAMETER stop "<|eot_id|>"
PARAMETER stop User:
PARAMETER use_mmap false
PARAMETER mirostat 2
TEMPLATE """{{ .System }}
"quoted" and more
"""
SYSTEM You are terse.
ADAPTER ./a.gguf
ADAPTER ./b.gguf
MESSAGE user Is "this" read?
MESSAGE assistant """Yes.
Twice."""
REQUIRES 0.14.0
LICENSE MIT'''


def test_every_instruction_is_read() -> None:
    read = parse_modelfile(WHOLE)
    assert read.source == "llama3.1:8b"
    assert read.parameters == (
        ("num_ctx", 8192), ("temperature", 0.5), ("stop", "<|eot_id|>"), ("stop", "User:"), ("use_mmap", False),
    )  # fmt: skip
    assert read.ignored == ("mirostat",)
    assert read.template == '{{ .System }}\n"quoted" and more\n'
    assert read.system == "You are terse."
    assert read.adapters == ("./a.gguf", "./b.gguf")
    assert read.messages == (("user", 'Is "this" read?'), ("assistant", "Yes.\nTwice."))
    assert (read.requires, read.licenses) == ("0.14.0", ("MIT",))
    assert (read.get("stop"), read.get("seed")) == ("User:", None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no FROM line"),
        ("PARAMETER num_ctx 1", "no FROM line"),
        ("FROM x\nPARAMETER num_ctxx 1", "line 2: unknown parameter 'num_ctxx'; nearest: num_ctx"),
        ("FROM x\nPARAMETER num_ctx 8k", "line 2: num_ctx needs a whole number, got '8k'"),
        ("FROM x\nPARAMETER num_ctx 1.5", "line 2: num_ctx needs a whole number"),
        ("FROM x\nPARAMETER top_p high", "line 2: top_p needs a number"),
        ("FROM x\nPARAMETER use_mmap yes", "line 2: use_mmap needs true or false"),
        ("FROM x\nPARAMETER num_ctx", "line 2: PARAMETER needs a name"),
        ("FROM x\nPARAMETER  num_ctx 5", "line 2: PARAMETER needs a name"),
        ("FROM x\n\n\nSYSTM hi", "line 4: unknown instruction 'SYSTM'; nearest: SYSTEM"),
        ("FROM", "line 1: FROM needs a space and a value"),
        ("FROM \n", "line 1: FROM needs a value"),
        ("FROM x\nMESSAGE robot hi", "line 2: MESSAGE role 'robot' is not one of system, user, assistant"),
        ('FROM x\nSYSTEM """never', "line 2: SYSTEM opens a quote and never closes it"),
        ('FROM x\nSYSTEM "never', "line 2: SYSTEM opens a quote and never closes it"),
        ("FROM x\nREQUIRES soon", "line 2: REQUIRES needs a version"),
    ],
)
def test_what_ollama_refuses_is_refused_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_modelfile(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_every_parameter_takes_a_value_of_its_type(name: str) -> None:
    kind = PARAMETERS[name]
    written = {int: "7", float: "0.25", bool: "true", str: "7"}[kind]
    (pair,) = parse_modelfile(f"FROM x\nPARAMETER {name} {written}").parameters
    assert pair[0] == name and type(pair[1]) is kind


@pytest.mark.parametrize("name", sorted(IGNORED_PARAMETERS))
def test_dropped_parameters_are_listed_not_set(name: str) -> None:
    read = parse_modelfile(f"FROM x\nPARAMETER {name} 1")
    assert read.ignored == (name,) and read.parameters == ()


def test_quotes_close_only_at_the_end_of_a_line() -> None:
    read = parse_modelfile('FROM x\nSYSTEM """one """ two\nthree"""\nTEMPLATE "a "b" c"')
    assert (read.system, read.template) == ('one """ two\nthree', 'a "b" c')


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ('say "hi" now', 'say "hi" now'),
        (" padded ", '" padded "'),
        ("", '""'),
        ("two\nlines", '"two\nlines"'),
        ('ends "\nthere', '"""ends "\nthere"""'),
    ],
)
def test_quotes_are_used_only_where_needed(value: str, written: str) -> None:
    assert quote(value) == written


@pytest.mark.parametrize("value", ["bell\x07", "nb\xa0space", 'a"""\nb', "zero\u200bwidth"])
def test_a_value_the_format_cannot_carry_is_refused(value: str) -> None:
    with pytest.raises(FormatError, match="cannot carry"):
        quote(value)


@given(st.text())
def test_what_is_quoted_reads_back_unchanged(value: str) -> None:
    try:
        written = quote(value)
    except FormatError:
        assert not all(c.isprintable() or c == "\t" for c in value) or '"' in value
        return
    read = parse_modelfile(f"FROM x\nSYSTEM {written}\nPARAMETER stop {written}\nMESSAGE user {written}\nLICENSE end")
    assert read.system == value
    assert read.get("stop") == value
    assert read.messages == (("user", value),)
    assert read.licenses == ("end",)


@given(st.text(alphabet=' "\n\r\taF#', max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        parse_modelfile(f"FROM x\n{text}")
    except FormatError as error:
        assert "line" in str(error)
