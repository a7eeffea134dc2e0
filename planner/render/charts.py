"""What values files of other projects' charts have in common: names that their templates may read.

Those charts evaluate some strings as templates or put them into URIs, so a name there is a plain one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from planner.render import placement
from planner.render.artifacts import kubernetes
from planner.render.launch import plan_launch, why_no_container
from planner.render.quoting import printable

if TYPE_CHECKING:
    from planner.spec.plan import Plan

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def why_no_plain_name(plan: Plan) -> str | None:
    """Why the model's repository cannot be part of a URI; None when it is a plain Hub name."""
    checkpoint = plan.best.model.checkpoint
    if _REPOSITORY.fullmatch(checkpoint):
        return None
    return f"{printable(checkpoint)[:80]!r} is no name of a Hugging Face repository, and this target makes a URI of it"


def why_no_vllm_chart(plan: Plan) -> str | None:
    """Why a chart that starts vLLM on one node per replica cannot run this plan."""
    best = plan.best
    if best.engine.name != "vllm":
        return f"the chart starts vLLM, not {best.engine.name}; plan with engine vllm"
    reason = why_no_container(plan) or kubernetes.cluster_cannot(plan) or kubernetes.floating_tag(plan)
    if reason is not None:
        return reason
    if plan_launch(plan).command is not None:
        return "the chart starts `vllm serve` itself and cannot replace an entrypoint before"
    if plan.request.site is not None and plan.request.site.ca_bundle is not None:
        return "the chart mounts no certificates of ours; use target kubernetes or helm"
    if (reason := placement.why_only_hub(plan, "the chart")) is not None:
        return f"{reason}; use target kubernetes or helm"
    if best.engine.platform not in ("cuda", "rocm"):
        return f"the chart is made for GPUs of NVIDIA and AMD, not for {best.engine.platform}"
    return why_no_plain_name(plan)
