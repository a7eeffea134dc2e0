"""The registry of targets: what can be rendered, for which plans, and by which function.

A target is one small module under `artifacts/` that ends with a `Target`; adding one is that module,
its templates and its name in `_MODULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from planner.errors import UnknownNameError, UsageError
from planner.records import dataclass

if TYPE_CHECKING:
    from planner.spec.plan import Plan


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of artifact.

    `files` says what it writes (for listings); `refuses(plan)` is None, or the reason why this plan
    has no such artifact. `default` targets are rendered when none is named, `always` ones in any case.
    """

    slug: str
    title: str
    files: tuple[str, ...]
    refuses: Callable[[Plan], str | None]
    render: Callable[[Plan, tuple[str, ...]], dict[str, str]]
    """(plan, slugs of all targets being rendered) → path → text."""
    default: bool = True
    always: bool = False
    extra: Callable[[Plan], tuple[str, ...]] | None = None
    """Paths beyond `files` that depend on the plan."""
    needed: Callable[[Plan], bool] | None = None
    """Plans whose other files are useless without it: there it is written without being asked for."""
    omits: Callable[[Plan], tuple[tuple[str, str], ...]] | None = None
    """(what, why not) of parts that it writes for other plans."""

    def paths(self, plan: Plan) -> tuple[str, ...]:
        """Every path that it writes for `plan`."""
        return (*self.files, *(self.extra(plan) if self.extra else ()))

    def unasked(self, plan: Plan) -> bool:
        """True when it is rendered for `plan` without being named."""
        wanted = self.default or (self.needed is not None and self.needed(plan))
        return wanted and self.supports(plan) is None

    def supports(self, plan: Plan) -> str | None:
        """None when the target can be rendered for `plan`, else the reason why not."""
        return self.refuses(plan)


_MODULES = (
    *("docker", "compose", "kubernetes", "helm", "ollama", "image", "quantize", "preload"),
    *("kustomize", "hpa", "keda", "kserve", "openshift"),
    *("lws", "ray", "production_stack", "llm_d"),
    *("nim", "nim_operator", "endpoints"),
    *("systemd", "launchd", "windows", "llama_server", "ollama_helm"),
    *("lock", "readme", "bench"),
)
"""In the order of the documentation; those that are always written last."""


@cache
def all_targets() -> tuple[Target, ...]:
    """Every target, those that are always written last."""
    return tuple(import_module(f"planner.render.artifacts.{name}").TARGET for name in _MODULES)


def select(plan: Plan, slugs: Sequence[str] | None = None) -> tuple[Target, ...]:
    """The targets to render. Raises UnknownNameError, or UsageError with the reason of a refusal."""
    known = {target.slug: target for target in all_targets()}
    always = [target for target in known.values() if target.always]
    if slugs is None:
        return (*(t for t in known.values() if not t.always and t.unasked(plan)), *always)
    chosen: dict[str, Target] = {}
    for slug in slugs:
        if slug not in known:
            raise UnknownNameError("target", slug, known, hint="`planner generate --list` shows all")
        reason = known[slug].supports(plan)
        if reason is not None:
            raise UsageError(f"target {slug} is refused: {reason}")
        chosen[slug] = known[slug]
    return (*chosen.values(), *(target for target in always if target.slug not in chosen))
