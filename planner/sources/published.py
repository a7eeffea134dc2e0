"""A quantized repository that the catalog knows, without asking the Hub: by its checkpoints, else by its name.

`catalog/publishers.yaml` says how publishers end the name of a quantized repository; what stands before that
must be a model of the catalog. Runs only for names that nothing else resolves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from planner.errors import UnknownNameError
from planner.spec.base import Provenance
from planner.spec.model import Checkpoint

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

_USUAL_GGUF: Final = ("gguf:Q4_K_M", "gguf:Q8_0")


def from_checkpoint(catalog: Catalog, repo: str, kind: str | None) -> tuple[ModelSpec, str] | None:
    """The model with the weights of `repo` as its own, and what was assumed; None when the catalog cannot tell.

    `kind` is the GGUF type that stands behind a colon.
    """
    folded = repo.casefold()
    for model in catalog.models():
        held = [c for c in model.checkpoints if c.repo is not None and c.repo.casefold() == folded]
        chosen = _choose(held, kind)
        if chosen is not None:
            told = f"{repo} is the {chosen.quantization} checkpoint of {model.id} that the catalog lists"
            return _with_weights(model, chosen), told
    return _by_name(catalog, repo, kind)


def _by_name(catalog: Catalog, repo: str, kind: str | None) -> tuple[ModelSpec, str] | None:
    publisher, _, name = repo.partition("/")
    document = catalog.document("publishers")
    for row in document["suffixes"]:
        match = re.fullmatch(f"(?P<base>.+?){row['pattern']}", name, re.IGNORECASE)
        if match is None:
            continue
        base = match["base"]
        for written in (f"{publisher}/{base}", base):
            try:
                model = catalog.model(written)
            except UnknownNameError:
                continue
            quantization = _gguf(kind) if row["quantization"] == "gguf" else row["quantization"]
            origin = Provenance(
                source=row["source"], date=document["date"], basis="estimated", note="told by the repository's name"
            )
            told = (
                f"{repo} planned as {model.id} in {quantization}, which its name says: "
                "the catalog does not list it, and the Hub was not asked"
            )
            return _with_weights(model, Checkpoint(quantization=quantization, repo=repo, provenance=origin)), told
    return None


def _gguf(kind: str | None) -> str:
    return f"gguf:{kind.upper()}" if kind else _USUAL_GGUF[0]


def _choose(held: list[Checkpoint], kind: str | None) -> Checkpoint | None:
    """Of a repository's files the one of `kind`, else the usual one."""
    if kind is not None:
        return next((c for c in held if c.quantization.casefold() == f"gguf:{kind}".casefold()), None)
    for usual in _USUAL_GGUF:
        for c in held:
            if c.quantization == usual:
                return c
    return held[0] if held else None


def _with_weights(model: ModelSpec, checkpoint: Checkpoint) -> ModelSpec:
    """`model` as if it were published in `checkpoint`'s format only."""
    return model.model_copy(
        update={
            "id": checkpoint.repo,
            "aliases": (),
            "quantization": checkpoint.quantization,
            "checkpoints": (checkpoint,),
            "gated": bool(checkpoint.gated),
            "provenance": checkpoint.provenance,
        }
    )
