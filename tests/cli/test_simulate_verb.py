"""`planner simulate`: the table, the JSON, the flags of a load, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import planner
from planner.cli.main import application
from planner.errors import UsageError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    planner.recommend("llama3-8b", "1xH100", ttft_ms=1000, itl_ms=30).save(folder)
    return folder


def run(*words: str) -> str:
    result = CliRunner().invoke(application("simulate"), ["simulate", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_shows_percentiles_the_queue_and_what_gives_way(saved: Path) -> None:
    text = run(str(saved), "--concurrency", "12", "--duration", "60")
    for words in ("12 users", "p90", "ITL ms", "in the queue", "KV cache in use", "holds up to", "gives way"):
        assert words in text


def test_the_json_holds_the_load_the_figures_and_the_capacity(saved: Path) -> None:
    data = json.loads(run(str(saved), "--request-rate", "3", "--lengths", "uniform:0.4", "--seed", "7", "-o", "json"))
    assert (data["workload"]["arrival"], data["workload"]["request_rate"]) == ("poisson", 3.0)
    assert (data["workload"]["distribution"], data["workload"]["variation"], data["workload"]["seed"]) == (
        "uniform",
        0.4,
        7,
    )
    assert data["performance"]["requests_per_s"]["value"] == pytest.approx(3)
    assert data["capacity"]["users"] > 1 and data["capacity"]["requests_per_s"] > 3


def test_answers_of_one_token_show_a_dash_for_itl(saved: Path) -> None:
    text = run(str(saved), "--osl", "1", "--concurrency", "4")
    line = next(line for line in text.splitlines() if line.startswith("ITL"))
    assert line.split() == ["ITL", "ms", "–", "–", "–", "–"]


def test_drafts_and_a_prefix_are_said(saved: Path) -> None:
    text = run(str(saved), "--shared-prefix", "700", "--speculative-tokens", "3", "--acceptance-rate", "0.6")
    assert "700 of them shared" in text and "60% accepted" in text and "inherited" in text


@pytest.mark.parametrize("words", [("--lengths", "normal"), ("--isl", "100000"), ("--shared-prefix", "5000")])
def test_a_wrong_load_is_a_usage_error(words: tuple[str, str], saved: Path) -> None:
    with pytest.raises(UsageError):
        run(str(saved), *words)
