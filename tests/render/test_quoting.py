"""No value leaves its place: what a filter writes, the language's own parser reads back."""

from __future__ import annotations

import csv
import shlex
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from planner.errors import UsageError
from planner.render import quoting

HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
    st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n\t\r-=/.ab1é漢\u2028\u202e😀", max_size=60),
    st.sampled_from(
        ["$(touch x)", "`id`", "'; rm -rf /; '", "{{ 7*7 }}", "${HOME}", "$$", "yes", "null", "1e3", "0x10", "~", "- a"]
    ),
)


@given(HOSTILE)
def test_shell_words_come_back_from_shlex(text: str) -> None:
    assert shlex.split(quoting.sh(text)) == [text]


@settings(max_examples=30, deadline=None)
@given(st.lists(HOSTILE, min_size=1, max_size=6))
def test_shell_words_come_back_from_bash(bash: str, texts: list[str]) -> None:
    script = "printf '%s\\0' " + " ".join(quoting.sh(text) for text in texts)
    out = subprocess.run([bash, "-c", script], capture_output=True, check=True).stdout
    assert out.decode().split("\0")[:-1] == texts


@given(HOSTILE)
def test_yaml_scalars_come_back_as_the_same_string(text: str) -> None:
    scalar = quoting.yaml(text)
    assert "\n" not in scalar
    assert yaml.safe_load(f"key: {scalar}\nnext: 1") == {"key": text, "next": 1}


@given(HOSTILE)
def test_yaml_keys_come_back_as_the_same_string(text: str) -> None:
    assert yaml.safe_load(f"{quoting.yaml_key(text)}: 1") == {text: 1}


@given(HOSTILE.map(lambda text: text + "\n"), st.integers(1, 8))
def test_yaml_blocks_come_back_as_the_same_text(text: str, indent: int) -> None:
    assert yaml.safe_load(f"key: {quoting.yaml_block(text, indent)}\nnext: 1") == {"key": text, "next": 1}


@given(HOSTILE)
def test_dollars_survive_one_expansion(text: str) -> None:
    doubled = yaml.safe_load(quoting.dollars(text))
    assert doubled.replace("$$", "$") == text
    assert doubled.count("$") == 2 * text.count("$")


@given(HOSTILE)
def test_comments_stay_on_their_line(text: str) -> None:
    assert quoting.comment(text).isprintable()


@given(HOSTILE)
def test_mount_fields_come_back_from_csv(text: str) -> None:
    if "\n" in text or "\r" in text:
        with pytest.raises(UsageError):
            quoting.mount(f"source={text}")
        return
    row = ",".join(("type=bind", quoting.mount(f"source={text}"), "readonly"))
    assert next(csv.reader([row])) == ["type=bind", f"source={text}", "readonly"]


def _inline(markdown: str) -> list[tuple[str, str]]:
    """(type, content) of the innermost tokens, as a GitHub-like parser sees them."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return [
        (child.type, child.content)
        for token in parser.parse(markdown)
        for child in token.children or ()
        if child.type != "text" or child.content
    ]


@given(HOSTILE)
def test_markdown_shows_the_value_and_no_markup(text: str) -> None:
    shown = quoting.printable(text).strip()
    for before, after in (("- **x** – ", ""), ("# ", ""), ("- ", ""), ("| a | ", " |\n|---|---|\n")):
        tokens = _inline(f"{before}{quoting.md(text)}{after}\n")
        kinds = {kind for kind, _ in tokens}
        assert kinds <= {"text", "text_special", "strong_open", "strong_close"}
        seen = "".join(content for _, content in tokens)
        assert seen.endswith(" ".join(shown.split(" "))) or shown.rstrip("#") != shown


@given(HOSTILE)
def test_markdown_code_shows_the_value_in_one_table_cell(text: str) -> None:
    table = f"| name | value |\n|---|---|\n| x | {quoting.md_code(text)} |\n"
    codes = [content for kind, content in _inline(table) if kind == "code_inline"]
    assert len(codes) == 1
    assert codes[0].strip() == quoting.printable(text).strip()


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "", "tab\tin", "a\u2028b", "\x1b[31m"])
def test_a_modelfile_value_that_its_parser_would_drop_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Modelfile"):
        quoting.modelfile(text)


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (10**9, "1000000000"), (0.1 + 0.2, "0.3"), (0.92, "0.92")])
def test_numbers_have_no_exponent_and_no_noise(value: float, text: str) -> None:
    assert quoting.num(value) == text


@pytest.mark.parametrize("value", ["3", True, None])
def test_what_is_no_number_is_a_bug(value: object) -> None:
    with pytest.raises(TypeError):
        quoting.num(value)


def test_a_nul_never_reaches_a_shell() -> None:
    with pytest.raises(UsageError, match="NUL"):
        quoting.sh("a\0b")


@given(HOSTILE)
def test_python_literals_come_back(text: str) -> None:
    import ast

    assert ast.literal_eval(quoting.py(text)) == text


def test_python_literals_are_plain_values_only() -> None:
    assert [quoting.py(value) for value in (None, 3, 0.5)] == ["None", "3", "0.5"]
    with pytest.raises(TypeError, match="no literal"):
        quoting.py(["a"])


@given(HOSTILE)
def test_xml_text_comes_back_or_is_refused(text: str) -> None:
    from xml.etree import ElementTree

    try:
        quoted = quoting.xml(text)
    except UsageError:
        assert any(ord(char) < 0x20 or char in "\ufffe\uffff" for char in text)
        return
    assert (ElementTree.fromstring(f"<a>{quoted}</a>").text or "") == text


@given(HOSTILE)
def test_a_comment_cannot_be_closed(text: str) -> None:
    assert "--" not in quoting.xml_comment(text) and "\n" not in quoting.xml_comment(text)


@given(HOSTILE)
def test_a_units_word_stays_on_its_line(text: str) -> None:
    word = quoting.systemd_word(text)
    assert word.isprintable() and word[0] == word[-1] == '"'
    assert "%" not in word.replace("%%", "") and "$" not in word.replace("$$", "")


def test_a_block_moves_as_a_whole() -> None:
    assert quoting.shift("a:\n  b\n\n", 2) == "  a:\n    b\n\n"
