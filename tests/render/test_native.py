"""Units, agents and commands of servers without a container, and the community chart's values."""

from __future__ import annotations

import plistlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import render
from planner.render.native import native
from planner.validate import custom

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)
PRINTED = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, /.ab1é-", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)
PROGRAMS = {"vllm": "/opt/vllm/bin/vllm", "ollama": "/usr/local/bin/ollama", "llamacpp": "/usr/local/bin/llama-server"}


def unit(plan: Any) -> str:
    return render(plan, ["systemd"])["systemd.service"]


def unquote(word: str, *, command: bool) -> str:
    """What systemd makes of one double-quoted word: C escapes, then `%%`, and `$$` on a command line."""
    raw = re.sub(
        rb"\\x([0-9a-f]{2})|\\(.)",
        lambda m: bytes([int(m[1], 16)]) if m[1] else m[2],
        word[1:-1].encode(),
    ).decode()
    raw = raw.replace("%%", "%")
    return raw.replace("$$", "$") if command else raw


def words_of(text: str) -> list[str]:
    """The words after the program of ExecStart."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("ExecStart="))
    found = []
    while lines[start].endswith("\\"):
        start += 1
        found.append(lines[start].removesuffix(" \\").strip())
    return [unquote(word, command=True) if word.startswith('"') else word for word in found]


@pytest.mark.parametrize("engine", ["vllm", "ollama", "llamacpp"])
def test_systemd_accepts_the_unit(make_plan: Any, tmp_path: Path, engine: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on PATH")
    text = unit(make_plan(engine, "cuda", tensor=1)).replace(PROGRAMS[engine], "/bin/true")
    text = re.sub(r"^(User|Group)=ollama$", r"\1=root", text, flags=re.MULTILINE)
    (tmp_path / "llm.service").write_text(text)
    done = subprocess.run(
        [analyze, "verify", str(tmp_path / "llm.service")], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "llm.service" in line]
    assert ours == []


@pytest.mark.parametrize(
    ("engine", "platform"), [("vllm", "cuda"), ("vllm", "rocm"), ("ollama", "cpu"), ("llamacpp", "cuda")]
)
def test_the_unit_carries_the_plan(make_plan: Any, engine: str, platform: str) -> None:
    plan = make_plan(engine, platform, limits={"startup_budget_seconds": 777, "disk_bytes": 10**10})
    text = unit(plan)
    assert words_of(text) == list(native(plan).words)
    assert "TimeoutStartSec=777" in text and "TimeoutStopSec=60" in text and "Restart=on-failure" in text
    assert {"vllm": "docs.vllm.ai", "ollama": "docs.ollama.com", "llamacpp": "llama.cpp"}[engine] in text
    assert "0.0.0.0" not in text
    assert ("SupplementaryGroups=video render" in text) is (platform == "rocm")
    environment = dict(
        unquote(line.partition("=")[2], command=False).split("=", 1)
        for line in text.splitlines()
        if line.startswith("Environment=")
    )
    assert environment["HOME"].startswith("/var/lib/llm-")
    if engine == "ollama":
        assert environment["OLLAMA_NUM_PARALLEL"] == "4" and environment["OLLAMA_HOST"] == "127.0.0.1:11434"


@pytest.mark.parametrize("load_s", [30.0, 600.0])
def test_a_slow_start_is_neither_cut_short_nor_counted_as_a_crash(make_plan: Any, load_s: float) -> None:
    local = {"checkpoint": "/data/model"}
    limits = {"load_seconds": load_s, "startup_budget_seconds": max(120, round(1.5 * load_s))}
    settings = dict(
        line.split("=", 1)
        for line in unit(make_plan("vllm", "cuda", model=local, limits=limits)).splitlines()
        if re.match(r"(StartLimit\w+|TimeoutStartSec|RestartSec)=", line)
    )
    window, crashes, start, pause = (
        int(settings[name]) for name in ("StartLimitIntervalSec", "StartLimitBurst", "TimeoutStartSec", "RestartSec")
    )
    assert start > load_s and crashes * (start + pause) > window
    assert crashes * (15 + pause) < window  # what crashes at once is given up


def test_weights_on_this_machine_are_read_where_they_are(make_plan: Any) -> None:
    plan = make_plan("vllm", "cuda", model={"checkpoint": "/data/my model"})
    assert words_of(unit(plan))[0] == "/data/my model" and "ProtectHome=read-only" in unit(plan)
    plan = make_plan("llamacpp", "cuda", model={"checkpoint": "/data/x.gguf"})
    assert words_of(unit(plan))[:2] == ["--model", "/data/x.gguf"]


@pytest.mark.parametrize(
    ("target", "engine", "platform", "parts", "reason"),
    [
        ("systemd", "tgi", "cuda", {}, "distributed as a container"),
        ("systemd", "vllm", "cuda", {"replicas": 2}, "runs 2 replicas"),
        ("systemd", "ollama", "metal", {}, "use target launchd"),
        ("launchd", "ollama", "cuda", {}, "use target systemd"),
        ("launchd", "vllm", "cuda", {}, "use target systemd"),
        ("llama-server", "vllm", "cuda", {}, "reads GGUF files"),
        ("llama-server", "ollama", "cuda", {"model": {"ollama_tag": "llama3:8b"}}, "tag of Ollama's library"),
        ("systemd", "vllm", "cuda", {"choice": {"name": "nim"}}, "use target nim or nim-operator"),
        ("docker", "vllm", "cuda", {"choice": {"name": "nim"}}, "use target nim or nim-operator"),
        ("compose", "vllm", "cuda", {"choice": {"name": "nim"}}, "use target nim or nim-operator"),
        ("ollama-helm", "vllm", "cuda", {}, "engine is vllm"),
        ("ollama-helm", "ollama", "cuda", {"model": {"served_name": "a; id"}}, "shell command"),
        ("ollama-helm", "ollama", "cuda", {"spec": {"chat_stop": ("$(id)",)}}, "here-document"),
    ],
)
def test_what_does_not_suit_is_refused(
    make_plan: Any, target: str, engine: str, platform: str, parts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        render(make_plan(engine, platform, **parts), [target])


def test_launchd_reads_the_agent(make_plan: Any) -> None:
    files = render(make_plan("ollama", "metal"), ["launchd"])
    agent = plistlib.loads(files["launchd.plist"].encode())
    assert agent["ProgramArguments"][1:] == ["serve"] and agent["KeepAlive"] is True
    assert agent["EnvironmentVariables"]["OLLAMA_CONTEXT_LENGTH"] == "8192"
    assert agent["EnvironmentVariables"]["OLLAMA_HOST"] == "127.0.0.1:11434"
    assert "Modelfile" in files and "ollama-create.sh" in files


def test_a_plan_that_fills_the_mac_says_how_to_give_it_more(make_plan: Any) -> None:
    roomy = make_plan("ollama", "metal", machine={"device": {"usable_memory_bytes": 128 * 2**30}})
    accelerator = roomy.resolved.machine.accelerator.model_copy(update={"usable_memory_bytes": 64 * 2**30})
    machine = roomy.resolved.machine.model_copy(update={"accelerator": accelerator})
    tight = roomy.model_copy(update={"resolved": roomy.resolved.model_copy(update={"machine": machine})})
    assert "iogpu.wired_limit_mb" not in render(roomy, ["launchd"])["launchd.plist"]
    assert "iogpu.wired_limit_mb" in render(tight, ["launchd"])["launchd.plist"]


@pytest.mark.parametrize(("engine", "platform"), [("llamacpp", "cuda"), ("ollama", "cuda"), ("ollama", "metal")])
def test_llama_server_gets_the_planned_words(
    make_plan: Any, recorder: Any, tmp_path: Path, engine: str, platform: str
) -> None:
    recorder.stand_in("llama-server")
    plan = make_plan(engine, platform, model={"served_name": 'a "b" $(id)'})
    script = tmp_path / "llama-server.sh"
    script.write_text(render(plan, ["llama-server"])["llama-server.sh"])
    done = recorder.run(str(script))
    assert done.returncode == 0, done.stderr
    (words,) = recorder.calls("llama-server")
    assert words[words.index("--ctx-size") + 1] == str(8192 * 4) and words[words.index("--parallel") + 1] == "4"
    assert words[words.index("--alias") + 1] == 'a "b" $(id)'
    assert words[-4:] == ["--host", "127.0.0.1", "--port", "8080"]


def test_llama_server_says_what_is_missing(make_plan: Any, recorder: Any, tmp_path: Path) -> None:
    script = tmp_path / "llama-server.sh"
    plan = make_plan("llamacpp", "cuda", model={"checkpoint": "/nowhere/x.gguf"})
    script.write_text(render(plan, ["llama-server"])["llama-server.sh"])
    assert "llama-server is not installed" in recorder.run(str(script)).stderr
    recorder.stand_in("llama-server")
    assert "there is no model file at /nowhere/x.gguf" in recorder.run(str(script)).stderr


@pytest.mark.parametrize("platform", ["cuda", "rocm", "cpu"])
def test_the_community_chart_gets_valid_values(make_plan: Any, platform: str) -> None:
    files = render(make_plan("ollama", platform), ["ollama-helm", "ollama"])
    values = yaml.safe_load(files["ollama-helm.yaml"])
    assert custom.values_problems("ollama-helm", values) == ()
    (created,) = values["ollama"]["models"]["create"]
    assert created == {"name": "llama3.1-8b", "template": files["Modelfile"]}
    assert values["ollama"]["gpu"]["enabled"] is (platform != "cpu")
    assert {"name": "OLLAMA_NUM_PARALLEL", "value": "4"} in values["extraEnv"]


@settings(max_examples=40, deadline=None)
@given(NASTY, NASTY)
def test_hostile_names_stay_one_word_of_the_unit(make_plan: Any, checkpoint: str, served: str) -> None:
    plan = make_plan("vllm", "cuda", model={"checkpoint": "x" + checkpoint, "served_name": served})
    text = unit(plan)
    assert words_of(text) == list(native(plan).words)
    assert [line for line in text.splitlines() if line.startswith(("Exec", "["))] == [
        "[Unit]",
        "[Service]",
        next(line for line in text.splitlines() if line.startswith("ExecStart=")),
        next(line for line in text.splitlines() if line.startswith("ExecStartPost=")),
        "[Install]",
    ]


@settings(max_examples=30, deadline=None)
@given(PRINTED)
def test_hostile_names_stay_text_of_the_agent(make_plan: Any, served: str) -> None:
    plan = make_plan("ollama", "metal", model={"served_name": served, "checkpoint": "x/" + served})
    agent = plistlib.loads(render(plan, ["launchd"])["launchd.plist"].encode())
    assert set(agent["EnvironmentVariables"]) == set(native(plan).environment)
