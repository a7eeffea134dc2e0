"""`MIGRATE.md`: from Ollama to vLLM, with the files of both plans in folders of their own.

Prints what two plans say and what catalog/migration.yaml says of their engines; computes nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from planner.errors import UsageError
from planner.render.artifacts.readme import figures
from planner.render.native import PORTS
from planner.render.templating import fill
from planner.units import gib

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE, BEFORE, AFTER = "MIGRATE.md", "prototype", "production"


def migration(before: Plan, after: Plan) -> dict[str, str]:
    """The document, and each plan's files under its folder. Raises UsageError for other engines than these two."""
    from planner.render import render
    from planner.sources.companions import migration_rows

    for plan, engine, role in ((before, "ollama", BEFORE), (after, "vllm", AFTER)):
        if plan.best.engine.name != engine:
            raise UsageError(f"the {role} runs {engine}, and this plan is for {plan.best.engine.name}")
    files = {f"{BEFORE}/{path}": text for path, text in render(before).items()}
    files |= {f"{AFTER}/{path}": text for path, text in render(after).items()}
    files[FILE] = fill(
        "common/MIGRATE.md.j2",
        model=after.best.model.id,
        before=before,
        after=after,
        rows=_compared(before, after),
        client=_client(before, after),
        changes=[(row.what, row.from_ollama, row.to_vllm) for row in migration_rows()],
        start_before=_start(files, BEFORE),
        start_after=_start(files, AFTER),
        load=before.request,
        base_before=_base(before),
        base_after=_base(after),
        body_before=_body(before),
        body_after=_body(after),
        same_machine=before.best.hardware.label == after.best.hardware.label,
    )
    return dict(sorted(files.items()))


def _base(plan: Plan) -> str:
    return f"http://127.0.0.1:{PORTS[plan.best.engine.name]}"


def _body(plan: Plan) -> str:
    return json.dumps(
        {
            "model": plan.best.model.served_name,
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 16,
        }
    )


def _compared(before: Plan, after: Plan) -> list[tuple[str, str, str]]:
    """(what, prototype, production): the choices, then the figures that both have."""

    def choices(plan: Plan) -> list[str]:
        best = plan.best
        return [
            f"{plan.resolved.engine.title} {best.engine.version}",
            best.model.ollama_tag or best.model.checkpoint,
            best.quantization,
            best.hardware.label,
            f"{best.limits.num_ctx or best.limits.max_model_len:,} tokens",
            f"{best.limits.max_num_seqs * best.parallelism.decoders}",
            best.kv_cache_dtype,
            gib(best.memory.bytes_of("weights")),
        ]

    names = (
        "Engine",
        "Weights",
        "Quantization",
        "Hardware",
        "Context",
        "Requests at once",
        "KV cache",
        "Weights a device",
    )
    rows = list(zip(names, choices(before), choices(after), strict=True))
    theirs = {what: value for what, value, _ in figures(after.best)}
    return rows + [(what, value, theirs[what]) for what, value, _ in figures(before.best) if what in theirs]


def _client(before: Plan, after: Plan) -> list[tuple[str, str, str]]:
    """(setting, value before, value after) of an OpenAI client."""
    return [
        ("base_url", f"{_base(before)}/v1", f"{_base(after)}/v1"),
        ("model", before.best.model.served_name, after.best.model.served_name),
    ]


def _start(files: dict[str, str], folder: str) -> str:
    """The command that starts one side."""
    script = next(
        (f"{folder}/{name}" for name in ("docker-run.sh", "ollama-create.sh") if f"{folder}/{name}" in files), None
    )
    if script is not None:
        return f"bash {script}"
    made = f"planner generate {folder}/plan.yaml --target lws --save-dir {folder}-cluster"
    return f"{made} && kubectl apply -f {folder}-cluster/lws.yaml"
