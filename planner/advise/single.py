"""One configuration exactly as asked, for `planner estimate`: no search, the engine's own defaults.

Unlike the search it does not refuse what does not fit: it says how much is missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner.advise.brief import Brief
from planner.advise.candidates import (
    Candidate,
    enumerate_candidates,
    nearest_release,
    releases_for,
)
from planner.advise.configure import configure
from planner.advise.evaluate import deploy
from planner.errors import InfeasibleError
from planner.estimate.memory import ledger
from planner.spec.engine import LAYER_SPLIT_ENGINES

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.plan import Configuration


def estimate_one(catalog: Catalog, brief: Brief) -> tuple[Configuration, tuple[str, ...]]:
    """The configuration that `brief.request` fixes, and what was assumed for the rest.

    Raises InfeasibleError when no kernel, image or layout exists for it.
    """
    request = brief.request
    notes: list[str] = []
    if request.engine is None:
        platform = brief.machine.platform
        engine = "ollama" if platform in ("metal", "cpu") else "vllm"
        request = request.model_copy(update={"engine": engine})
        notes.append(f"engine {engine} (--engine)")
    if request.quantization is None:
        layered = request.engine in LAYER_SPLIT_ENGINES
        quantization = "gguf:Q4_K_M" if layered else brief.model.quantization
        request = request.model_copy(update={"quantization": quantization})
        notes.append(f"quantization {quantization} (--quantization)")
    used = (request.tensor_parallel or 1) * (request.pipeline_parallel or 1) * (request.data_parallel or 1)
    used *= request.replicas or 1
    if request.engine not in LAYER_SPLIT_ENGINES and used < brief.machine.count:
        notes.append(f"{used} of {brief.machine.count} devices used (--tp, --pp, --dp, --replicas)")
    request = request.model_copy(
        update={
            "tensor_parallel": request.tensor_parallel or 1,
            "pipeline_parallel": request.pipeline_parallel or 1,
            "data_parallel": request.data_parallel or 1,
            "replicas": request.replicas or 1,
            "kv_cache_dtype": request.kv_cache_dtype or "auto",
        }
    )
    brief = replace(brief, request=request)
    if request.engine_version is not None:
        release = nearest_release(catalog.releases(request.engine), request.engine_version)
        if release.version != request.engine_version and not release.version.startswith(f"{request.engine_version}."):
            notes.append(
                f"{request.engine} {request.engine_version} is not catalogued; figures are those of {release.version}"
            )
    releases, refused_platforms = releases_for(catalog, brief)
    candidates, refused = enumerate_candidates(catalog, brief, releases)
    if not candidates:
        reasons = "; ".join(dict.fromkeys(r.reason for r in (*refused_platforms, *refused))) or "nothing matches"
        told = f"{brief.model.id} cannot run so on {brief.machine.label}: {reasons}"
        raise InfeasibleError(told, (), tuple(refused), tried=False)
    candidate = candidates[0]
    deployment = deploy(candidate, brief, _context(brief, candidate), engine_defaults=True)
    memory = ledger(deployment)
    return configure(candidate, deployment, memory, brief, catalog.calibration), tuple(notes)


def _context(brief: Brief, candidate: Candidate) -> int:
    """The context asked for, else the engine's default: the model's own, or what the load needs."""
    if brief.request.max_model_len is not None:
        return brief.request.max_model_len
    return brief.context_tokens if candidate.release.engine in LAYER_SPLIT_ENGINES else brief.model.context_length
