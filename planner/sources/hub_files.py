"""What the files of one commit on the Hub hold: config, safetensors headers, an adapter, or a GGUF's table.

Read through `network` by range, bounded; nothing but configs, indexes and headers. Knows addresses and the user's
token; which commit is meant, and what the facts amount to, is `hub.py`'s.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

from planner.errors import FormatError, UnknownNameError, UsageError
from planner.sources import network

PARALLEL: Final = 8
MAX_FILES: Final = 4096
PREFERRED_GGUF: Final = "Q4_K_M"
"""What Ollama and llama.cpp take from a repository of several files when nothing is named."""


def endpoint() -> str:
    """HF_ENDPOINT as it is now, without a slash at the end."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_token() -> str | None:
    """The user's token, from the environment or where `hf auth login` put it."""
    from huggingface_hub import get_token

    return get_token()


def authorization() -> dict[str, str]:
    """The header that carries the user's token, where there is one."""
    token = hub_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


class CommitFiles:
    """Files of one commit, read by range."""

    def __init__(self, repo: str, commit: str, sizes: dict[str, int | None]) -> None:
        self.repo, self.commit, self.sizes = repo, commit, sizes
        self._headers = authorization()

    def url(self, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repo, name, revision=self.commit, endpoint=endpoint())

    def read(self, name: str, limit: int) -> bytes:
        """A small file whole."""
        size = self.sizes.get(name)
        if size is not None and size > limit:
            raise FormatError(f"{self.repo}/{name} has {size} bytes; at most {limit} are read")
        return network.get(self.url(name), headers=self._headers, limit=limit).body

    def open(self, name: str, piece: int) -> network.HttpFile:
        """A large file as a range reader."""
        return network.HttpFile(self.url(name), headers=self._headers, piece=piece, size=self.sizes.get(name))


def contents(files: CommitFiles, kind: str | None) -> dict[str, Any]:
    """Config and tensors of what the repository holds: safetensors, an adapter, or GGUF files."""
    from planner.sources.checkpoint import MAX_CONFIG_BYTES, parse_json, with_side_config

    names = set(files.sizes)
    ggufs = sorted(n for n in names if n.endswith(".gguf") and "mmproj" not in n.casefold())
    if kind is not None or (ggufs and not any(n.endswith(".safetensors") for n in names)):
        return _gguf(files, ggufs, kind)
    if "config.json" in names:
        config = with_side_config(
            parse_json(files.read("config.json", MAX_CONFIG_BYTES), f"{files.repo}/config.json"),
            lambda name: (
                parse_json(files.read(name, MAX_CONFIG_BYTES), f"{files.repo}/{name}") if name in names else None
            ),
        )
        return {"config": config, **_tensors(files, _weight_names(files))}
    if "adapter_config.json" in names:
        adapter = parse_json(files.read("adapter_config.json", MAX_CONFIG_BYTES), f"{files.repo}/adapter_config.json")
        return {"adapter": adapter, **_tensors(files, [n for n in names if n == "adapter_model.safetensors"])}
    raise UsageError(f"{files.repo} holds neither config.json nor GGUF files: it is no model we can plan for")


def _weight_names(files: CommitFiles) -> list[str]:
    from planner.sources.local import MAX_INDEX_BYTES, index_files

    index = "model.safetensors.index.json"
    if index in files.sizes:
        found = index_files(files.read(index, MAX_INDEX_BYTES))
        missing = [name for name in found if name not in files.sizes]
        if missing:
            raise FormatError(f"{files.repo}: {missing[0]} of the index is not in the repository")
        return found
    found = sorted(n for n in files.sizes if n.endswith(".safetensors") and "/" not in n)
    return [n for n in found if not n.startswith("consolidated")] or found


def _tensors(files: CommitFiles, names: list[str]) -> dict[str, Any]:
    """Headers of `names`, several at a time."""
    from concurrent.futures import ThreadPoolExecutor

    from planner.formats.safetensors import read_header

    if len(names) > MAX_FILES:
        raise FormatError(f"{files.repo} has {len(names)} weight files; at most {MAX_FILES} are read")

    def one(name: str) -> tuple[int, list[list[Any]]]:
        reader = files.open(name, 1 << 18)
        try:
            header = read_header(reader)
        except FormatError as error:
            raise FormatError(f"{files.repo}/{name}: {error}") from None
        return reader.size, [[t.name, t.dtype, list(t.shape), t.n_bytes] for t in header.tensors.values()]

    with ThreadPoolExecutor(max_workers=min(PARALLEL, len(names) or 1)) as pool:
        found = list(pool.map(one, names))
    return {"size_bytes": sum(size for size, _ in found), "tensors": [row for _, rows in found for row in rows]}


def _gguf(files: CommitFiles, ggufs: list[str], kind: str | None) -> dict[str, Any]:
    """The GGUF of type `kind` (all its parts), or the preferred one."""
    from planner.formats.gguf import read_header
    from planner.sources.gguf_model import compact
    from planner.sources.local import SPLIT, check_split

    firsts = [n for n in ggufs if (m := SPLIT.fullmatch(n)) is None or int(m["part"]) == 1]
    if not firsts:
        raise UsageError(f"{files.repo} holds no GGUF files")
    wanted = (kind or PREFERRED_GGUF).casefold()
    pattern = re.compile(rf"(?:^|[-._/]){re.escape(wanted)}(?:[-._/]|$)")
    matching = [n for n in firsts if n.casefold() == wanted or pattern.search(n.casefold())]
    if not matching and kind is not None:
        known = sorted({n.rpartition("/")[2].removesuffix(".gguf") for n in firsts})
        raise UnknownNameError("GGUF type", kind, known, f"{files.repo} holds {', '.join(known[:6])}")
    first = (matching or firsts)[0]
    split = SPLIT.fullmatch(first)
    parts = [first]
    if split is not None:
        parts = [n for n in ggufs if (m := SPLIT.fullmatch(n)) and m["stem"] == split["stem"]]
        if len(parts) != int(split["parts"]):
            raise FormatError(f"{files.repo}: {len(parts)} of {int(split['parts'])} parts of {first} are there")
    metadata: dict[str, Any] = {}
    rows: list[list[Any]] = []
    size = 0
    for i, name in enumerate(parts):
        reader = files.open(name, 1 << 20)
        try:
            header = read_header(reader)
        except FormatError as error:
            raise FormatError(f"{files.repo}/{name}: {error}") from None
        if i == 0:
            metadata = compact(header.metadata)
            check_split(metadata, len(parts), name)
        size += reader.size
        rows += [[t.name, t.type, list(t.shape), t.n_bytes] for t in header.tensors.values()]
    return {"file": first, "choices": len(firsts), "metadata": metadata, "tensors": rows, "size_bytes": size}
