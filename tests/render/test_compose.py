"""compose.yaml through the real Docker Compose: what it resolves to is what was planned."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.render import default_files, render
from planner.render.launch import plan_launch
from planner.spec.plan import Plan

NASTY = st.text(alphabet="'\"\\`$(){}[]<>|&;#!*?~%:, \n/.ab1é", min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and not text.startswith("-")
)


def resolve(tool: str, plan: Plan, folder: Path, **environment: str) -> dict[str, Any]:
    """The model that `docker compose config` makes of the file."""
    folder.mkdir(exist_ok=True, parents=True)
    for path, text in render(plan, ["compose"]).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "hf_token.txt").write_text("x")
    done = subprocess.run(
        [tool, "--file", str(folder / "compose.yaml"), "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "IMAGE": "vault/vllm@sha256:" + "0" * 64, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    # this build of Compose exits 0 on errors too: what counts is that it printed a model
    assert done.returncode == 0 and done.stdout, done.stderr
    model: dict[str, Any] = json.loads(done.stdout)
    return model


def unescaped(words: list[str] | None) -> list[str]:
    """`config` prints dollars doubled so that its output can be read again."""
    return [word.replace("$$", "$") for word in words or []]


def test_compose_accepts_it(any_plan: Plan, docker_compose: str, tmp_path: Path) -> None:
    if any_plan.best.engine.platform == "metal":
        with pytest.raises(UsageError):
            render(any_plan, ["compose"])
        return
    model = resolve(docker_compose, any_plan, tmp_path / "out")
    server = model["services"]["server"]
    launch = plan_launch(any_plan)
    assert unescaped(server["command"]) == list(launch.args)
    assert server["restart"] == "unless-stopped" and server["init"] is True
    assert server["logging"]["options"]["max-size"] == "50m"
    assert server["stop_grace_period"] == "1m0s"
    assert [(p["host_ip"], p["target"]) for p in server["ports"]] == [("127.0.0.1", launch.port)]
    assert server["healthcheck"]["start_period"] == "15m5s"
    assert unescaped(server["healthcheck"]["test"]) == ["CMD", *launch.healthcheck]
    assert {v["type"] for v in server["volumes"]} <= {"volume", "bind"}
    if launch.ipc_host:
        assert server["ipc"] == "host"
    else:
        assert int(server["shm_size"]) == any_plan.best.limits.shm_bytes


def test_devices_are_reserved_by_count(make_plan: Any, docker_compose: str, tmp_path: Path) -> None:
    server = resolve(docker_compose, make_plan("vllm", "cuda", tensor=4), tmp_path / "out")["services"]["server"]
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 4, "capabilities": ["gpu"]}


def test_replicas_have_their_own_devices(make_plan: Any, docker_compose: str, tmp_path: Path) -> None:
    services = resolve(docker_compose, make_plan("vllm", "cuda", replicas=2), tmp_path / "out")["services"]
    ids = [services[f"server-{i}"]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for i in range(2)]
    assert ids == [["0", "1"], ["2", "3"]]
    assert [services[f"server-{i}"]["ports"][0]["published"] for i in range(2)] == ["8000", "8001"]


def test_a_gated_models_token_is_a_secret_file(make_plan: Any, docker_compose: str, tmp_path: Path) -> None:
    model = resolve(docker_compose, make_plan("vllm", "cuda"), tmp_path / "out")
    server = model["services"]["server"]
    assert server["secrets"][0]["source"] == "hf_token"
    assert model["secrets"]["hf_token"]["file"].endswith("/hf_token.txt")
    assert "HF_TOKEN" not in (server.get("environment") or {})


def test_the_token_reader_exports_the_file_and_becomes_the_engine(bash: str, tmp_path: Path) -> None:
    from planner.render.artifacts.compose import READ_TOKEN

    secret = tmp_path / "token"
    secret.write_text("s3cr3t\n")
    script = READ_TOKEN.replace("/run/secrets/hf_token", str(secret))
    words = ["/bin/sh", "-c", script, "sh", "/bin/sh", "-c", 'echo "$HF_TOKEN|$1"', "x", "a b"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "s3cr3t|a b\n"


def test_an_unknown_models_token_passes_through_when_set(make_plan: Any, docker_compose: str, tmp_path: Path) -> None:
    plan = make_plan("vllm", "cuda", model={"gated": None})
    unset = resolve(docker_compose, plan, tmp_path / "a")["services"]["server"]
    given_ = resolve(docker_compose, plan, tmp_path / "b", HF_TOKEN="x")["services"]["server"]
    assert not (unset.get("environment") or {}).get("HF_TOKEN") and given_["environment"]["HF_TOKEN"] == "x"


def test_a_floating_tag_needs_a_digest(make_plan: Any, docker_compose: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="set IMAGE to vault"):
        resolve(docker_compose, make_plan("vllm", "gaudi"), tmp_path / "out", IMAGE="")


def test_ollama_creates_the_model_on_a_healthy_server(make_plan: Any, docker_compose: str, tmp_path: Path) -> None:
    services = resolve(docker_compose, make_plan("ollama", "cuda"), tmp_path / "out")["services"]
    create = services["create-server"]
    assert create["depends_on"]["server"]["condition"] == "service_healthy"
    assert create["environment"] == {"MODEL": "llama3.1-8b", "OLLAMA_HOST": "http://server:11434"}
    assert unescaped(create["entrypoint"])[2].startswith('ollama create "$MODEL"')


def test_a_user_that_is_not_root_waits_for_its_volumes(make_plan: Any, docker_compose: str, tmp_path: Path) -> None:
    services = resolve(docker_compose, make_plan("vllm", "cuda", image={"user": 2000}), tmp_path / "out")["services"]
    assert services["server"]["user"] == "2000:0"
    assert services["server"]["depends_on"]["volumes-owner"]["condition"] == "service_completed_successfully"
    assert services["volumes-owner"]["entrypoint"][:3] == ["chown", "-R", "2000:0"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NASTY, NASTY)
def test_hostile_names_arrive_as_one_word(
    make_plan: Any, docker_compose: str, tmp_path: Path, checkpoint: str, served: str
) -> None:
    plan = make_plan("vllm", "cuda", model={"checkpoint": "x" + checkpoint, "served_name": served, "gated": True})
    server = resolve(docker_compose, plan, tmp_path / "out")["services"]["server"]
    assert unescaped(server["command"]) == list(plan_launch(plan).args)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NASTY)
def test_hostile_paths_are_mounted_as_they_are(make_plan: Any, docker_compose: str, tmp_path: Path, path: str) -> None:
    plan = make_plan("vllm", "cuda", model={"checkpoint": "/data/x" + path + "x", "gated": None})
    volumes = resolve(docker_compose, plan, tmp_path / "out")["services"]["server"]["volumes"]
    (bind,) = [volume for volume in volumes if volume["type"] == "bind"]
    assert os.path.normpath(bind["source"].replace("$$", "$")) == os.path.normpath("/data/x" + path + "x")
    assert bind["target"] == "/models/model" and bind["read_only"] is True


# --- the monitoring profile ----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["vllm", "tgi"])
def test_the_profile_mounts_what_is_written(make_plan: Any, docker_compose: str, tmp_path: Path, engine: str) -> None:
    plan = make_plan(engine, "cuda", replicas=2)
    out = tmp_path / "out"
    files = render(plan, ["compose"])
    for path, text in files.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text(text)
    assert not {"prometheus", "grafana"} & set(resolve(docker_compose, plan, tmp_path / "plain")["services"])
    with_profile = subprocess.run(
        [docker_compose, "--file", str(out / "compose.yaml"), "--profile", "monitoring", "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": str(out)},
        capture_output=True,
        text=True,
        check=True,
    )
    services = json.loads(with_profile.stdout)["services"]
    for name in ("prometheus", "grafana"):
        for volume in services[name]["volumes"]:
            if volume["type"] == "bind":
                assert Path(volume["source"]).relative_to(out).as_posix() in files
        assert not services[name].get("ports") or services[name]["ports"][0]["host_ip"] == "127.0.0.1"
    scraped = yaml.safe_load(files["monitoring/prometheus.yaml"])["scrape_configs"][0]["static_configs"][0]["targets"]
    assert [target.split(":")[0] for target in scraped] == [name for name in services if name.startswith("server-")]


@pytest.mark.parametrize("engine", ["vllm", "tgi"])
def test_the_dashboard_shows_the_engines_own_metrics_beside_the_plan(make_plan: Any, engine: str) -> None:
    plan = make_plan(engine, "cuda")
    files = render(plan, ["compose"])
    board = json.loads(files["monitoring/dashboard.json"])
    source = yaml.safe_load(files["monitoring/datasource.yaml"])["datasources"][0]["uid"]
    assert len(board["panels"]) >= 4
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]}
    assert len(places) == len({p["id"] for p in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == source
        assert all(engine in target["expr"] for target in panel["targets"])
    queue = [t["expr"] for p in board["panels"] for t in p["targets"]]
    assert any(str(plan.resolved.engine.queue_metric) in expression for expression in queue)
    running = board["panels"][0]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert running[1]["value"] == plan.best.limits.max_num_seqs


@pytest.mark.parametrize("engine", ["ollama", "llamacpp"])
def test_an_engine_without_metrics_has_no_profile(make_plan: Any, engine: str) -> None:
    files = render(make_plan(engine, "cuda"), ["compose"])
    assert "grafana" not in files["compose.yaml"] and not any(path.startswith("monitoring/") for path in files)


def test_a_plan_lists_the_files_of_the_profile(make_plan: Any) -> None:
    plan = make_plan()
    assert default_files(plan) == tuple(sorted(render(plan)))
