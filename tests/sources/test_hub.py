"""The Hub over its real protocol: ranges, redirects, tokens, faults, the cache and the way back to the catalog."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import planner
from planner.errors import FormatError, NetworkError, UnknownNameError, UsageError
from planner.estimate.weights import PLAIN, weight_bytes
from planner.sources import network
from planner.sources.models import resolve_model

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repo(site: Any, workshop: Any, tmp_path: Path) -> Any:
    """org/tuned: a small Llama in two shards with an index."""
    names = list(workshop.llama_tensors().items())
    halves = {"model-00001-of-00002.safetensors": dict(names[:9]), "model-00002-of-00002.safetensors": dict(names[9:])}
    files: dict[str, bytes | Path] = {"config.json": json.dumps(workshop.llama_config).encode()}
    for file, part in halves.items():
        workshop.safetensors(tmp_path / file, part)
        files[file] = tmp_path / file
    weight_map = {name: file for file, part in halves.items() for name in part}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    site.repos["org/tuned"] = found = workshop.repo(files)
    return found


def test_weights_are_exact_and_the_commit_is_pinned(catalog: Catalog, site: Any, repo: Any, workshop: Any) -> None:
    model, note = resolve_model(catalog, "org/tuned")
    data = sum(2 * n for n in (_elements(s) for _, s in workshop.llama_tensors().values()))
    assert weight_bytes(model, catalog.format("bf16"), rules=PLAIN) == data
    assert (model.id, model.revision, model.license, model.gated) == ("org/tuned", COMMIT, "apache-2.0", False)
    checkpoint = model.checkpoints[0]
    assert (checkpoint.repo, checkpoint.revision) == ("org/tuned", COMMIT)
    assert checkpoint.size_bytes == sum(c.stat().st_size for c in repo.files.values() if isinstance(c, Path))
    assert note is not None and "org/tuned at commit 0123456789ab" in note


def _elements(shape: tuple[int, ...]) -> int:
    n = 1
    for k in shape:
        n *= k
    return n


def test_only_headers_travel_and_the_token_stays_with_its_host(
    catalog: Catalog, site: Any, repo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    repo.gated = "manual"
    resolve_model(catalog, "org/tuned")
    assert all(h["authorization"] == "Bearer hf_right" for h in site.seen("/resolve/"))
    cdn = site.seen("/cdn/")
    assert len(cdn) == 2
    assert all("authorization" not in h and h["range"] == "bytes=0-262143" for h in cdn)


def test_a_commit_seen_before_costs_one_question_and_works_offline(
    catalog: Catalog, site: Any, repo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = resolve_model(catalog, "org/tuned")
    site.log.clear()
    assert resolve_model(catalog, "org/tuned")[0] == first
    assert [path.partition("?")[0] for path, _ in site.log] == ["/api/models/org/tuned"]
    site.log.clear()
    monkeypatch.setenv("PLANNER_OFFLINE", "1")
    model, note = resolve_model(catalog, "org/tuned")
    assert model == first and note is not None and note.endswith("as remembered (offline)")
    assert not site.log


@pytest.mark.parametrize("variable", ["PLANNER_OFFLINE", "HF_HUB_OFFLINE", None])
def test_offline_never_touches_the_network(
    catalog: Catalog, site: Any, repo: Any, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was touched"))
    with pytest.raises(UnknownNameError, match=r"the Hub was not asked \(offline\)"):
        resolve_model(catalog, "org/tuned", offline=variable is None)
    model, note = resolve_model(catalog, "mirror/Meta-Llama-3-8B-Instruct", offline=variable is None)
    assert model.id == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert note is not None and "has the same name: the Hub was not asked (offline)" in note


def test_a_catalogued_model_asks_nobody(catalog: Catalog, site: Any) -> None:
    assert resolve_model(catalog, "meta-llama/Meta-Llama-3-8B-Instruct")[1] is None
    assert not site.log


@pytest.mark.parametrize("name", ["org/tuned@nope", "org/tuned@v2.0", "org/tuned@refs/pr/7"])
def test_a_revision_that_is_not_there_is_said_with_those_that_are(
    catalog: Catalog, site: Any, repo: Any, workshop: Any, name: str
) -> None:
    repo.branches = ("main", "v1.0")
    revision = name.partition("@")[2]
    said = rf"unknown revision '{revision}'.*org/tuned has no such branch, tag or commit; it has main, v1.0"
    with pytest.raises(UnknownNameError, match=said):
        resolve_model(catalog, name)
    site.faults.append(workshop.fault("tuned/refs", "500"))
    with pytest.raises(UnknownNameError, match="has no such branch, tag or commit"):
        resolve_model(catalog, name)


def test_a_branch_is_pinned_by_its_commit(catalog: Catalog, repo: Any) -> None:
    repo.branches = ("main", "refs/pr/7")
    assert resolve_model(catalog, "org/tuned@refs/pr/7")[0].revision == COMMIT


def test_a_catalogued_model_with_a_revision_is_asked_for_and_keeps_what_the_catalog_knows(
    catalog: Catalog, site: Any, workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalog.model("qwen3-8b")
    head, size = workshop.safetensors_header(workshop.llama_tensors())
    files = {"config.json": json.dumps(workshop.llama_config).encode(), "model.safetensors": head + b"\0" * size}
    site.repos[known.id] = workshop.repo(files)
    model, note = resolve_model(catalog, "qwen3-8b@main")
    assert (model.id, model.revision, model.hidden_size) == (known.id, COMMIT, 64)
    assert note is not None and f"at commit {COMMIT[:12]}" in note
    assert {(c.repo, c.ollama_tag) for c in known.checkpoints} <= {(c.repo, c.ollama_tag) for c in model.checkpoints}
    assert (model.aliases, model.chat_stop, model.family) == (known.aliases, known.chat_stop, known.family)
    plan = planner.recommend("qwen3-8b@main", "1xL4").plan
    assert plan.best.model.revision == COMMIT == plan.resolved.model.revision
    monkeypatch.setenv("PLANNER_OFFLINE", "1")
    monkeypatch.setenv("PLANNER_CACHE_DIR", "/nonexistent")
    model, note = resolve_model(catalog, "qwen3-8b@main")
    assert model == known and note is not None and "not asked (offline); revision main is not checked" in note


def test_a_catalog_alias_imports_no_live_source() -> None:
    code = (
        "import sys\n"
        "from planner.sources.catalog import load\n"
        "from planner.sources.models import resolve_model\n"
        "from planner.sources.machines import resolve_machine\n"
        "resolve_model(load(), 'llama3-8b'); resolve_machine(load(), '2xA100')\n"
        "live = ('hub', 'local', 'ollama', 'detect', 'network', 'checkpoint', 'gguf_model', 'derived')\n"
        "found = {f'planner.sources.{n}' for n in live} | {'huggingface_hub', 'urllib.request', 'http.client'}\n"
        "sys.exit(', '.join(sorted(found & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_network_failure_falls_back_and_says_so(catalog: Catalog, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    model, note = resolve_model(catalog, "mirror/Meta-Llama-3-8B-Instruct")
    assert model.id == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert note is not None and "cannot be reached" in note
    with pytest.raises(UnknownNameError, match="cannot be reached"):
        resolve_model(catalog, "org/tuned")


# -- refusals -------------------------------------------------------------------------------------


def test_a_gated_repository_says_what_to_do(
    catalog: Catalog, site: Any, repo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.gated = "manual"
    with pytest.raises(
        UsageError, match=r"org/tuned is gated or private: accept its licence at .*/org/tuned and set HF_TOKEN"
    ):
        resolve_model(catalog, "org/tuned")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UsageError, match=r"refused the token in HF_TOKEN for org/tuned \(403\)"):
        resolve_model(catalog, "org/tuned")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert resolve_model(catalog, "org/tuned")[0].gated is True


def test_a_repository_that_is_not_there_names_the_nearest(catalog: Catalog, site: Any) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'meta-llama/Llama-3\.1-80B'; nearest: .*private\? set HF_TOKEN"
    ):
        resolve_model(catalog, "meta-llama/Llama-3.1-80B")


def test_a_revision_can_be_named(catalog: Catalog, site: Any, repo: Any) -> None:
    assert resolve_model(catalog, f"org/tuned@{COMMIT}")[0].revision == COMMIT
    with pytest.raises(UnknownNameError):
        resolve_model(catalog, "org/tuned@nowhere")


# -- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/api/models", "/resolve/", "/cdn/"])
@pytest.mark.parametrize("status", ["429", "500", "503"])
def test_passing_faults_are_retried(
    catalog: Catalog, site: Any, repo: Any, workshop: Any, where: str, status: str
) -> None:
    site.faults.append(workshop.fault(where, status, 2))
    assert resolve_model(catalog, "org/tuned")[0].revision == COMMIT


@pytest.mark.parametrize("where", ["/api/models", "/resolve/", "/cdn/"])
@pytest.mark.parametrize("kind", ["429", "503", "cut"])
def test_lasting_faults_end_in_one_line(
    catalog: Catalog, site: Any, repo: Any, workshop: Any, where: str, kind: str
) -> None:
    site.faults.append(workshop.fault(where, kind))
    with pytest.raises(UnknownNameError) as caught:
        resolve_model(catalog, "org/tuned")
    assert "the Hub gave no answer" in str(caught.value) and "\n" not in str(caught.value)


def test_a_long_retry_after_is_not_waited_for(catalog: Catalog, site: Any, repo: Any, workshop: Any) -> None:
    site.faults.append(workshop.fault("/resolve/", "429", headers={"Retry-After": "3600"}))
    with pytest.raises(UnknownNameError, match="answered 429"):
        resolve_model(catalog, "org/tuned")
    assert len(site.seen("/resolve/")) == 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [("cut", "broke off"), ("wrong_range", "sent bytes 1-"), ("drip", "too slow")],
)
def test_broken_transfers_are_named(
    site: Any, repo: Any, workshop: Any, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "DEADLINE_S", 0.3)
    site.faults.append(workshop.fault("/resolve/", kind))
    with pytest.raises(NetworkError, match=message):
        network.HttpFile(f"{site.url}/org/tuned/resolve/{COMMIT}/config.json", piece=64)


def test_of_a_server_without_ranges_only_the_beginning_is_read(
    catalog: Catalog, site: Any, repo: Any, workshop: Any, tmp_path: Path
) -> None:
    with_ranges, _ = resolve_model(catalog, "org/tuned")
    large = tmp_path / "large.safetensors"
    head, size = workshop.safetensors_header({"model.embed_tokens.weight": ("BF16", (1 << 20, 1 << 16))})
    with large.open("wb") as sparse:  # 128 GiB, all hole
        sparse.write(head)
        sparse.truncate(len(head) + size)
    repo.commit = "f" * 40
    repo.files["large.safetensors"] = large
    site.faults.append(workshop.fault("/cdn/", "no_range"))
    tracemalloc.start()
    file = network.HttpFile(f"{site.url}/org/tuned/resolve/{repo.commit}/large.safetensors", piece=64)
    assert file.size == len(head) + size
    assert file.read(0, 8) == head[:8] and file.read(16, 100) == head[16:116]
    assert file.read(1 << 20, 5) == bytes(5), "what stands before is passed over"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    with pytest.raises(NetworkError, match=r"does not serve ranges of large\.safetensors"):
        file.read(1 << 30, 5)
    without, _ = resolve_model(catalog, "org/tuned")
    assert without.checkpoints[0].stored == with_ranges.checkpoints[0].stored


def test_a_compressed_answer_is_refused(site: Any, repo: Any, workshop: Any) -> None:
    site.faults.append(workshop.fault("/resolve/", "gzip"))
    with pytest.raises(NetworkError, match=r"sends config\.json compressed, although asked not to"):
        network.HttpFile(f"{site.url}/org/tuned/resolve/{COMMIT}/config.json", piece=64)


def test_a_file_that_changes_while_it_is_read_is_noticed(site: Any, repo: Any, workshop: Any) -> None:
    site.faults.append(workshop.fault("/cdn/", "new_etag"))
    file = network.HttpFile(f"{site.url}/org/tuned/resolve/{COMMIT}/model-00001-of-00002.safetensors", piece=64)
    assert file.read(0, 8)
    with pytest.raises(NetworkError, match="changed while it was read"):
        file.read(100, 8)


def test_a_file_of_another_length_than_listed_is_refused(site: Any, repo: Any) -> None:
    url = f"{site.url}/org/tuned/resolve/{COMMIT}/config.json"
    with pytest.raises(FormatError, match="where its repository lists 7"):
        network.HttpFile(url, piece=64, size=7)


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "TIMEOUT_S", 0.2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        with pytest.raises(NetworkError, match="timed out"):
            network.get(f"http://127.0.0.1:{listening.getsockname()[1]}/x", limit=10, attempts=1)


def test_a_silent_hub_is_asked_once(catalog: Catalog, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.sources.hub.TIMEOUT_S", 0.2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        started = time.monotonic()
        model, note = resolve_model(catalog, "mirror/Meta-Llama-3-8B-Instruct")
        assert time.monotonic() - started < 5
    assert model.id == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert note is not None and "cannot be reached" in note and "timed out" in note


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ((1 << 63).to_bytes(8, "little") + b"{}" * 40, "claims 9223372036854775808 bytes"),
        ((40).to_bytes(8, "little") + b"x" * 40, "not JSON"),
        ((1 << 20).to_bytes(8, "little") + b"[" * (1 << 20), "not JSON"),
    ],
)
def test_hostile_headers_end_in_an_error_within_bounded_memory(
    catalog: Catalog, site: Any, workshop: Any, header: bytes, message: str
) -> None:
    files = {"config.json": json.dumps(workshop.llama_config).encode(), "model.safetensors": header}
    site.repos["evil/one"] = workshop.repo(files)
    tracemalloc.start()
    with pytest.raises(FormatError, match=message):
        resolve_model(catalog, "evil/one")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_config_that_is_too_large_is_not_fetched(catalog: Catalog, site: Any, workshop: Any) -> None:
    site.repos["evil/two"] = workshop.repo({"config.json": b" " * (5 << 20)})
    with pytest.raises(FormatError, match="at most 4194304 are read"):
        resolve_model(catalog, "evil/two")
    assert not site.seen("/resolve/")


# -- adapters -------------------------------------------------------------------------------------


def test_an_adapter_resolves_its_base(catalog: Catalog, site: Any, repo: Any, workshop: Any, tmp_path: Path) -> None:
    workshop.safetensors(tmp_path / "a.safetensors", {"x.lora_A.weight": ("F32", (8, 64))})
    adapter = {"base_model_name_or_path": "org/tuned", "peft_type": "LORA", "r": 8}
    site.repos["me/lora"] = workshop.repo(
        {"adapter_config.json": json.dumps(adapter).encode(), "adapter_model.safetensors": tmp_path / "a.safetensors"}
    )
    model, _ = resolve_model(catalog, "me/lora")
    assert model.id == "org/tuned"
    assert "me/lora is a LORA adapter of org/tuned, rank 8, 2,048 bytes" in model.assumptions[-1]
    assert (model.adapter, model.adapter_rank) == ("me/lora", 8)


def test_an_adapter_whose_base_nobody_has_names_both(
    catalog: Catalog, site: Any, workshop: Any, tmp_path: Path
) -> None:
    adapter = json.dumps({"base_model_name_or_path": "gone/base", "peft_type": "LORA", "r": 8}).encode()
    workshop.safetensors(tmp_path / "adapter_model.safetensors", {"x.lora_A.weight": ("F32", (8, 64))})
    (tmp_path / "adapter_config.json").write_bytes(adapter)
    site.repos["me/lora"] = workshop.repo(
        {"adapter_config.json": adapter, "adapter_model.safetensors": tmp_path / "adapter_model.safetensors"}
    )
    for name in ("me/lora", str(tmp_path)):
        with pytest.raises(UsageError, match=r"is an adapter of 'gone/base', which is not found: unknown model"):
            resolve_model(catalog, name)


def test_an_adapter_named_as_the_model_is_served_by_the_files(
    catalog: Catalog, site: Any, workshop: Any, tmp_path: Path
) -> None:
    workshop.safetensors(tmp_path / "a.safetensors", {"x.lora_A.weight": ("F32", (8, 64))})
    adapter = {"base_model_name_or_path": "meta-llama/Llama-3.1-8B-Instruct", "peft_type": "LORA", "r": 64}
    site.repos["me/lora"] = workshop.repo(
        {"adapter_config.json": json.dumps(adapter).encode(), "adapter_model.safetensors": tmp_path / "a.safetensors"}
    )
    files = planner.recommend("me/lora", "1xH100").artifacts(["docker"])
    script = files["docker-run.sh"]
    assert "--enable-lora" in script
    assert "lora=me/lora" in script
    assert "--max-lora-rank=64" in script
