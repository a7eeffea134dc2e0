"""`planner catalog check`: the repository has no findings, and every kind of broken copy has its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from planner.cli.main import application
from planner.errors import UsageError
from planner.resources import folder
from planner.sources.entries import Entry, entries, parsed
from planner.upkeep.check import Audit, audit, check
from planner.upkeep.rules.models import against_published
from planner.upkeep.shelf import Finding

TODAY = date(2026, 12, 24)
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
HARDWARE = {"accelerator", "cpu", "interconnect", "family", "instance"}
BESIDE = {"model": {"format"}, "engine": set[str](), "document": {"engine"}}
Change = Callable[[dict[str, Any]], object]


@cache
def held() -> tuple[Entry, ...]:
    return tuple(entries(folder("hardware"), folder("catalog")))


def broken(kind: str, identifier: str, change: Change) -> tuple[Entry, ...]:
    """The entries, one of them changed by hand and read again; only those that a rule reads beside it."""
    found = []
    for entry in held():
        if (entry.kind, entry.id) == (kind, identifier):
            raw = deepcopy(dict(entry.raw))
            change(raw)
            again = Entry(entry.path, kind, entry.id, raw) if kind == "document" else parsed(entry.path, kind, raw)
            assert again != entry
            found.append(again)
        elif entry.kind in BESIDE.get(kind, HARDWARE) or entry.id == "Qwen/Qwen3-32B":
            found.append(entry)
    return tuple(found)


def test_the_repository_has_no_findings() -> None:
    whole = audit(held())
    assert whole.findings == ()
    assert whole.counts["models"] >= 236
    assert whole.counts["models_exact"] >= 152
    assert whole.counts["accelerators_plannable"] >= 120
    assert whole.counts["instances"] >= 280
    assert whole.counts["providers"] >= 6
    assert (
        whole.counts["models_exact"] + whole.counts["models_explained"] + whole.counts["models_unpublished"]
        == (whole.counts["models"])
    )


BROKEN: dict[str, tuple[str, str, Change, str, str]] = {
    "unknown key": ("accelerator", "l4", lambda e: e.update(colour="green"), "schema", "colour"),
    "missing field": ("cpu", "epyc-9654", lambda e: e.pop("cores"), "schema", "cores"),
    "model without config": ("model", LLAMA, lambda e: e.pop("config"), "schema", "needs id and config"),
    "impossible config": ("model", LLAMA, lambda e: e["config"].update(hidden_size=-1), "schema", "hidden_size"),
    "bandwidth in GB/s": ("accelerator", "l4", lambda e: e.update(mem_bandwidth_bytes_per_s=300.0), "ranges", "GB/s"),
    "sparse peak": ("accelerator", "h100-sxm", lambda e: e.update(fp8_flops_per_s=3958e12), "ranges", "FP8"),
    "memory in MiB": ("accelerator", "l4", lambda e: e.update(memory_bytes=24576), "ranges", "memory_bytes"),
    "more usable than there is": (
        "accelerator", "l4", lambda e: e.update(usable_memory_bytes=30 << 30), "ranges", "usable"),
    "bf16 on Turing": ("accelerator", "t4", lambda e: e.update(bf16_flops_per_s=65e12), "consistency", "8.0"),
    "fp8 before Ada": ("accelerator", "a10", lambda e: e.update(fp8_flops_per_s=2.5e14), "consistency", "8.9"),
    "no such link": ("accelerator", "l4", lambda e: e.update(pcie="pcie9"), "links", "pcie9"),
    "an alias of another": ("accelerator", "l4", lambda e: e.update(aliases=["H100 SXM"]), "names", "to 'l4' too"),
    "an id of another": ("model", LLAMA, lambda e: e.update(aliases=["qwen3_32b"]), "names", "Instruct' too"),
    "a peak below the smaller part": (
        "accelerator", "rtx-4090", lambda e: e.update(fp16_flops_per_s=90e12), "families", "rtx-4080"),
    "more memory, slower": (
        "accelerator", "a100-sxm4-80gb", lambda e: e.update(mem_bandwidth_bytes_per_s=1.2e12), "families",
        "a100-sxm4-40gb"),
    "a family of nobody": ("family", "gaudi", lambda e: e.update(members=["gaudi2", "gaudi9"]), "links", "gaudi9"),
    "channels and bandwidth": (
        "cpu", "epyc-9654", lambda e: e.update(memory_channels=8), "consistency", "per transfer"),
    "latency in microseconds": ("interconnect", "nvlink4", lambda e: e.update(latency_s=2.0), "ranges", "latency_s"),
    "price in cents": ("instance", "aws/p5.48xlarge", lambda e: e.update(usd_per_hour=5504), "ranges", "USD"),
    "price of one device of eight": (
        "instance", "aws/p5.48xlarge", lambda e: e.update(usd_per_hour=6.88), "prices", "median"),
    "more for less": ("instance", "aws/g6.12xlarge", lambda e: e.update(usd_per_hour=0.5), "prices", "4 x l4"),
    "no such accelerator": ("instance", "aws/p5.48xlarge", lambda e: e.update(accelerator="h101"), "links", "h101"),
    "no such processor": ("instance", "aws/c7i.4xlarge", lambda e: e.update(cpu="xeon-1"), "links", "xeon-1"),
    "cores that are no vCPUs": ("instance", "aws/c7i.4xlarge", lambda e: e.update(cores=12), "consistency", "vCPUs"),
    "sockets unalike": (
        "instance", "aws/c7i.48xlarge", lambda e: e.update(cores=97, vcpu=97), "consistency", "97 cores"),
    "a processor and a GPU": (
        "instance", "aws/c7i.4xlarge", lambda e: e.update(accelerator="l4"), "consistency", "both"),
    "a part of two": (
        "instance", "aws/g6f.large", lambda e: e.update(accelerator_count=2), "consistency", "0.125 of 2"),
    "more cores for less": (
        "instance", "aws/c8g.16xlarge", lambda e: e.update(usd_per_hour=0.5), "prices", "64 x graviton4"),
    "a wrong shape": ("model", LLAMA, lambda e: e["config"].update(intermediate_size=14000), "parameters", "published"),
    "a wrong total": ("model", LLAMA, lambda e: e.update(parameters=8_030_261_249), "parameters", "8,030,261,249"),
    "a total nobody published": ("model", LLAMA, lambda e: e.pop("parameters"), "parameters", "parameters_note"),
    "a note that explains too much": (
        "model", LLAMA, lambda e: e.update(parameters=4_000_000_000, parameters_note="so"), "parameters", "so much"),
    "a name of another size": (
        "model", LLAMA, lambda e: e.update(id="meta-llama/Llama-3.1-80B-Instruct"), "parameters", "80B of the name"),
    "context of a million times a million": (
        "model", LLAMA, lambda e: e.update(context_length=10**12), "ranges", "context_length"),
    "a private source": ("model", LLAMA, lambda e: e.update(source="/home/me/config.json"), "provenance", "machine"),
    "no source": ("accelerator", "l4", lambda e: e["provenance"].update(source=""), "provenance", "no source"),
    "a date that is none": ("accelerator", "l4", lambda e: e["provenance"].update(date="2025-13-01"), "provenance",
                            "ISO"),
    "a date to come": ("accelerator", "l4", lambda e: e["provenance"].update(date="2031-01-01"), "provenance", "yet"),
    "a field's date": (
        "accelerator", "l4", lambda e: e["field_provenance"]["usable_memory_bytes"].update(date="1970-01-01"),
        "provenance", "before"),
    "an estimate without a reason": (
        "accelerator", "l4", lambda e: e.update(provenance={"source": "https://x.org", "date": "2026-01-01",
                                                            "basis": "estimated"}), "provenance", "says how"),
    "a checkpoint in two places": (
        "model", LLAMA, lambda e: e["checkpoints"][0].update(repo="a/b", ollama_tag="c:d"), "checkpoints", "either"),
    "a checkpoint of no format": (
        "model", LLAMA, lambda e: e["checkpoints"][0].update(quantization="int3"), "checkpoints", "format"),
    "a checkpoint twice": (
        "model", LLAMA, lambda e: e["checkpoints"].append(dict(e["checkpoints"][0])), "checkpoints", "twice"),
    "a checkpoint too large": (
        "model", LLAMA, lambda e: e["checkpoints"][0].update(size_bytes=10**12), "checkpoints", "size"),
    "a floating image": (
        "engine", "vllm/0.33.0", lambda e: e["images"][0].update(reference="docker.io/vllm/vllm-openai:latest"),
        "images", "floats"),
    "flags that are not there": ("engine", "vllm/0.33.0", lambda e: e.update(flags_file="no.json"), "links", "no.json"),
    "a guide without its predicate": (
        "document", "guide", lambda e: e["guide"][0].update(when="on_tuesdays"), "links", "on_tuesdays"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "identifier", "change", "rule", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_copy_is_found(kind: str, identifier: str, change: Change, rule: str, says: str) -> None:
    findings = audit(broken(kind, identifier, change), today=TODAY).findings
    assert any(f.rule == rule and says in f.message for f in findings), findings


def test_two_entries_of_one_id_are_found() -> None:
    again = next(e for e in held() if e.id == "l4")
    assert [(f.rule, f.entry) for f in audit((*held(), again)).findings] == [("names", "l4")]


def test_old_facts_are_findings_only_when_an_age_is_stated() -> None:
    assert audit(held(), today=date(2040, 1, 1)).findings == ()
    old = audit(held(), max_age_days=3650, today=date(2040, 1, 1)).findings
    assert {f.rule for f in old} == {"age"}
    assert all("days old" in f.message for f in old)
    assert audit(held(), max_age_days=3650, today=TODAY).findings == ()
    with pytest.raises(UsageError, match="max-age-days"):
        audit(held(), max_age_days=-1)


def test_a_count_that_differs_slightly_needs_a_note() -> None:
    model = next(e for e in held() if e.id == "meta-llama/Llama-2-7b-hf").record
    assert list(against_published(model)) == []  # type: ignore[arg-type]
    bare = model.model_copy(update={"parameters_note": ""})  # type: ignore[union-attr]
    assert len(list(against_published(bare))) == 1  # type: ignore[arg-type]


# -- as a person runs it ---------------------------------------------------------------------------


def tree(root: Path, text: str, file: str = "hardware/interconnects.yaml") -> Path:
    path = root / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return root


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(application("catalog"), ["catalog", *arguments])
    if isinstance(done.exception, Exception):
        raise done.exception
    return done.exit_code, done.stdout


LINK = "schema: 1\ninterconnects:\n  - {id: x, name: X, bandwidth_bytes_per_s: 1.0e+10, latency_s: %s, "
LINK += "provenance: {source: a table, date: '2026-01-01', basis: spec}}\n"


def test_the_command_lists_what_is_wrong_and_exits_1(tmp_path: Path) -> None:
    status, text = run("check", "--root", str(tree(tmp_path, LINK % "3.0")), "-o", "json")
    assert status == 1
    (finding,) = json.loads(text)["findings"]
    assert Finding(**finding) == Finding(
        "hardware/interconnects.yaml", "x", "ranges", "latency_s 3e+06 us is outside 0.5 to 100"
    )


def test_the_command_says_so_when_nothing_is_wrong(tmp_path: Path) -> None:
    status, text = run("check", "--root", str(tree(tmp_path, LINK % "3.0e-6")))
    assert (status, text.splitlines()[-1]) == (0, "0 findings in 1 entries")


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [", "not valid YAML"), ("- 1", "expected a mapping"), ("interconnects: {}", "list of mappings")],
)
def test_a_file_that_cannot_be_read_is_one_finding(tmp_path: Path, text: str, says: str) -> None:
    report: Audit = check(tree(tmp_path, text))
    assert [(f.rule, says in f.message) for f in report.findings] == [("schema", True)]


def test_files_that_extend_each_other_are_a_finding(tmp_path: Path) -> None:
    tree(tmp_path, "extends: b\n", "catalog/engines/vllm/a.yaml")
    (tmp_path / "catalog/engines/vllm/b.yaml").write_text("extends: a\n")
    assert {f.rule for f in check(tmp_path).findings} == {"schema"}


def test_a_folder_without_data_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither"):
        check(tmp_path)


def test_measured_rows_name_catalogued_things(tmp_path: Path) -> None:
    tree(tmp_path, "x: 1\n", "catalog/some.yaml")
    (tmp_path / "catalog/measurements").mkdir()
    (tmp_path / "catalog/measurements/a.csv").write_text(
        "model,accelerator,quantization,value\nnobody/model,l5,,3\n,,,-1\n"
    )
    messages = [f.message for f in check(tmp_path).findings]
    assert messages == [
        "no accelerator 'l5' in the catalog", "no model 'nobody/model' in the catalog", "value '-1' is not positive",
    ]  # fmt: skip
