"""Ready quantized checkpoints of a base model on the Hub, ranked by trust.

First the base model's own publisher, then the publishers of catalog/publishers.yaml in its order, then by
downloads. A repository is offered only after its own config (or file list, for GGUF) said what it holds.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from planner.errors import FormatError, NetworkError, UnknownNameError, UsageError
from planner.records import dataclass
from planner.sources import cached, hub, hub_files, network
from planner.sources.stored import TensorFact
from planner.spec.base import Provenance
from planner.spec.model import Checkpoint

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

MAX_LISTED: Final = 200
MAX_OPENED: Final = 12
MAX_LIST_BYTES: Final = 16 << 20
_GGUF_NAME: Final = re.compile(r"(?:^|[-._])((?:IQ|Q|TQ)\d[\w]*|F16|BF16|F32|MXFP4\w*)\.gguf$", re.IGNORECASE)


def find_checkpoints(catalog: Catalog, base: str, *, limit: int = MAX_OPENED) -> tuple[Checkpoint, ...]:
    """Quantized checkpoints of the model `base` (a Hub id), most trusted first; at most one per format and publisher.

    Empty when offline. Raises RefusedError or NetworkError when the Hub does not answer. Repositories that
    cannot be opened, and formats that the catalog does not know, are passed over.
    """
    if network.offline():
        return ()
    listed = _listed(base)
    found: list[Checkpoint] = []
    seen: set[tuple[str, str]] = set()
    for info in ranked(catalog, base, listed)[: max(1, limit)]:
        try:
            rows = _opened(catalog, info.id)
        except (NetworkError, FormatError, UsageError, UnknownNameError):
            continue
        for row in rows:
            key = (info.id.partition("/")[0], row.quantization)
            if key not in seen:
                seen.add(key)
                found.append(row)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Listed:
    """One repository of the Hub's answer to a search."""

    id: str
    downloads: int = 0


def _listed(base: str) -> list[Listed]:
    """Repositories that say they quantize `base`.

    Asked here, for `huggingface_hub` waits 23 s before it gives a failing list up.
    """
    query = {"filter": f"base_model:quantized:{base}", "sort": "downloads", "direction": "-1", "limit": str(MAX_LISTED)}
    url = f"{hub_files.endpoint()}/api/models?{urllib.parse.urlencode(query)}"
    raw = network.get(url, headers=hub_files.authorization(), limit=MAX_LIST_BYTES).body
    try:
        rows = json.loads(raw)
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list):
        raise NetworkError(f"{hub_files.endpoint()} answered something that is not the Hub's protocol")
    found = []
    for row in rows[:MAX_LISTED]:
        name, downloads = (row.get("id"), row.get("downloads")) if isinstance(row, dict) else (None, None)
        if isinstance(name, str) and hub.NAME.fullmatch(name):
            found.append(Listed(name, downloads if isinstance(downloads, int) else 0))
    return found


def remembered_checkpoints(catalog: Catalog, facts: dict[str, Any]) -> tuple[Checkpoint, ...]:
    """As `find_checkpoints` for the repository of `facts`, asked once per commit; empty without an answer."""
    key = (hub_files.endpoint(), facts["repo"], facts["commit"])
    known = cached.recall("hub-quantized", *key)
    if isinstance(known, list):
        return tuple(Checkpoint.model_validate(row) for row in known)
    try:
        found = find_checkpoints(catalog, facts["repo"], limit=MAX_OPENED // 2)
    except (NetworkError, UsageError):
        return ()
    if not network.offline():
        cached.remember("hub-quantized", *key, value=[row.model_dump(mode="json") for row in found])
    return found


def all_checkpoints(catalog: Catalog, model: ModelSpec) -> tuple[Checkpoint, ...]:
    """What the catalog lists for `model`, and what the Hub has beside it, each once; the Hub's word goes first.

    Offline only the former. Raises RefusedError or NetworkError when the Hub does not answer.
    """
    if hub.NAME.fullmatch(model.id) is None:
        return model.checkpoints
    found = find_checkpoints(catalog, model.id)
    seen = {(c.repo, c.quantization) for c in found}
    return (*found, *(c for c in model.checkpoints if (c.repo, c.quantization) not in seen or c.ollama_tag))


def ranked(catalog: Catalog, base: str, listed: list[Listed]) -> list[Listed]:
    """`listed` by trust: the base's publisher, known publishers in order, then downloads."""
    owner = base.partition("/")[0].casefold()
    known = {row["id"].casefold(): i for i, row in enumerate(catalog.document("publishers")["publishers"], start=1)}

    def key(info: Listed) -> tuple[int, int, str]:
        publisher = info.id.partition("/")[0].casefold()
        rank = 0 if publisher == owner else known.get(publisher, len(known) + 1)
        return rank, -info.downloads, info.id

    return sorted(listed, key=key)


def _opened(catalog: Catalog, repo: str) -> list[Checkpoint]:
    """What one repository holds."""
    from planner.sources.checkpoint import MAX_CONFIG_BYTES, model_of, parse_json, with_side_config

    info = hub.model_info(repo)
    commit = str(info.sha)
    sizes = {s.rfilename: s.size for s in info.siblings or ()}
    provenance = Provenance(
        source=f"https://huggingface.co/{repo}/tree/{commit}", date="1970-01-01", basis="spec", note="found by search"
    )
    common = {"repo": repo, "revision": commit, "gated": bool(info.gated), "provenance": provenance}
    ggufs = {n: size for n, size in sizes.items() if n.endswith(".gguf") and "mmproj" not in n.casefold()}
    if ggufs:
        return _gguf_rows(catalog, ggufs, common)
    if "config.json" not in sizes:
        return []
    files = hub_files.CommitFiles(repo, commit, sizes)
    config = with_side_config(
        parse_json(files.read("config.json", MAX_CONFIG_BYTES), "config.json"),
        lambda name: parse_json(files.read(name, MAX_CONFIG_BYTES), name) if name in sizes else None,
    )
    no_tensors: list[TensorFact] = []
    model = model_of(config, no_tensors, id=repo, repo=repo, provenance=provenance, size_bytes=None)
    weights = [size for n, size in sizes.items() if n.endswith(".safetensors") and not n.startswith("consolidated")]
    if model.quantization in ("bf16", "fp16", "fp32"):
        return []
    catalog.format(model.quantization)
    total = sum(size or 0 for size in weights) or None
    return [
        Checkpoint.model_validate(
            {
                **common,
                "quantization": model.quantization,
                "group_size": model.quantization_group_size,
                "unquantized": model.unquantized,
                "size_bytes": total,
            }
        )
    ]


def _gguf_rows(catalog: Catalog, ggufs: dict[str, int | None], common: dict[str, Any]) -> list[Checkpoint]:
    from planner.sources.local import SPLIT

    by_type: dict[str, list[str]] = {}
    for name in sorted(ggufs):
        split = SPLIT.fullmatch(name)
        match = _GGUF_NAME.search(f"{split['stem']}.gguf" if split else name)
        if match:
            by_type.setdefault(match[1].upper(), []).append(name)
    rows = []
    for kind, names in sorted(by_type.items()):
        try:
            quantization = catalog.format(kind).id
        except UnknownNameError:
            continue
        if not quantization.startswith("gguf:"):
            quantization = f"gguf:{kind}"
        size = sum(ggufs[n] or 0 for n in names) or None
        rows.append(
            Checkpoint.model_validate({**common, "quantization": quantization, "file": names[0], "size_bytes": size})
        )
    return rows
