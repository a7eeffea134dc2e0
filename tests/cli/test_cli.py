"""What a person sees: exit codes, one clear line for a mistake, JSON alone on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


def planner(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "planner", *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


HOSTILE_MODELS = {
    "empty": "",
    "spaces": "   ",
    "command substitution": "$(rm -rf ~)",
    "quotes": "a'b\"c",
    "newline": "llama3-8b\nrm -rf /",
    "climbing": "../../etc/passwd",
    "absolute": "/etc",
    "template": "{{ 7*7 }}",
    "nul-like": "a\\x00b",
    "long": "m" * 10_000,
}


@pytest.mark.parametrize("model", HOSTILE_MODELS.values(), ids=HOSTILE_MODELS.keys())
def test_a_hostile_model_is_refused_in_one_line(model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = planner("recommend", "--model", model, "--gpus", "2xA100", "--save-dir", str(out))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not out.exists()


WRONG = {
    "tp 3": (["--gpus", "4xA100", "--tp", "3"], "tensor parallel 3"),
    "context": (["--gpus", "2xA100", "--max-model-len", "1000000"], "8,192"),
    "long request": (["--gpus", "2xA100", "--isl", "100000"], "8,192"),
    "unknown gpu": (["--gpus", "2xA1000"], "A100"),
    "zero gpus": (["--gpus", "0xA100"], "0"),
    "negative concurrency": (["--gpus", "2xA100", "--concurrency", "-4"], "concurrency"),
    "negative isl": (["--gpus", "2xA100", "--isl", "-1"], "--isl"),
    "utilization": (["--gpus", "2xA100", "--gpu-memory-utilization", "1.5"], "--gpu-memory-utilization"),
    "unknown engine": (["--gpus", "2xA100", "--engine", "vlm"], "vllm"),
    "unknown quantization": (["--gpus", "2xA100", "-q", "awqq"], "awq"),
    "unknown kv dtype": (["--gpus", "2xA100", "--kv-cache-dtype", "fp7"], "fp8"),
    "unknown requirement": (["--gpus", "2xA100", "--require", "magic"], "require"),
    "tpu": (["--gpus", "8xTPU-v5e"], "TPU"),
    "ram without unit": (["--gpus", "cpu", "--ram", "48"], "48"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_names_itself_and_its_limit(arguments: list[str], says: str) -> None:
    done = planner("recommend", "--model", "llama3-70b", *arguments)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    line = done.stderr.strip()
    assert len(line.splitlines()) == 1, line
    assert says in line


def test_a_misspelt_model_is_told_the_nearest() -> None:
    done = planner("recommend", "--model", "lama3-70b", "--gpus", "2xA100")
    assert done.returncode == 2
    assert "llama3:70b" in done.stderr


BAD_REQUESTS = {
    "not yaml": "model: [",
    "list": "- model",
    "unknown key": "model: llama3-8b\ngpus: 1xH100\nspeed: fast\n",
    "wrong type": "model: llama3-8b\ngpus: 1xH100\nconcurrency: many\n",
    "alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nmodel: *b\n",
    "empty": "",
}


@pytest.mark.parametrize("text", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_malformed_request_file_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "request.yaml"
    path.write_text(text, encoding="utf-8")
    done = planner("recommend", "-f", str(path))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


BAD_PLANS = {
    "not yaml": "best: [1",
    "no plan": "foo: 1\n",
    "empty": "",
    "later": "schema_version: 99\n",
    "missing": None,
}
AT = ("--url", "http://127.0.0.1:9")
PLAN_VERBS: list[list[str]] = [["generate"], ["explain"], ["simulate"], ["calibrate", *AT], ["probe", *AT, "--plan"]]


@pytest.mark.parametrize(
    ("verb", "text"),
    [(["validate"], text) for text in BAD_PLANS.values()] + [(verb, "best: [1") for verb in PLAN_VERBS],
)
def test_a_bad_plan_file_is_one_line_and_exit_2(verb: list[str], text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    done = planner(*verb, str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1 and "plan.yaml" in done.stderr, done.stderr


def test_a_request_file_and_flags_give_the_same_plan(tmp_path: Path) -> None:
    path = tmp_path / "request.yaml"
    path.write_text("model: llama3-8b\ngpus: 1xH100\nconcurrency: 8\n", encoding="utf-8")
    from_file = planner("recommend", "-f", str(path), "-o", "json")
    from_flags = planner("recommend", "-m", "llama3-8b", "--gpus", "1xH100", "-c", "8", "-o", "json")
    assert from_file.returncode == 0, from_file.stderr
    assert from_file.stdout == from_flags.stdout


def test_json_stands_alone_on_stdout_and_is_the_plan() -> None:
    done = planner("recommend", "--model", "llama3-70b", "--gpus", "2xA100", "-o", "json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert {"request", "best", "alternatives", "rejected", "trace", "assumptions", "cautions", "artifacts"} <= set(plan)
    best = plan["best"]
    assert best["engine"]["name"] == "vllm"
    assert best["memory"]["fits"] is True
    assert sum(row["bytes"] for row in best["memory"]["rows"]) == best["memory"]["device_bytes"]


def test_an_infeasible_request_exits_1_with_a_ladder_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = planner("recommend", "-m", "llama3-70b", "--gpus", "1xT4", "-o", "json", "--save-dir", str(out))
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["remedies"]
    assert all(r["command"].startswith("planner recommend ") for r in answer["remedies"])
    assert not out.exists()
    as_yaml = planner("recommend", "-m", "llama3-70b", "--gpus", "1xT4", "-o", "yaml")
    assert (as_yaml.returncode, yaml.safe_load(as_yaml.stdout)) == (1, answer)


def test_an_unwritable_folder_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("mine", encoding="utf-8")
    done = planner("recommend", "-m", "llama3-8b", "--gpus", "1xH100", "--save-dir", str(blocker / "out"))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert blocker.read_text(encoding="utf-8") == "mine"


def test_the_same_request_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        done = planner("recommend", "-m", "llama3-70b", "--gpus", "2xA100", "--save-dir", str(folder))
        assert done.returncode == 0, done.stderr
    first, second = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders)
    assert first == second
    assert {str(p) for p in first} >= {"docker-run.sh", "compose.yaml", "k8s.yaml", "plan.yaml", "PLAN.md", "bench.sh"}


def test_generate_needs_only_the_plan_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert planner("recommend", "-m", "llama3-8b", "--gpus", "1xH100", "--save-dir", str(out)).returncode == 0
    again = tmp_path / "again"
    done = planner("generate", str(out / "plan.yaml"), "--save-dir", str(again))
    assert done.returncode == 0, done.stderr
    for path in out.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(out)).read_bytes()


def test_explain_tells_the_rule_and_the_runner_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert planner("recommend", "-m", "llama3-70b", "--gpus", "2xA100", "--save-dir", str(out)).returncode == 0
    done = planner("explain", str(out / "plan.yaml"))
    assert done.returncode == 0
    assert "vllm-" in done.stdout
    assert "runner-up" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("models", "list"), ("models", "show", "llama3-70b"), ("hardware", "list", "A100"),
        ("hardware", "show", "2xA100"), ("hardware", "show", "cpu:epyc-9654"), ("engines", "list"),
        ("engines", "show", "vllm"), ("engines", "show", "vllm", "0.26"), ("generate", "--list"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_catalogs_can_be_looked_at(arguments: tuple[str, ...]) -> None:
    for form in ("table", "json", "yaml"):
        done = planner(*arguments, "-o", form)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_estimate_exits_1_when_it_does_not_fit() -> None:
    done = planner("estimate", "-m", "llama3-8b", "--gpus", "1xT4", "--engine", "vllm", "-q", "fp16", "-o", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["configuration"]["memory"]["fits"] is False


@pytest.mark.parametrize("gpus", ["2xA100", "1xM3-Max-64GB", "cpu"])
def test_the_plan_lists_exactly_the_files_that_are_written(gpus: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = planner("recommend", "-m", "llama3-8b", "--gpus", gpus, "--save-dir", str(out), "-o", "json")
    assert done.returncode == 0, done.stderr
    written = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and not p.name.startswith(".")}
    assert set(json.loads(done.stdout)["artifacts"]) == written


NUMBERS = {
    "infinite": (["--ttft", "inf"], "--ttft: must be a finite number, not inf"),
    "zero": (["--concurrency", "0"], "--concurrency: must be at least 1, not 0"),
    "too many": (["--isl", "99999999999"], "--isl: must be at most 16777216"),
    "misspelt requirement": (["--require", "grammer"], "nearest: grammar"),
    "misspelt policy": (["--policy", "maintain"], "nearest: maintained"),
    "version of the future": (["--engine", "vllm", "--engine-version", "9.9.9"], "catalogued: 0.33.0, 0.26.0"),
    "version of no engine": (["--engine-version", "0.33.0"], "--engine-version needs --engine"),
}


@pytest.mark.parametrize(("arguments", "says"), NUMBERS.values(), ids=NUMBERS.keys())
def test_a_value_out_of_range_is_told_its_limit_in_plain_words(arguments: list[str], says: str) -> None:
    done = planner("recommend", "-m", "llama3-8b", "--gpus", "1xA100", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_version_between_catalogued_lines_is_said_to_be_planned_as_another() -> None:
    done = planner("recommend", "-m", "llama3-8b", "--gpus", "1xA100", "--engine", "vllm", "--engine-version", "0.12.0",
                   "-o", "json")  # fmt: skip
    plan = json.loads(done.stdout)
    version = plan["best"]["engine"]["version"]
    assert version != "0.12.0"
    assert f"vllm 0.12.0 is not catalogued; planned as {version}, image and flags included" in plan["assumptions"]
    same = planner("recommend", "-m", "llama3-8b", "--gpus", "1xA100", "--engine", "vllm", "--engine-version", "0.26.1",
                   "-o", "json")  # fmt: skip
    assert not [line for line in json.loads(same.stdout)["assumptions"] if "not catalogued" in line]


def test_lists_are_numbers_for_programs_and_rows_for_people() -> None:
    models = json.loads(planner("models", "list", "llama3.3", "-o", "json").stdout)
    assert models[0]["parameters"] > 70e9 and "llama3.3" in models[0]["aliases"]
    cards = json.loads(planner("hardware", "list", "h100", "-o", "json").stdout)
    assert all(card["memory_bytes"] > 70e9 and card["plannable"] for card in cards)
    refused = json.loads(planner("hardware", "list", "tpu", "-o", "json").stdout)
    assert all(not card["plannable"] and card["refused_because"] for card in refused)
    shown = planner("hardware", "list", "h100").stdout
    assert "memory GiB" in shown and "refused because" not in shown


def test_a_list_of_nothing_says_so() -> None:
    done = planner("models", "list", "no-such-model")
    assert (done.returncode, done.stdout) == (0, "")
    assert "'no-such-model'" in done.stderr


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=["NO_COLOR", "dumb", "pipe"])
def test_a_pipe_gets_no_escape_sequences(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = planner("recommend", "-m", "llama3-8b", "--gpus", "1xH100")
    assert "\x1b" not in done.stdout + done.stderr


def test_calibrating_on_an_endpoint_that_is_not_there_says_that(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert planner("recommend", "-m", "llama3-8b", "--gpus", "1xH100", "--save-dir", str(out)).returncode == 0
    done = planner("calibrate", str(out), "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be reached, nothing is kept" in done.stderr
