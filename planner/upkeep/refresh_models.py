"""Model entries against the Hub (HF_ENDPOINT), or against a folder of checkpoints: config, count, commit, checkpoints.

The published parameter count is the Hub's own (`safetensors.total`), else what the headers hold. An entry
keeps its config where the new one says the same; otherwise the keys that count. A count that differs from the
shapes as before stays explained by its note; any other difference is for a person (the rules refuse it).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.errors import FormatError, PlannerError, UsageError
from planner.estimate.tensors import parameter_count
from planner.records import dataclass
from planner.sources import hub, network
from planner.sources.entries import read_yaml
from planner.sources.model_entries import parse_entry
from planner.spec.base import Provenance
from planner.spec.model import ModelSpec
from planner.upkeep.proposal import Proposal, Remark, Survey
from planner.upkeep.shelf import Shelf
from planner.upkeep.verify_checkpoints import verified

_ALWAYS = (
    "architectures", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "intermediate_size", "vocab_size", "max_position_embeddings", "tie_word_embeddings", "torch_dtype",
    "dtype",
)  # fmt: skip
"""Kept for the reader even where a default would do."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a source says of one repository. `total`: parameters, None where it does not say."""

    config: dict[str, Any]
    total: int | None
    source: str
    commit: str | None = None
    license: str | None = None
    gated: bool | None = None


def survey_models(
    shelf: Shelf, names: tuple[str, ...] = (), folder: Path | None = None, *, checkpoints: bool = True
) -> Survey:
    """What the Hub (or `folder`, as org/name or org--name below it) says of catalogued models (`names`: of these).

    `checkpoints`: also look whether each listed repository and file is there (Hub only). Repositories that
    cannot be read are remarks. Raises UsageError when the network is needed and forbidden.
    """
    if folder is None and network.offline():
        raise UsageError("refreshing models asks the Hub, which PLANNER_OFFLINE forbids; or give a folder with --from")
    proposals: list[Proposal] = []
    remarks: list[Remark] = []
    own: dict[Path, frozenset[str]] = {}
    asked = 0
    for entry, model in shelf.of("model", ModelSpec):
        if names and model.id not in names:
            continue
        asked += 1
        raw = dict(entry.raw)
        if entry.path not in own:
            own[entry.path] = frozenset(str(row.get("id")) for row in read_yaml(entry.path)["models"])
        if model.id not in own[entry.path]:
            remarks.append(Remark(model.id, "written as a variant of another entry: not refreshed on its own"))
            continue
        changes: dict[str, Any] = {}
        headline: list[str] = []
        try:
            published = _from_folder(folder, model.id) if folder else _from_hub(model.id)
            _compare(raw, model, published, shelf.today.isoformat(), changes, headline)
        except PlannerError as error:
            remarks.append(Remark(model.id, f"not read: {error}"))
        if checkpoints and folder is None:
            rows, said = verified(raw.get("checkpoints", []), shelf.today.isoformat())
            if rows != raw.get("checkpoints", []):
                changes["checkpoints"] = rows
            headline += said
        if changes:
            proposals.append(Proposal(entry.path, "models", "model", model.id, changes, tuple(headline)))
    return Survey(tuple(proposals), tuple(remarks), asked)


def _from_hub(repo: str) -> Published:
    info = hub.model_info(repo)
    facts = hub.repo_facts(repo, str(info.sha))
    if "config" not in facts:
        raise FormatError(f"{repo} holds no config.json")
    total = getattr(getattr(info, "safetensors", None), "total", None)
    if total is None and facts.get("tensors") and "quantization_config" not in facts["config"]:
        total = sum(_elements(shape) for _, _, shape, _ in facts["tensors"])
    source = f"https://huggingface.co/{repo}/blob/{facts['commit']}/config.json"
    return Published(facts["config"], total, source, facts["commit"], facts["license"], facts["gated"])


def _elements(shape: list[int]) -> int:
    n = 1
    for axis in shape:
        n *= axis
    return n


def _from_folder(folder: Path, repo: str) -> Published:
    from planner.sources.checkpoint import MAX_CONFIG_BYTES, parse_json
    from planner.sources.local import safetensors_facts

    places = [folder / repo, folder / repo.replace("/", "--")]
    place = next((p for p in places if (p / "config.json").is_file()), None)
    if place is None:
        raise UsageError(f"{repo}: no {places[0].name}/config.json under {str(folder)!a}")
    with (place / "config.json").open("rb") as file:
        config = parse_json(file.read(MAX_CONFIG_BYTES + 1), "config.json")
    tensors = [fact for file in sorted(place.glob("*.safetensors")) for fact in safetensors_facts(file)]
    total = sum(fact.elements for fact in tensors) if tensors and "quantization_config" not in config else None
    return Published(config, total, f"https://huggingface.co/{repo}/blob/main/config.json")


def _compare(
    raw: Mapping[str, Any], model: ModelSpec, new: Published, day: str, changes: dict[str, Any], headline: list[str]
) -> None:
    """Put into `changes` what `new` says differently, and what of it a person wants to see into `headline`."""
    fresh = parse_entry({**raw, "config": new.config})
    if _shapes(fresh) != _shapes(model):
        changes["config"] = minimal(raw, new.config)
        headline.append("config changed: " + ", ".join(_differing(model, fresh)))
    if new.total is not None and new.total != model.parameters:
        _total(fresh, model, new.total, changes, headline)
    if new.license and new.license != model.license:
        changes["license"] = new.license
        headline.append(f"license {model.license} → {new.license}")
    if new.gated is not None and new.gated != model.gated:
        changes["gated"] = new.gated
        headline.append(f"gated {model.gated} → {new.gated}")
    if new.commit and new.commit != model.revision:
        changes["revision"] = new.commit
        headline.append(f"revision {(model.revision or 'none')[:12]} → {new.commit[:12]}")
    if changes:
        changes |= {"source": new.source, "date": day, "basis": "spec"}
        if model.provenance.basis != "spec" and "note" in raw:
            changes["note"] = None


def _total(fresh: ModelSpec, model: ModelSpec, total: int, changes: dict[str, Any], headline: list[str]) -> None:
    was = f"{model.parameters:,}" if model.parameters else "unpublished"
    changes["parameters"] = total
    headline.append(f"parameters {was} → {total:,}")
    gap = None if model.parameters is None else model.parameters - parameter_count(model)
    explained = gap is not None and total - parameter_count(fresh) == gap
    if model.parameters_note and not explained:
        changes["parameters_note"] = None  # it explained another difference: the rules look at this one afresh


def _shapes(model: ModelSpec) -> ModelSpec:
    """`model` without what is no fact of its config."""
    blank = Provenance(source="", date="", basis="spec")
    return model.model_copy(update={"provenance": blank, "assumptions": ()})


def _differing(old: ModelSpec, new: ModelSpec) -> list[str]:
    a, b = _shapes(old).model_dump(), _shapes(new).model_dump()
    return [name for name in a if a[name] != b[name]]


def minimal(raw: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `config` without which the entry would be another model, and those a reader expects."""
    whole = _shapes(parse_entry({**raw, "config": config}))
    return _pruned(raw, whole, dict(config), ())


def _pruned(raw: Mapping[str, Any], whole: ModelSpec, config: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """`config` with every key (below `path`) left out that changes nothing."""
    table = config
    for part in path:
        table = table[part]
    for name in list(table):
        held = table[name]
        if name not in _ALWAYS:
            del table[name]
            if _same(raw, whole, config):
                continue
            table[name] = held
        if isinstance(held, dict):
            table[name] = dict(held)
            _pruned(raw, whole, config, (*path, name))
    return config


def _same(raw: Mapping[str, Any], whole: ModelSpec, config: Mapping[str, Any]) -> bool:
    try:
        return _shapes(parse_entry({**raw, "config": config})) == whole
    except PlannerError:
        return False
