"""Ollama tags over the registry's protocol, and from a local store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from planner.errors import FormatError, UnknownNameError, UsageError
from planner.sources.models import resolve_model

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog

ZEROS = "sha256:" + "0" * 64
KIND = "application/vnd.ollama.image."


def gguf(workshop: Any, path: Path) -> Path:
    workshop.gguf(path, *workshop.llama_gguf(96))
    return path


@pytest.fixture
def tag(site: Any, workshop: Any, tmp_path: Path) -> dict[str, Any]:
    """library/tiny:latest with template, parameters and a projector."""
    model = gguf(workshop, tmp_path / "model.gguf")
    layers: list[tuple[str, bytes | Path]] = [
        ("model", model), ("projector", b"p" * 4096), ("template", b"{{ .Prompt }}"),
        ("params", json.dumps({"stop": ["<|eot|>", "<|end|>"], "num_ctx": 4096}).encode()),
    ]  # fmt: skip
    rows = []
    for kind, content in layers:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        rows.append({"mediaType": KIND + kind, "digest": site.add_blob(content), "size": size})
    config = json.dumps({"model_format": "gguf", "model_family": "llama", "file_type": "Q8_0"}).encode()
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": site.add_blob(config), "size": len(config)}, "layers": rows,
    }  # fmt: skip
    site.manifests["library/tiny:latest"] = json.dumps(manifest).encode()
    return manifest


def test_a_tag_is_its_manifest_header_template_and_parameters(
    catalog: Catalog, site: Any, tag: dict[str, Any], tmp_path: Path
) -> None:
    model, note = resolve_model(catalog, "ollama:tiny")
    assert note is not None and note.startswith("Ollama tag tiny:latest, the default tag, is Q8_0 at manifest sha256:")
    assert (model.id, model.quantization, model.chat_stop) == ("tiny:latest", "gguf:Q8_0", ("<|eot|>", "<|end|>"))
    checkpoint = model.checkpoints[0]
    assert checkpoint.ollama_tag == "tiny:latest" and checkpoint.revision == model.revision
    assert checkpoint.size_bytes == (tmp_path / "model.gguf").stat().st_size
    assert model.assumptions == (
        "a vision projector of 4,096 bytes is loaded beside the model", "the tag sets num_ctx 4096",
    )  # fmt: skip
    assert site.seen("/manifests/")[0]["accept"].startswith("application/vnd.docker.distribution.manifest")
    assert all("range" in headers for headers in site.seen("/cdn/"))


def test_a_manifest_seen_before_is_enough_offline(
    catalog: Catalog, site: Any, tag: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = resolve_model(catalog, "ollama:tiny")
    site.log.clear()
    assert resolve_model(catalog, "ollama:tiny:latest")[0] == first
    assert [path for path, _ in site.log] == ["/v2/library/tiny/manifests/latest"]
    monkeypatch.setenv("PLANNER_OFFLINE", "1")
    model, note = resolve_model(catalog, "ollama:tiny")
    assert model == first and note is not None and note.endswith("as remembered (offline)")


def test_two_tags_of_one_manifest_keep_their_own_names(
    catalog: Catalog, site: Any, tag: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["tiny:latest", "tiny:1b", "mine/copy:x"]
    site.manifests |= {"library/tiny:1b": json.dumps(tag).encode(), "mine/copy:x": json.dumps(tag).encode()}

    def resolved(name: str) -> tuple[str, str | None, bool]:
        model, note = resolve_model(catalog, f"ollama:{name}")
        assert (model.aliases, model.checkpoints[0].ollama_tag) == ((name,), name)
        return model.id, model.checkpoints[0].provenance.source, f"Ollama tag {name}" in (note or "")

    pages = ["https://ollama.com/library/tiny:latest", "https://ollama.com/library/tiny:1b",
             "https://ollama.com/mine/copy:x"]  # fmt: skip
    expected = [(name, page, True) for name, page in zip(names, pages, strict=True)]
    assert [resolved(name) for name in names] == expected
    monkeypatch.setenv("PLANNER_OFFLINE", "1")
    assert [resolved(name) for name in reversed(names)] == expected[::-1]


def test_without_the_registry_the_catalog_answers(catalog: Catalog, site: Any, workshop: Any) -> None:
    model, note = resolve_model(catalog, "ollama:llama3.1:8b", offline=True)
    assert model.id == "meta-llama/Llama-3.1-8B-Instruct"
    assert note is not None and note.endswith("the Ollama registry was not asked (offline)")
    assert not site.log
    site.faults.append(workshop.fault("/v2/", "503"))
    model, note = resolve_model(catalog, "ollama:llama3.1:8b")
    assert note is not None and "answered 503" in note
    with pytest.raises(UnknownNameError, match="answered 503"):
        resolve_model(catalog, "ollama:never-heard-of")


def test_unknown_private_and_impossible_tags_say_so(catalog: Catalog, site: Any, workshop: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown Ollama tag 'tiny:7b'.*no such tag"):
        resolve_model(catalog, "ollama:tiny:7b")
    site.faults.append(workshop.fault("/v2/", "401", 1))
    with pytest.raises(UsageError, match=r"refuses mine/secret:latest \(401\)"):
        resolve_model(catalog, "ollama:mine/secret")
    with pytest.raises(UsageError, match="is not an Ollama name"):
        resolve_model(catalog, "ollama:a/b/c/d:e")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layers": []}, UsageError, "no model layer"),
        ({"layers": [{"mediaType": KIND + "tensor", "digest": ZEROS, "size": 1}]}, UsageError, "other than GGUF"),
        ({"layers": [{"mediaType": KIND + "model", "digest": "../../etc/passwd", "size": 1}]}, FormatError, "without"),
        ({"layers": [{"mediaType": KIND + "model", "digest": ZEROS, "size": -1}]}, FormatError, "without"),
        ({"layers": "x"}, FormatError, "no list of layers"),
    ],
)  # fmt: skip
def test_hostile_manifests_end_in_one_line(
    catalog: Catalog, site: Any, tag: dict[str, Any], change: Any, error: type[Exception], message: str
) -> None:
    site.manifests["library/tiny:latest"] = json.dumps({**tag, **change}).encode()
    with pytest.raises(error, match=message):
        resolve_model(catalog, "ollama:tiny")


def test_a_layer_that_does_not_match_its_digest_is_refused(catalog: Catalog, site: Any, tag: dict[str, Any]) -> None:
    params = next(row for row in tag["layers"] if row["mediaType"].endswith("params"))
    site.blobs[params["digest"]] = b"x" * params["size"]
    with pytest.raises(FormatError, match="does not match its digest"):
        resolve_model(catalog, "ollama:tiny")


def test_a_local_store_is_asked_first(
    catalog: Catalog, site: Any, tag: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    manifest = store / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(site.manifests["library/tiny:latest"])
    (store / "blobs").mkdir()
    for digest, content in site.blobs.items():
        raw = content if isinstance(content, bytes) else content.read_bytes()
        (store / "blobs" / digest.replace(":", "-")).write_bytes(raw)
    monkeypatch.setenv("OLLAMA_MODELS", str(store))
    model, note = resolve_model(catalog, "ollama:tiny", offline=True)
    assert note == "tiny:latest as it lies in the local Ollama store"
    assert not site.log
    assert resolve_model(catalog, str(store))[0] == model == resolve_model(catalog, str(manifest))[0]
    (manifest.parent / "v2").write_bytes(manifest.read_bytes())
    with pytest.raises(UsageError, match=r"holds 2 models \(tiny:latest, tiny:v2\); give one as ollama:NAME:TAG"):
        resolve_model(catalog, str(store))
    blob = store / "blobs" / tag["layers"][0]["digest"].replace(":", "-")
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(FormatError, match="bytes, the manifest says"):
        resolve_model(catalog, "ollama:tiny")
