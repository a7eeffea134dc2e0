"""Text in and out: streaming never splits a character or a stop string; tokenizers and templates give what they say."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.engine.chat import ChatTemplate
from planner.engine.detokenize import Detokenizer
from planner.engine.gguf_tokenizer import tokenizer_from_gguf
from planner.engine.params import RequestError
from planner.engine.tokenizer import ByteTokenizer, HubTokenizer, byte_characters
from planner.errors import FormatError, PlannerError, UsageError
from planner.formats.gguf import GgufHeader


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.text(), st.lists(st.integers(0, 400)))
def test_pieces_add_up_to_the_text_and_are_whole_characters(text: str, cuts: list[int]) -> None:
    detokenizer = Detokenizer()
    sent = [detokenizer.push(p) for p in pieces(text.encode(), cuts)]
    assert "".join(sent) + detokenizer.push(b"", final=True) == text
    assert all("\ufffd" not in s for s in sent) or "\ufffd" in text


@given(
    st.text("abc", max_size=30),
    st.lists(st.integers(0, 60)),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
def test_text_ends_before_the_first_stop_string(text: str, cuts: list[int], stops: list[str]) -> None:
    detokenizer = Detokenizer(stops)
    sent = "".join(detokenizer.push(p) for p in pieces(text.encode(), cuts))
    sent += detokenizer.push(b"", final=True)
    assert detokenizer.stopped == any(s in text for s in stops)
    assert text.startswith(sent)
    if detokenizer.stopped:
        assert any(text[len(sent) :].startswith(s) for s in stops)
        assert len(sent) <= max(text.find(s) for s in stops)
    else:
        assert sent == text


def test_broken_bytes_become_the_replacement_character_at_the_end() -> None:
    detokenizer = Detokenizer()
    assert detokenizer.push("é".encode()[:1]) == ""
    assert detokenizer.push(b"", final=True) == "\ufffd"


def test_the_byte_tokenizer_is_bytes() -> None:
    tokenizer = ByteTokenizer(300)
    assert tokenizer.encode("é") == [256, 0xC3, 0xA9]
    assert b"".join(tokenizer.token_bytes(t) for t in tokenizer.encode("é")) == "é".encode()
    with pytest.raises(UsageError, match="at least 256"):
        ByteTokenizer(255)


def byte_level() -> dict[str, Any]:
    """A byte-level BPE with one merge and a special token."""
    table = byte_characters()
    vocabulary = {table[b]: b for b in range(256)} | {table[0x20] + "t": 256}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": 257, "content": "<end>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False}
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [[table[0x20], "t"]]},
    }  # fmt: skip


@given(st.text(max_size=40))
def test_a_byte_level_tokenizer_gives_back_every_text(text: str) -> None:
    pytest.importorskip("tokenizers", reason="the optional package is not installed")
    tokenizer = HubTokenizer.from_json(json.dumps(byte_level()), "tokenizer.json")
    tokens = tokenizer.encode(text, special=False)
    assert b"".join(tokenizer.token_bytes(t) for t in tokens).decode() == text.replace("<end>", "")


def test_special_tokens_have_no_text_and_merged_ones_have_all(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the optional package is not installed")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(byte_level()))
    tokenizer = HubTokenizer.from_file(path)
    assert tokenizer.encode("a<end> t") == [97, 257, 256]
    assert [tokenizer.token_bytes(t) for t in (256, 257)] == [b" t", b""]
    assert len(tokenizer.vocabulary(300)) == 300


def test_a_damaged_tokenizer_is_a_format_error() -> None:
    pytest.importorskip("tokenizers", reason="the optional package is not installed")
    with pytest.raises(FormatError):
        HubTokenizer.from_json("{}", "tokenizer.json")


def gguf(**metadata: Any) -> GgufHeader:
    return GgufHeader(3, {f"tokenizer.ggml.{k}": v for k, v in metadata.items()}, {})


def test_gguf_tokenizers_are_rebuilt() -> None:
    pytest.importorskip("tokenizers", reason="the optional package is not installed")
    table = byte_characters()
    tokens = [table[b] for b in range(256)] + [table[0x20] + "t", "<s>"]
    kinds = [1] * 257 + [3]
    bpe = tokenizer_from_gguf(
        gguf(model="gpt2", pre="qwen2", tokens=tokens, merges=[f"{table[0x20]} t"], token_type=kinds, bos_token_id=257,
             add_bos_token=True), 300
    )  # fmt: skip
    assert bpe.encode("a t") == [257, 97, 256]
    pieces_ = ["<unk>", "<s>", "\u2581", "a", "b", "ab", "\u2581ab", "<0xC3>", "<0xA9>"]
    spm = tokenizer_from_gguf(
        gguf(model="llama", tokens=pieces_, scores=[0.0, 0, -3, -4, -5, -1, -2, 0, 0],
             token_type=[2, 3, 1, 1, 1, 1, 1, 6, 6], bos_token_id=1), 9
    )  # fmt: skip
    assert spm.encode("ab abé") == [1, 6, 6, 7, 8]
    assert b"".join(spm.token_bytes(t) for t in spm.encode("ab é")).decode() == " ab é"


@pytest.mark.parametrize(
    "metadata",
    [
        {"model": "bert"},
        {"model": "gpt2", "pre": "strange", "tokens": ["a"], "merges": []},
        {"model": "llama", "tokens": 3},
    ],
    ids=str,
)
def test_gguf_tokenizers_that_are_not_implemented_are_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(PlannerError):
        tokenizer_from_gguf(gguf(**metadata), 300)


MESSAGES = [{"role": "user", "content": "hi"}]


def test_templates_render_with_special_tokens() -> None:
    source = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    assert ChatTemplate(source, {"bos_token": "<s>"}).render(MESSAGES) == "<s><user>hi"
    assert ChatTemplate(None).render(MESSAGES) == "user: hi\nassistant:"


@pytest.mark.parametrize(
    "source",
    ["{{ raise_exception('roles must alternate') }}", "{{ messages.__class__.__mro__ }}", "{{ messages[3].role.x }}",
     "{{ messages.append(1) }}", "{% for i in range(10 ** 9) %}x{% endfor %}"],
)  # fmt: skip
def test_templates_that_fail_or_reach_out_are_request_errors(source: str) -> None:
    with pytest.raises(RequestError, match="chat template refuses"):
        ChatTemplate(source).render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    ["{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
     "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
     "{% for i in range(9999) %}{{ messages[0].content * 99999 }}{% endfor %}", "{{ 'x' * 10 ** 12 }}",
     "{{ 10 ** 12 * ['x'] }}", "{{ 10 ** 99999 }}"],
)  # fmt: skip
def test_templates_that_grow_without_end_are_refused_at_once(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(RequestError, match=r"refuses these messages|is over"):
        ChatTemplate(source).render(MESSAGES)
    assert time.monotonic() - began < 5


def test_templates_may_count_and_repeat() -> None:
    source = "{% for i in range(1, 3) %}{{ '=' * i }}{{ i * 2 }}{{ 2 ** i }}{% endfor %}"
    assert ChatTemplate(source).render(MESSAGES) == "=22==44"


def test_a_broken_template_is_named() -> None:
    with pytest.raises(RequestError, match="cannot be compiled"):
        ChatTemplate("{% if %}")
