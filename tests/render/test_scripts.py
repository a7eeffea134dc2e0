"""Every script of every target through shellcheck, for plans whose scripts differ."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from planner.render import targets
from planner.sources.recipes import made_path

SITE = {"request": {"site": {"registry": "mirror.example/x", "ca_bundle": "/etc/a b.pem"}}}
LOCAL = {"model": {"checkpoint": './it\'s, "m".gguf'}}
MADE = {"model": {"checkpoint": made_path("meta-llama/Llama-3.1-8B-Instruct", "awq")}, "quantization": "awq"}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("vllm", "cuda", {}),
    ("vllm", "cuda", SITE),
    ("vllm", "cuda", MADE),
    ("vllm", "cuda", {"choice": {"plugin": "vllm-bnb-plugin"}, "image": {"user": 2000}}),
    ("vllm", "cuda", {"replicas": 2, "model": {"gated": None}}),
    ("vllm", "rocm", {}),
    ("vllm", "gaudi", {}),
    ("tgi", "cuda", {"request": {"request_rate": 2.5}}),
    ("ollama", "cuda", LOCAL),
    ("ollama", "metal", {}),
    ("llamacpp", "cuda", LOCAL),
    ("llamacpp", "cuda", {"quantization": "gguf:IQ2_XXS"}),
]


@pytest.mark.parametrize(("engine", "platform", "parts"), CASES)
def test_shellcheck_finds_nothing(
    make_plan: Any, shellcheck: str, tmp_path: Path, engine: str, platform: str, parts: dict[str, Any]
) -> None:
    plan = make_plan(engine, platform, **parts)
    scripts: dict[str, str] = {}
    for target in targets():
        if target.supports(plan) is None:
            scripts |= {p: text for p, text in target.render(plan, (target.slug,)).items() if p.endswith(".sh")}
    assert "bench.sh" in scripts and len(scripts) > 1
    for path, text in scripts.items():
        (tmp_path / path).write_text(text, encoding="utf-8")
    words = [shellcheck, *(str(tmp_path / path) for path in scripts)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
