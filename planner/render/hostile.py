"""What no file can carry: names that are refused before anything is rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import UsageError
from planner.render.arguments import is_local, own_path
from planner.render.quoting import printable

if TYPE_CHECKING:
    from planner.spec.plan import Plan


def refuse_unprintable(plan: Plan) -> None:
    """Raise UsageError for a NUL, a name that a command line would read as a flag, or a home that nobody has.

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
    if is_local(model):
        own_path(model)
    for what, value in named.items():
        if value is None:
            continue
        if "\0" in value:
            raise UsageError(f"the {what} {printable(value)[:80]!r} holds a NUL character")
        if value.startswith("-") or not value.strip():
            raise UsageError(f"the {what} {printable(value)[:80]!r} must not be empty or start with a dash")
