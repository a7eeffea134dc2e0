"""Whether listed checkpoints are there: each repository and file asked of the Hub, sizes and commits kept.

What the Hub does not have is taken off the list; what it does not answer for stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.errors import NetworkError, UsageError
from planner.sources import hub
from planner.sources.network import RefusedError


def verified(rows: Sequence[Mapping[str, Any]], day: str) -> tuple[list[dict[str, Any]], list[str]]:
    """`rows` of a model's `checkpoints` as the Hub has them, and what changed."""
    kept: list[dict[str, Any]] = []
    said: list[str] = []
    for row in rows:
        repo = row.get("repo")
        if not isinstance(repo, str) or row.get("basis") == "spec":
            kept.append(dict(row))
            continue
        try:
            info = hub.model_info(repo)
        except RefusedError as error:
            if error.status in (401, 404):  # the Hub answers 401 for what does not exist, too
                said.append(f"{repo} ({row['quantization']}) is not on the Hub: taken off")
                continue
            kept.append(dict(row))
            continue
        except (NetworkError, UsageError):
            kept.append(dict(row))
            continue
        found = _found(row, {s.rfilename: s.size for s in info.siblings or ()})
        if found is None:
            said.append(f"{repo} holds no {row.get('file') or 'weights'}: taken off")
            continue
        said.append(f"{repo} ({row['quantization']}) is there")
        fresh = {k: v for k, v in row.items() if k not in ("source", "date", "basis", "note")}
        source = f"https://huggingface.co/{repo}/tree/{info.sha}"
        kept.append({**fresh, **found, "revision": str(info.sha), "source": source, "date": day, "basis": "spec"})
    return kept, said


def _found(row: Mapping[str, Any], sizes: Mapping[str, int | None]) -> dict[str, Any] | None:
    """The file and its size as the repository has them; None when the weights are not there."""
    file = row.get("file")
    if file is None:
        weights = [n for n in sizes if n.endswith((".safetensors", ".bin")) and not n.startswith("consolidated")]
        total = sum(sizes[n] or 0 for n in weights)
        return ({"size_bytes": total} if total else {}) if weights else None
    wanted = file.casefold()
    names = [n for n in sizes if n.casefold() == wanted]
    if not names:  # large files are split, or lie in a folder of their type
        stem = wanted.removesuffix(".gguf")
        names = sorted(n for n in sizes if n.casefold().rpartition("/")[2].startswith(stem) and n.endswith(".gguf"))
    if not names:
        return None
    total = sum(sizes[n] or 0 for n in names)
    return {"file": names[0], **({"size_bytes": total} if total else {})}
