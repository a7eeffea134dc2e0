"""`planner catalog refresh models`: against a server that speaks the Hub's protocol, and from a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from planner.cli.main import application
from planner.errors import UsageError
from planner.sources.entries import read_yaml
from planner.upkeep.refresh import Refresh, refresh, write
from planner.upkeep.refresh_models import minimal
from planner.upkeep.sources import choose
from tests.sources.conftest import COMMIT, llama_tensors

if TYPE_CHECKING:
    from tests.sources.conftest import Site, Workshop

TOTAL = 86_336
ENTRY = """\
# Small models, and a comment that must stay.
schema: 1
models:
  - id: acme/other
    parameters_note: 'no published total found: the count is computed from the shapes'
    source: https://huggingface.co/acme/other
    date: '2026-01-01'
    basis: spec
    config: {CONFIG}
  - id: acme/tiny
    parameters: 86336  # as published
    license: mit
    source: https://example.org/config.json
    date: '2026-01-01'
    basis: derived
    note: dimensions from a table
    config: {CONFIG}
    checkpoints:
    - {quantization: awq, repo: acme/tiny-AWQ, source: 'https://huggingface.co/acme/tiny-AWQ', date: '2026-01-01',
      basis: estimated, note: named by the publisher's pattern; not looked up}
    - {quantization: 'gguf:Q4_K_M', repo: acme/tiny-GGUF, file: tiny-Q4_K_M.gguf, source: 'https://huggingface.co/a',
      date: '2026-01-01', basis: estimated, note: named by the publisher's pattern; not looked up}
    - {quantization: 'gguf:Q8_0', ollama_tag: 'tiny:8b', source: 'https://ollama.com/library/tiny/tags',
      date: '2026-01-01', basis: estimated, note: named by the publisher's pattern; not looked up}
"""


@pytest.fixture
def root(tmp_path: Path, workshop: Workshop) -> Path:
    """Data files with two tiny models."""
    path = tmp_path / "data/catalog/models/tiny.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(ENTRY.replace("{CONFIG}", json.dumps(workshop.llama_config)))
    return tmp_path / "data"


def entry(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(root / "catalog/models/tiny.yaml")["models"][1]
    return found


def serve(site: Site, workshop: Workshop, config: dict[str, Any] | None = None, total: int | None = None) -> None:
    head, size = workshop.safetensors_header(llama_tensors())
    site.repos["acme/tiny"] = workshop.repo(
        {"config.json": json.dumps(config or workshop.llama_config).encode(), "model.safetensors": head + b"\0" * size},
        parameters=total,
    )


def ask(root: Path, *, checkpoints: bool = False, place: str | None = None) -> Refresh:
    return refresh(root, choose("models", ("acme/tiny",), place, None, checkpoints))


def test_what_the_hub_confirms_gets_its_commit_and_source(root: Path, site: Site, workshop: Workshop) -> None:
    serve(site, workshop)
    before = (root / "catalog/models/tiny.yaml").read_text()
    found = ask(root)
    assert [p.entry for p in found.accepted] == ["acme/tiny"]
    assert (root / "catalog/models/tiny.yaml").read_text() == before, "nothing is written unasked"
    write(found)
    new = entry(root)
    assert new["revision"] == COMMIT
    assert new["source"] == f"https://huggingface.co/acme/tiny/blob/{COMMIT}/config.json"
    assert (new["basis"], new["license"], new["parameters"], "note" in new) == ("spec", "apache-2.0", TOTAL, False)
    assert new["config"] == workshop.llama_config
    text = (root / "catalog/models/tiny.yaml").read_text()
    assert text.startswith("# Small models") and "# as published" in text
    assert text.split("  - id: acme/tiny")[0] == before.split("  - id: acme/tiny")[0]
    again = ask(root)
    assert (again.accepted, again.refused, again.diff) == ((), (), "")


def test_a_change_that_breaks_the_parameter_count_is_refused(root: Path, site: Site, workshop: Workshop) -> None:
    serve(site, workshop, {**workshop.llama_config, "intermediate_size": 256}, total=TOTAL)
    found = ask(root)
    assert found.accepted == ()
    (refused,) = found.refused
    assert [f.rule for f in refused.findings] == ["parameters"]
    assert "86,336" in refused.findings[0].message
    assert found.texts == {}


def test_a_count_that_the_shapes_do_not_give_is_refused(root: Path, site: Site, workshop: Workshop) -> None:
    serve(site, workshop, total=TOTAL + 1)
    assert ask(root).accepted == ()


def test_a_new_shape_with_its_count_is_taken(root: Path, site: Site, workshop: Workshop) -> None:
    wider = {**workshop.llama_config, "intermediate_size": 256, "initializer_range": 0.02, "rms_norm_eps": 1e-5}
    serve(site, workshop, wider, total=TOTAL + 2 * 3 * 64 * 128)
    found = ask(root)
    assert found.refused == ()
    write(found)
    assert entry(root)["parameters"] == TOTAL + 49_152
    assert entry(root)["config"]["intermediate_size"] == 256
    assert "initializer_range" not in entry(root)["config"], "keys that shape nothing are left out"


def test_checkpoints_are_looked_up_one_by_one(root: Path, site: Site, workshop: Workshop) -> None:
    serve(site, workshop)
    site.repos["acme/tiny-GGUF"] = workshop.repo(
        {"tiny-Q4_K_M-00001-of-00002.gguf": b"x" * 10, "tiny-Q4_K_M-00002-of-00002.gguf": b"x" * 5}
    )
    found = ask(root, checkpoints=True)
    assert any("acme/tiny-AWQ (awq) is not on the Hub" in line for p in found.accepted for line in p.headline)
    write(found)
    split, tag = entry(root)["checkpoints"]
    assert (split["file"], split["size_bytes"], split["basis"]) == ("tiny-Q4_K_M-00001-of-00002.gguf", 15, "spec")
    assert split["revision"] == COMMIT and "note" not in split
    assert tag["ollama_tag"] == "tiny:8b" and tag["basis"] == "estimated"


def test_a_hub_that_fails_changes_no_checkpoint(root: Path, site: Site, workshop: Workshop) -> None:
    serve(site, workshop)
    site.faults.append(workshop.fault("tiny-", "503"))
    found = ask(root, checkpoints=True)
    assert all("checkpoints" not in p.changes for p in found.accepted)


def test_a_repository_that_cannot_be_read_is_a_note(root: Path, site: Site) -> None:
    found = ask(root)
    assert (found.accepted, len(found.remarks), found.asked) == ((), 1, 1)


def test_a_folder_of_checkpoints_serves_as_well(root: Path, tmp_path: Path, workshop: Workshop) -> None:
    place = tmp_path / "mirror/acme--tiny"
    place.parent.mkdir()
    workshop.folder(place, {**workshop.llama_config, "intermediate_size": 256}, llama_tensors(ffn=256))
    found = ask(root, place=str(tmp_path / "mirror"))
    assert [p.changes["parameters"] for p in found.accepted] == [TOTAL + 49_152]
    assert str(tmp_path) not in found.diff, "a source is a public place"


def test_offline_it_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_OFFLINE", "1")
    with pytest.raises(UsageError, match="--from"):
        ask(root)
    with pytest.raises(UsageError, match="unknown model"):
        refresh(root, choose("models", ("acme/none",), ".", None, False))


def test_an_entry_is_asked_about_by_its_alias_too(root: Path, site: Site, workshop: Workshop) -> None:
    serve(site, workshop, total=TOTAL)
    path = root / "catalog/models/tiny.yaml"
    path.write_text(path.read_text().replace("  - id: acme/tiny\n", "  - id: acme/tiny\n    aliases: [tiny-8b]\n"))
    by_alias = refresh(root, choose("models", ("Tiny_8B",), None, None, False))
    assert [p.entry for p in by_alias.accepted] == ["acme/tiny"] and by_alias.asked == 1
    assert by_alias.diff == ask(root).diff


def test_the_keys_that_count_are_found_in_nested_tables(catalog: object) -> None:
    from planner.sources.catalog import load

    raw: dict[str, Any] = {"id": "a/b", "source": "https://x.org", "date": "2026-01-01", "basis": "spec"}
    config = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 96,
        "intermediate_size": 128, "max_position_embeddings": 4096, "bos_token_id": 1, "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "x": {"y": 1}},
    }  # fmt: skip
    kept = minimal(raw, config)
    assert "bos_token_id" not in kept
    assert "x" not in kept["quantization_config"] and kept["quantization_config"]["quant_method"] == "awq"
    assert load()


def test_the_command_shows_the_diff_and_writes_when_asked(root: Path, site: Site, workshop: Workshop) -> None:
    serve(site, workshop)
    arguments = ["catalog", "refresh", "models", "acme/tiny", "--root", str(root), "--no-checkpoints"]
    shown = CliRunner().invoke(application("catalog"), arguments)
    assert shown.exit_code == 0, shown.output
    assert "+    license: apache-2.0" in shown.stdout and "--write changes the files" in shown.stdout
    assert entry(root)["license"] == "mit"
    done = CliRunner().invoke(application("catalog"), [*arguments, "--write", "-o", "json"])
    assert json.loads(done.stdout)["changes"][0]["entry"] == "acme/tiny"
    assert entry(root)["license"] == "apache-2.0"
