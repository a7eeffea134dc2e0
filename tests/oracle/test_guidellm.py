"""A public load generator, guidellm, against the validation engine's server: every request answered, none in error.

guidellm is run as the program on PATH, or the one that PLANNER_GUIDELLM names (it pins many packages, so it lives
best in an environment of its own).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROGRAM = os.environ.get("PLANNER_GUIDELLM") or shutil.which("guidellm")
N_REQUESTS, STREAMS = 24, 4
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="guidellm is not installed (uv tool install guidellm)"),
]


@pytest.mark.parametrize("profile", [f"kind=concurrent,streams={STREAMS}", "kind=synchronous"])
def test_guidellm_loses_nothing(url: str, tmp_path: Path, profile: str) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.json"
    prompts.write_text("".join(json.dumps({"prompt": f"question {i}"}) + "\n" for i in range(N_REQUESTS)))
    assert PROGRAM is not None
    command = [PROGRAM, "run", "--backend", f"kind=openai_http,target={url.removesuffix('/v1')},model=tiny"]
    command += ["--profile", profile, "--constraint", f"kind=max_requests,count={N_REQUESTS}"]
    command += ["--data", f"kind=json_file,path={prompts}", "--output", f"kind=json,path={out}", "--disable-progress"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, env=offline, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    found: dict[str, Any] = json.loads(out.read_text())["benchmarks"][0]["metrics"]
    totals = found["request_totals"]
    assert (totals["successful"], totals["errored"], totals["incomplete"]) == (N_REQUESTS, 0, 0)
    assert found["output_tokens_per_second"]["successful"]["mean"] > 0
