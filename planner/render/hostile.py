"""What no file can carry: names that are refused before anything is rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import UsageError
from planner.render.quoting import printable

if TYPE_CHECKING:
    from planner.spec.plan import Plan


def refuse_unprintable(plan: Plan) -> None:
    """Raise UsageError for a NUL, or a name that a command line would read as a flag.

    Everything else is quoted, not refused.
    """
    model, engine = plan.best.model, plan.best.engine
    named = {
        "model id": model.id,
        "checkpoint": model.checkpoint,
        "served name": model.served_name,
        "revision": model.revision,
        "weights file": model.file,
        "Ollama tag": model.ollama_tag,
        "image": engine.image,
        "plugin": engine.plugin,
    }
    for what, value in named.items():
        if value is None:
            continue
        if "\0" in value:
            raise UsageError(f"the {what} {printable(value)[:80]!r} holds a NUL character")
        if value.startswith("-") or not value.strip():
            raise UsageError(f"the {what} {printable(value)[:80]!r} must not be empty or start with a dash")
