"""`python -m planner.engine` serves a checkpoint, says what it allocated, and ends on a signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from planner.engine.__main__ import main
from tests.engine.checkpoints import LLAMA, random_weights, save_checkpoint, save_gguf


def test_a_gguf_file_is_served_until_interrupted(tmp_path: Path) -> None:
    path = save_gguf(tmp_path / "tiny.gguf", LLAMA, random_weights(LLAMA), "F16")
    command = [sys.executable, "-m", "planner.engine", "--model", str(path), "--port", "0", "--max-model-len", "64"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first, second = process.stdout.readline(), process.stdout.readline()
            assert first.startswith("tiny: weights ") and "(1024 tokens)" in first
            body = json.dumps({"prompt": "x", "max_tokens": 4, "ignore_eos": True}).encode()
            with urllib.request.urlopen(second.split()[-1] + "/v1/completions", body, timeout=20) as answer:
                assert json.load(answer)["usage"]["completion_tokens"] == 4
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_a_signal_cuts_no_stream_off(tmp_path: Path) -> None:
    path = save_gguf(tmp_path / "tiny.gguf", LLAMA, random_weights(LLAMA), "F16")
    command = [sys.executable, "-m", "planner.engine", "--model", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, ThreadPoolExecutor(8) as pool:
        try:
            assert process.stdout is not None
            url = [process.stdout.readline() for _ in range(2)][1].split()[-1]
            body = {"prompt": "x", "max_tokens": 100, "ignore_eos": True, "stream": True}
            started = Barrier(9)

            def stream(_: int) -> list[str]:
                with urllib.request.urlopen(url + "/v1/completions", json.dumps(body).encode(), timeout=20) as answer:
                    first = answer.readline().decode()
                    started.wait(20)
                    return [first, *(line.decode() for line in answer)]

            streams = [pool.submit(stream, i) for i in range(8)]
            started.wait(20)
            process.send_signal(signal.SIGTERM)
            assert [s.result()[-2:] for s in streams] == [["data: [DONE]\n", "\n"]] * 8
            assert process.wait(20) == 0
            with pytest.raises(OSError, match="refused"):
                urllib.request.urlopen(url + "/health", timeout=5)
        finally:
            process.kill()


def test_a_mistake_is_one_line(tmp_path: Path, capsys: object) -> None:
    save_checkpoint(tmp_path, LLAMA | {"model_type": "lama"}, {})
    assert main(["--model", str(tmp_path)]) == 2
    assert main(["--model", str(tmp_path / "none")]) == 2
