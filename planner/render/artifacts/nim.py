"""`nim.sh`: NVIDIA's NIM for LLMs by Docker, with the planned limits in its own variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from planner.render import names, placement
from planner.render.arguments import nim as arguments
from planner.render.artifacts.docker import headline
from planner.render.charts import why_no_plain_name
from planner.render.launch import find_image
from planner.render.registry import Target
from planner.render.templating import fill
from planner.units import MIB, ceil_div

if TYPE_CHECKING:
    from planner.spec.plan import Plan

FILE = "nim.sh"
DEFAULT_HEALTH = "/v1/health/ready"
_REVISION = re.compile(r"[A-Za-z0-9._/-]+")


def not_nim(plan: Plan) -> str | None:
    """Why this plan is none for NIM."""
    best = plan.best
    if best.engine.name != "nim":
        return f"the plan's engine is {best.engine.name}; plan with engine nim"
    if best.engine.platform != "cuda":
        return f"NIM runs on NVIDIA GPUs, not on {best.engine.platform}"
    if find_image(best, plan.resolved) is None:
        return f"no image of NIM {best.engine.version} is known"
    if best.model.revision is not None and not _REVISION.fullmatch(best.model.revision):
        return "the revision is none of the Hub's, and NIM splits its arguments at spaces"
    site = plan.request.site
    if site is not None and site.ca_bundle is not None:
        return "NIM is given certificates by its operator's proxy settings, which this target does not write"
    return placement.why_only_hub(plan, "NIM") or why_no_plain_name(plan)


def refuses(plan: Plan) -> str | None:
    """Besides what no NIM can do: a replica over several nodes, for which NVIDIA has images of one model only."""
    reason = not_nim(plan)
    per_replica, per_node = plan.best.parallelism.devices_per_replica, plan.resolved.machine.devices_per_node
    if reason is None and per_replica > per_node:
        reason = (
            f"one replica takes {per_replica} devices and a node has {per_node}: a NIM without a model of its own "
            "runs on one node; plan with engine vllm and target lws"
        )
    return reason


def token(plan: Plan) -> str:
    """`required`, `optional` or `none`."""
    return {True: "required", None: "optional", False: "none"}[plan.best.model.gated]


def render(plan: Plan, slugs: tuple[str, ...]) -> dict[str, str]:
    """One script that starts the first replica."""
    best, image = plan.best, find_image(plan.best, plan.resolved)
    assert image is not None
    return {
        FILE: fill(
            "nim/nim.sh.j2",
            title=headline(plan),
            name=f"llm-{names.slug(best.model.served_name)}",
            image=placement.mirrored(plan, best.engine.image or image.reference),
            verified=best.engine.image_verified or image.verified,
            port=image.port,
            health_path=plan.resolved.engine.health_path or DEFAULT_HEALTH,
            budget_s=best.limits.startup_budget_seconds,
            grace_s=best.limits.termination_grace_seconds,
            shm_mib=ceil_div(best.limits.shm_bytes or 64 * MIB, MIB),
            devices=",".join(map(str, range(best.parallelism.devices_per_replica))),
            cache_path=image.cache_path,
            environment={
                **image.environment,
                **arguments.environment(best, plan.resolved),
                **placement.environment(plan.request.site),
            },
            token=token(plan),
        )
    }


TARGET = Target("nim", "NVIDIA NIM by Docker", (FILE,), refuses, render, default=False)
