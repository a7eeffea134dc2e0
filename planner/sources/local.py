"""Models on this disk: a checkpoint folder, a GGUF file or its parts, an MLX folder, an Ollama store.

Reads configs and headers only, never tensor data; sizes are the files' own. Knows how the files of one
model are found; what they mean is `checkpoint.py`'s and `gguf_model.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from planner.errors import FormatError, PlannerError, UsageError
from planner.sources.stored import TensorFact
from planner.spec.base import Provenance

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

Resolve = Callable[[str], "ModelSpec"]
SPLIT: Final = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.IGNORECASE)
MAX_FILES: Final = 4096
_FOLDER: Final = Provenance(source="config.json and headers of a local directory", date="1970-01-01", basis="spec")
_GGUF: Final = Provenance(source="header of a local GGUF file", date="1970-01-01", basis="spec")


def from_path(catalog: Catalog, text: str, resolve: Resolve) -> ModelSpec:
    """The model at the path `text`. `resolve` finds the base model of a LoRA adapter by its name.

    Raises UsageError when nothing there is a model, FormatError when a file is damaged or missing.
    """
    try:
        path = Path(text).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{text[:80]!a} cannot be read: {type(error).__name__}") from None
    named = _as_path(text)
    try:
        if is_folder:
            return _from_folder(catalog, path, named, resolve)
        if is_file and path.suffix.casefold() == ".gguf":
            return _from_gguf(catalog, path, named)
        if is_file and "manifests" in path.parts:
            from planner.sources.ollama import from_manifest_file

            return from_manifest_file(catalog, path)
    except FormatError as error:
        raise FormatError(f"{named[:80]}: {str(error).removeprefix(f'{path.name}: ')}") from None
    except OSError as error:
        if isinstance(error, PlannerError):
            raise
        raise UsageError(f"{text[:80]!a} cannot be read: {type(error).__name__}") from None
    if is_file:
        raise UsageError(f"{text[:80]!a} is no model; give a .gguf file or a folder with config.json")
    raise UsageError(f"{text[:80]!a} does not exist; give a model name, a .gguf file or a folder with config.json")


def _as_path(text: str) -> str:
    """`text` as what means the same place wherever a plan's files are saved and started, and never a name of a hub."""
    return text if text.startswith(("/", "~")) else str(Path(text).absolute())


def _from_folder(catalog: Catalog, folder: Path, named: str, resolve: Resolve) -> ModelSpec:
    from planner.sources import checkpoint

    named = named.rstrip("/") or "/"
    if (folder / "config.json").is_file():
        config = checkpoint.with_side_config(
            _json(folder / "config.json"), lambda name: _json(folder / name) if (folder / name).is_file() else None
        )
        files = _safetensors(folder)
        facts = [fact for file in files for fact in safetensors_facts(file)]
        size = sum(file.stat().st_size for file in files)
        if not files and (ggufs := _ggufs(folder)):
            return _one_gguf(catalog, ggufs, named)
        return checkpoint.model_of(
            config, facts, id=named, repo=named, provenance=_FOLDER, size_bytes=size if files else None
        )
    if (folder / "adapter_config.json").is_file():
        config = _json(folder / "adapter_config.json")
        facts = [fact for file in _safetensors(folder) for fact in safetensors_facts(file)]
        return checkpoint.with_adapter(checkpoint.adapted(config, named, resolve), config, facts, named)
    if (folder / "manifests").is_dir() and (folder / "blobs").is_dir():
        from planner.sources.ollama import from_store

        return from_store(catalog, folder)
    if ggufs := _ggufs(folder):
        return _one_gguf(catalog, ggufs, named)
    raise UsageError(f"{named[:80]!a} has no config.json; give a model name or a checkpoint directory")


def _json(path: Path) -> dict[str, Any]:
    from planner.sources.checkpoint import MAX_CONFIG_BYTES, parse_json

    with path.open("rb") as file:
        return parse_json(file.read(MAX_CONFIG_BYTES + 1), path.name)


def _safetensors(folder: Path) -> list[Path]:
    """The weight files that belong together: the index's, else all, without Mistral's second copy."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        with index.open("rb") as file:
            names = index_files(file.read(MAX_INDEX_BYTES + 1))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise FormatError(f"{missing[0][:80]} of the index is missing ({len(missing)} of {len(names)} files)")
        return [folder / name for name in names]
    found = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    own = [path for path in found if not path.name.startswith("consolidated")]
    if len(own or found) > MAX_FILES:
        raise FormatError(f"{len(found)} weight files; at most {MAX_FILES} are read")
    return own or found


MAX_INDEX_BYTES: Final = 64 << 20


def index_files(raw: bytes) -> list[str]:
    """File names of a model.safetensors.index.json, sorted. Raises FormatError for names that are paths."""
    import json

    if len(raw) > MAX_INDEX_BYTES:
        raise FormatError(f"model.safetensors.index.json is larger than {MAX_INDEX_BYTES >> 20} MiB")
    try:
        table = json.loads(raw)["weight_map"]
        names = sorted(set(table.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError("model.safetensors.index.json has no weight_map of file names") from None
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[\w][\w.\-]*\.safetensors", name):
            raise FormatError(f"model.safetensors.index.json names {str(name)[:80]!a}, which is no plain file name")
    if len(names) > MAX_FILES:
        raise FormatError(f"model.safetensors.index.json names {len(names)} files; at most {MAX_FILES} are read")
    return names


def safetensors_facts(path: Path) -> list[TensorFact]:
    """Tensors of one local file. Raises FormatError that names the file."""
    from planner.formats.reader import FileReader
    from planner.formats.safetensors import read_header

    try:
        with FileReader(path) as reader:
            header = read_header(reader)
    except FormatError as error:
        raise FormatError(f"{path.name}: {error}") from None
    return [TensorFact(t.name, t.dtype, t.shape, t.n_bytes) for t in header.tensors.values()]


# -- GGUF -----------------------------------------------------------------------------------------


def _ggufs(folder: Path) -> list[Path]:
    """First parts of the GGUF models in a folder, without vision projectors."""
    files = sorted(path for path in folder.glob("*.gguf") if "mmproj" not in path.name.casefold())
    return [p for p in files if (m := SPLIT.fullmatch(p.name)) is None or int(m["part"]) == 1]


def _one_gguf(catalog: Catalog, found: list[Path], named: str) -> ModelSpec:
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        raise UsageError(f"{named[:80]!a} holds {len(found)} GGUF models; name one of {names}")
    return _from_gguf(catalog, found[0], f"{named.rstrip('/')}/{found[0].name}")


def _from_gguf(catalog: Catalog, path: Path, named: str) -> ModelSpec:
    from planner.sources.gguf_model import model_of_gguf

    paths = gguf_parts(path)
    metadata, facts, size = read_gguf(paths)
    first = named[: len(named) - len(path.name)] + paths[0].name if named.endswith(path.name) else named
    checkpoint = {"repo": first, "file": paths[0].name}
    return model_of_gguf(catalog, metadata, facts, id=first, checkpoint=checkpoint, provenance=_GGUF, size_bytes=size)


def gguf_parts(path: Path) -> list[Path]:
    """All parts of a split file in order, or the file alone. Raises FormatError naming a missing part."""
    match = SPLIT.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["parts"])
    if not 1 <= count <= MAX_FILES:
        raise FormatError(f"{path.name[:80]} claims {count} parts; at most {MAX_FILES} are read")
    names = [f"{match['stem']}-{i:05d}-of-{match['parts']}{path.suffix}" for i in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise FormatError(f"{missing[0][:100]} is missing ({len(missing)} of {count} parts)")
    return [path.parent / name for name in names]


def read_gguf(paths: list[Path]) -> tuple[dict[str, Any], list[TensorFact], int]:
    """Metadata of the first part, tensors of all, bytes of all files."""
    from planner.formats.gguf import read_header
    from planner.formats.reader import FileReader

    metadata: dict[str, Any] = {}
    facts: list[TensorFact] = []
    size = 0
    for i, path in enumerate(paths):
        try:
            with FileReader(path) as reader:
                header = read_header(reader)
                size += reader.size
        except FormatError as error:
            raise FormatError(f"{path.name}: {error}") from None
        if i == 0:
            metadata = header.metadata
            check_split(metadata, len(paths), path.name)
        facts += [TensorFact(t.name, t.type, t.shape, t.n_bytes) for t in header.tensors.values()]
    return metadata, facts, size


def check_split(metadata: dict[str, Any], found: int, name: str) -> None:
    """FormatError when the first part's own count is not the number of files there are."""
    count = metadata.get("split.count")
    if isinstance(count, int) and count not in (0, found):
        raise FormatError(f"{name[:80]} is one of {count} parts; {found} found (parts are named -00001-of-{count:05d})")
