"""`preload.sh`: fetches, where there is a network, what the site will not: images into its mirror, weights.

Written for a plan whose site has a mirror or no Hub. Holds no secret: `hf`, `skopeo`, `aws` and `docker` use
their own logins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.render import placement
from planner.render.arguments import vllm
from planner.render.artifacts.docker import headline, mount_words
from planner.render.charts import why_no_plain_name
from planner.render.launch import plan_launch, why_no_image
from planner.render.registry import Target
from planner.render.templating import fill
from planner.spec.features import adapter_repository

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "preload.sh"
TOKENIZER_FILES = ("*.json", "tokenizer*", "*.jinja")


def closed(plan: Plan) -> bool:
    """True for a site that has to be filled from outside."""
    site = plan.request.site
    return site is not None and (site.registry is not None or not site.reaches_hub)


def refuses(plan: Plan) -> str | None:
    """An open site needs nothing beforehand; Ollama's own library is not on the Hub."""
    if not closed(plan):
        return "the plan's site fetches images and weights itself: it names no mirror and does not exclude the Hub"
    reason = why_no_image(plan) or placement.why_no_weights(plan)
    if reason is None and not _reaches_hub(plan):
        reason = why_no_plain_name(plan)
        if reason is None and plan.best.engine.name == "ollama":
            reason = (
                "Ollama keeps its models in a form of its own: pull on a machine with a network and copy its folder"
            )
    return reason


def _reaches_hub(plan: Plan) -> bool:
    return plan.request.site is None or plan.request.site.reaches_hub


def images(plan: Plan) -> list[tuple[str, str]]:
    """(reference, the same in the mirror) of every image that the default files start; equal without a mirror."""
    from planner.render.artifacts import compose, monitoring
    from planner.sources.companions import companion_image

    choice, launch = plan.best.engine, plan_launch(plan)
    stock = choice.image or launch.image
    found = [stock]
    if monitoring.monitored(plan) and compose.TARGET.refuses(plan) is None:
        found += [companion_image(name).reference for name in ("prometheus", "grafana")]
    return [(reference, placement.mirrored(plan, reference)) for reference in found]


def repositories(plan: Plan) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """(repository, revision, patterns of files; none: all) of the model, its tokenizer, what drafts, the adapters."""
    best, features = plan.best, plan.best.features
    own = (best.model.file,) if best.model.file else ()
    found: list[tuple[str, str | None, tuple[str, ...]]] = [(best.model.checkpoint, best.model.revision, own)]
    tokenizer = vllm.tokenizer(best, plan.resolved) if best.engine.name == "vllm" else None
    if tokenizer is not None:
        found.append((tokenizer, None, TOKENIZER_FILES))
    if features is not None:
        found += [(features.draft_model, None, ())] if features.draft_model else []
        found += [(adapter_repository(adapter), None, ()) for adapter in features.lora_adapters]
    return found


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One script."""
    site, launch = plan.request.site, plan_launch(plan)
    assert site is not None
    kind, place = site.source if site.weights is not None else ("cache", "")
    claim, _, path = place.partition("/")
    return {
        FILE: fill(
            "preload/preload.sh.j2",
            title=headline(plan),
            images=images(plan),
            mirror=site.registry,
            repositories=repositories(plan) if not site.reaches_hub else [],
            kind=kind,
            place=place,
            claim=claim,
            path=path,
            launch=launch,
            fill_volume=mount_words("volume", f"{launch.host_name}-{launch.volumes[0].name}", launch.volumes[0].path),
            cache=launch.volumes[0].path,
        )
    }


TARGET = Target(
    "preload", "Mirror and weights for a site without a network", (FILE,), refuses, render, default=False, needed=closed
)
