"""Lengths of requests come from a name or a file; what is wrong with either is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import UsageError
from planner.sources.lengths import MOST_SAMPLES, length_fields, read_lengths


def test_names_become_fields() -> None:
    assert length_fields("fixed") == {"length_distribution": "fixed"}
    assert length_fields("lognormal:0.8") == {"length_distribution": "lognormal", "length_variation": 0.8}
    assert length_fields("uniform") == {"length_distribution": "uniform"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "input_tokens,output_tokens\n100,20\n300,40\n"),
        ("azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nx,100,20\ny,300,40\n"),
        ("usage.jsonl", '{"prompt_tokens": 100, "completion_tokens": 20}\n\n{"input_len": 300, "output_len": 40}\n'),
    ],
)
def test_files_of_requests_give_their_lengths_and_means(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    fields = length_fields(str(tmp_path / name))
    assert fields["length_samples"] == ((100, 20), (300, 40))
    assert (fields["input_tokens"], fields["output_tokens"]) == (200, 30)


def test_a_long_file_is_kept_as_its_quantiles_with_the_means_of_all(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("input_tokens,output_tokens\n" + "".join(f"{i},{i}\n" for i in range(1, 5001)), encoding="utf-8")
    assert len(read_lengths(path)) == 5000
    fields = length_fields(str(path))
    kept = [i for i, _ in fields["length_samples"]]
    assert len(kept) == MOST_SAMPLES and fields["input_tokens"] == 2500
    assert sum(kept) / len(kept) == pytest.approx(2500.5, rel=0.01)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "a,b\n1,2\n", "request 1: needs whole numbers input_tokens"),
        ("a.csv", "input_tokens,output_tokens\n1,0\n", "at least 1 token"),
        ("a.csv", "input_tokens,output_tokens\n1,x\n", "request 1"),
        ("a.csv", "input_tokens,output_tokens\n", "holds no requests"),
        ("a.jsonl", '{"input_tokens": 5\n', "line 1: not JSON"),
        ("a.jsonl", "[1, 2]\n", "request 1"),
    ],
)
def test_a_broken_file_is_named_with_its_place(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        length_fields(str(tmp_path / name))


@pytest.mark.parametrize("text", ["normal:1", "uniform:wide", "lengths.txt", "gone.csv"])
def test_an_unknown_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="lengths"):
        length_fields(text)
