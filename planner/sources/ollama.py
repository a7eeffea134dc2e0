"""Ollama models: a tag to its manifest, its GGUF header, template and parameters; from a registry or a local store.

Protocol: a registry's `/v2/<namespace>/<name>/manifests/<tag>` and `/blobs/<digest>`, layers told apart by
media type (github.com/ollama/ollama, manifest and server packages). Only headers of the model are read. A
manifest is remembered by its digest; offline, what was seen before, else the catalog, is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from planner.errors import FormatError, NetworkError, UnknownNameError, UsageError
from planner.records import dataclass
from planner.sources import cached, network
from planner.sources.stored import TensorFact
from planner.spec.base import Provenance

if TYPE_CHECKING:
    from planner.formats.gguf import GgufHeader
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

    Small = Callable[[str, int], bytes]
    Header = Callable[[str, int], GgufHeader]

REGISTRY_VARIABLE: Final = "PLANNER_OLLAMA_REGISTRY"
DEFAULT_REGISTRY: Final = "https://registry.ollama.ai"
DEFAULT_HOST: Final = "registry.ollama.ai"
MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_LAYER_BYTES: Final = 4 << 20
"""Of a text layer: template, system prompt, parameters."""
MAX_LAYERS: Final = 64
_LAYER: Final = "application/vnd.ollama.image."
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(r"(?:(?P<space>[\w.\-]+)/)?(?P<name>[\w.\-]+)(?::(?P<tag>[\w.\-]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Image:
    """One tag: what its manifest and small layers say. `model_bytes` is the GGUF layer, `projector_bytes` a tower's."""

    tag: str
    digest: str
    model_digest: str
    model_bytes: int
    projector_bytes: int
    quantization: str
    family: str
    template: str
    system: str
    parameters: dict[str, Any]


def resolve(catalog: Catalog, name: str, *, offline: bool = False) -> tuple[ModelSpec, str]:
    """The model of the tag `name` (`llama3.1:8b`), and what was assumed.

    A local Ollama store is asked first, then the registry. Raises UsageError for a name that is none,
    UnknownNameError for a tag nobody has, NetworkError when only the network could tell.
    """
    match = _NAME.fullmatch(name)
    if match is None or len(name) > 200:
        raise UsageError(f"{name[:60]!a} is not an Ollama name; e.g. ollama:llama3.1:8b")
    space, short, tag = match["space"] or "library", match["name"], match["tag"] or "latest"
    shown = f"{short}:{tag}" if space == "library" else f"{space}/{short}:{tag}"
    manifest = store_folder() / "manifests" / DEFAULT_HOST / space / short / tag
    if manifest.is_file():
        return from_manifest_file(catalog, manifest), f"{shown} as it lies in the local Ollama store"
    if offline or network.offline():
        return _without_network(catalog, space, short, tag, shown, "offline")
    try:
        image, metadata, facts = _fetched(space, short, tag, shown)
    except network.RefusedError as error:
        if error.status == 404:
            raise UnknownNameError(
                "Ollama tag", shown, catalog.names("model"), "the registry has no such tag"
            ) from None
        if error.status in (401, 403):
            raise UsageError(f"the Ollama registry refuses {shown} ({error.status}): it is private or gone") from None
        return _without_network(catalog, space, short, tag, shown, str(error))
    except NetworkError as error:
        return _without_network(catalog, space, short, tag, shown, str(error))
    return _model(catalog, image, metadata, facts), _said(image, match["tag"] is None)


def _said(image: Image, default_tag: bool) -> str:
    default = ", the default tag," if default_tag else ""
    return f"Ollama tag {image.tag}{default} is {image.quantization or 'a GGUF'} at manifest {image.digest[:19]}"


def _without_network(catalog: Catalog, space: str, name: str, tag: str, shown: str, why: str) -> tuple[ModelSpec, str]:
    """What was seen before, else the catalog's model of that name."""
    digest = cached.recall("ollama-tag", _registry(), space, name, tag)
    entry = cached.recall("ollama-image", digest) if isinstance(digest, str) else None
    if entry is not None:
        image, metadata, facts = _unpacked(entry, shown)
        return _model(catalog, image, metadata, facts), f"{_said(image, False)}, as remembered ({why})"
    try:
        model = catalog.model(shown.removesuffix(":latest"))
    except UnknownNameError as error:
        hint = f"the Ollama registry was not asked ({why})" if why == "offline" else f"and {why}"
        raise UnknownNameError("Ollama tag", shown, error.suggestions or catalog.names("model"), hint) from None
    return model, f"{shown} is the catalog's {model.id}: the Ollama registry was not asked ({why})"


# -- the registry ---------------------------------------------------------------------------------


def _registry() -> str:
    return os.environ.get(REGISTRY_VARIABLE, DEFAULT_REGISTRY).rstrip("/")


def _fetched(space: str, name: str, tag: str, shown: str) -> tuple[Image, dict[str, Any], list[TensorFact]]:
    from planner.formats.gguf import read_header

    base = f"{_registry()}/v2/{space}/{name}"
    answer = network.get(f"{base}/manifests/{tag}", headers={"Accept": MANIFEST_TYPE}, limit=MAX_MANIFEST_BYTES)
    digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
    cached.remember("ollama-tag", _registry(), space, name, tag, value=digest)
    entry = cached.recall("ollama-image", digest)
    if entry is None:

        def small(layer_digest: str, size: int) -> bytes:
            body = network.get(f"{base}/blobs/{layer_digest}", limit=min(size, MAX_LAYER_BYTES)).body
            if "sha256:" + hashlib.sha256(body).hexdigest() != layer_digest:
                raise FormatError(f"{shown}: a layer does not match its digest {layer_digest[:19]}")
            return body

        def model(layer_digest: str, size: int) -> GgufHeader:
            return read_header(network.HttpFile(f"{base}/blobs/{layer_digest}", piece=1 << 20, size=size))

        entry = _packed(answer.body, digest, shown, small, model)
        cached.remember("ollama-image", digest, value=entry)
    return _unpacked(entry, shown)


def _layers(raw: bytes, shown: str) -> tuple[dict[str, tuple[str, int]], tuple[str, int] | None]:
    """Media type → (digest, bytes) of each kind of layer, and the config's. Raises FormatError."""
    try:
        manifest = json.loads(raw)
        rows = manifest["layers"]
        found: dict[str, tuple[str, int]] = {}
        for row in rows[: MAX_LAYERS + 1]:
            found.setdefault(str(row["mediaType"]).removeprefix(_LAYER), (row["digest"], row["size"]))
        config = (manifest["config"]["digest"], manifest["config"]["size"]) if "config" in manifest else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError(f"{shown}: the manifest has no list of layers") from None
    for digest, size in (*found.values(), *((config,) if config else ())):
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or type(size) is not int or size < 0:
            raise FormatError(f"{shown}: the manifest names a layer without digest and size")
    if len(rows) > MAX_LAYERS:
        raise FormatError(f"{shown}: {len(rows)} layers; at most {MAX_LAYERS} are read")
    if "model" not in found:
        kind = "a format other than GGUF" if "tensor" in found else "no model layer"
        raise UsageError(f"{shown} holds {kind}; only GGUF models can be planned for")
    return found, config


def _packed(raw: bytes, digest: str, shown: str, small: Small, model: Header) -> dict[str, Any]:
    """Everything worth keeping of one manifest, as plain data: what every tag of it shares, so no tag."""
    from planner.sources.checkpoint import parse_json
    from planner.sources.gguf_model import compact

    layers, config = _layers(raw, shown)

    def text(kind: str) -> str:
        return small(*layers[kind]).decode("utf-8", errors="replace") if kind in layers else ""

    try:
        header = model(*layers["model"])
    except FormatError as error:
        raise FormatError(f"{shown}: {error}") from None
    about = parse_json(small(*config), f"{shown}: the config layer") if config else {}
    parameters = parse_json(small(*layers["params"]), f"{shown}: the parameters layer") if "params" in layers else {}
    return {
        "digest": digest,
        "model": list(layers["model"]),
        "projector_bytes": layers["projector"][1] if "projector" in layers else 0,
        "quantization": str(about.get("file_type", "")),
        "family": str(about.get("model_family", "")),
        "template": text("template"),
        "system": text("system"),
        "parameters": parameters,
        "metadata": compact(header.metadata),
        "tensors": [[t.name, t.type, list(t.shape), t.n_bytes] for t in header.tensors.values()],
    }


def _unpacked(entry: dict[str, Any], shown: str) -> tuple[Image, dict[str, Any], list[TensorFact]]:
    """`entry` as the tag `shown`: several tags may name one manifest."""
    image = Image(
        tag=shown,
        digest=entry["digest"],
        model_digest=entry["model"][0],
        model_bytes=entry["model"][1],
        projector_bytes=entry["projector_bytes"],
        quantization=entry["quantization"],
        family=entry["family"],
        template=entry["template"],
        system=entry["system"],
        parameters=entry["parameters"],
    )
    facts = [TensorFact(name, kind, tuple(shape), size) for name, kind, shape, size in entry["tensors"]]
    return image, entry["metadata"], facts


def _model(catalog: Catalog, image: Image, metadata: dict[str, Any], facts: list[TensorFact]) -> ModelSpec:
    from planner.sources.gguf_model import model_of_gguf

    provenance = Provenance(
        source=f"https://ollama.com/library/{image.tag}" if "/" not in image.tag else f"https://ollama.com/{image.tag}",
        date="1970-01-01",
        basis="spec",
        note=f"manifest {image.digest}",
    )
    checkpoint = {"ollama_tag": image.tag, "revision": image.digest, "file": image.model_digest}
    model = model_of_gguf(
        catalog,
        metadata,
        facts,
        id=image.tag,
        checkpoint=checkpoint,
        provenance=provenance,
        size_bytes=image.model_bytes,
    )
    stops = image.parameters.get("stop", ())
    stops = (stops,) if isinstance(stops, str) else tuple(s for s in stops if isinstance(s, str))
    said = []
    if image.projector_bytes:
        said.append(f"a vision projector of {image.projector_bytes:,} bytes is loaded beside the model")
    set_by_tag = {k: v for k, v in sorted(image.parameters.items()) if k != "stop"}
    if set_by_tag:
        said.append(f"the tag sets {', '.join(f'{k} {v}' for k, v in set_by_tag.items())}"[:200])
    return model.model_copy(
        update={"chat_stop": stops, "aliases": (image.tag,), "assumptions": (*model.assumptions, *said)}
    )


# -- a local store --------------------------------------------------------------------------------


def store_folder() -> Path:
    """Where Ollama keeps its models: OLLAMA_MODELS, else ~/.ollama/models."""
    explicit = os.environ.get("OLLAMA_MODELS")
    try:
        return Path(explicit) if explicit else Path.home() / ".ollama" / "models"
    except RuntimeError:
        return Path(".ollama/models")


def from_store(catalog: Catalog, folder: Path) -> ModelSpec:
    """The only model of a store. Raises UsageError listing the tags when there are several."""
    manifests = sorted(path for path in (folder / "manifests").glob("*/*/*/*") if path.is_file())
    if len(manifests) != 1:
        tags = ", ".join(_tag(path) for path in manifests[:6]) or "none"
        raise UsageError(f"the Ollama folder holds {len(manifests)} models ({tags}); give one as ollama:NAME:TAG")
    return from_manifest_file(catalog, manifests[0])


def from_manifest_file(catalog: Catalog, path: Path) -> ModelSpec:
    """The model of one manifest of a local store; its blobs lie in `blobs/` beside `manifests/`."""
    root = next((p.parent for p in path.parents if p.name == "manifests"), None)
    if root is None or not (root / "blobs").is_dir():
        raise UsageError(f"{path.name[:80]!a} is no manifest of an Ollama folder (no blobs/ beside manifests/)")
    shown = _tag(path)
    with path.open("rb") as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    if len(raw) > MAX_MANIFEST_BYTES:
        raise FormatError(f"{shown}: the manifest is larger than {MAX_MANIFEST_BYTES >> 20} MiB")

    def blob(digest: str, size: int) -> Path:
        found = root / "blobs" / digest.replace(":", "-")
        if not found.is_file():
            raise FormatError(f"{shown}: the blob {digest[:19]} is missing (pull the model again)")
        if found.stat().st_size != size:
            raise FormatError(
                f"{shown}: the blob {digest[:19]} has {found.stat().st_size} bytes, the manifest says {size}"
            )
        return found

    def small(digest: str, size: int) -> bytes:
        with blob(digest, size).open("rb") as file:
            return file.read(MAX_LAYER_BYTES)

    def model(digest: str, size: int) -> GgufHeader:
        from planner.formats.gguf import read_header
        from planner.formats.reader import FileReader

        with FileReader(blob(digest, size)) as reader:
            return read_header(reader)

    entry = _packed(raw, "sha256:" + hashlib.sha256(raw).hexdigest(), shown, small, model)
    return _model(catalog, *_unpacked(entry, shown))


def _tag(path: Path) -> str:
    """…/manifests/HOST/SPACE/NAME/TAG as people write it."""
    _host, space, name, tag = path.parts[-4:]
    return f"{name}:{tag}" if space == "library" else f"{space}/{name}:{tag}"
