"""What a plan file that somebody edited may not say: limits that no deployment of its own model and machine can have.

Every rule holds for each plan that `recommend` writes. Knows no template and no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.advise.split import divides, undivided, valid_tensors
from planner.errors import UsageError
from planner.spec.engine import LAYER_SPLIT_ENGINES

if TYPE_CHECKING:
    from planner.spec.plan import Plan


def check_plan(plan: Plan) -> Plan:
    """`plan` as it is. Raises UsageError: the field, its value, the limit and what would be valid."""
    _check_limits(plan)
    _check_layout(plan)
    return plan


def _check_limits(plan: Plan) -> None:
    limits, model, request = plan.best.limits, plan.resolved.model, plan.request
    if limits.max_model_len > model.context_length:
        raise UsageError(
            f"best.limits.max_model_len {limits.max_model_len:,} exceeds the context of {model.id}; it goes up to "
            f"{model.context_length:,} tokens"
        )
    needed = request.input_tokens + request.output_tokens
    if limits.max_model_len < needed:
        raise UsageError(
            f"best.limits.max_model_len {limits.max_model_len:,} is below the request's input + output; it must be at "
            f"least {needed:,} tokens"
        )
    if limits.max_num_seqs < 1:
        raise UsageError(f"best.limits.max_num_seqs {limits.max_num_seqs} admits no request; it must be at least 1")
    share = limits.gpu_memory_utilization
    if share is not None and not 0.0 < share <= 1.0:
        raise UsageError(f"best.limits.gpu_memory_utilization {share:g} is no share of memory; it lies in (0, 1]")


def _check_layout(plan: Plan) -> None:
    layout, model, machine = plan.best.parallelism, plan.resolved.model, plan.resolved.machine
    for name in ("tensor", "pipeline", "data", "expert", "replicas"):
        if getattr(layout, name) < 1:
            raise UsageError(f"best.parallelism.{name} {getattr(layout, name)} must be at least 1")
    whole = layout.expert > 1
    if plan.best.engine.name not in LAYER_SPLIT_ENGINES and not divides(model, layout.tensor, experts_whole=whole):
        what = undivided(model, layout.tensor, experts_whole=whole)
        raise UsageError(
            f"best.parallelism.tensor {layout.tensor} does not divide {what} of {model.id}; "
            f"{valid_tensors(model, machine)}"
        )
    if layout.pipeline > model.n_layers:
        raise UsageError(
            f"best.parallelism.pipeline {layout.pipeline} exceeds the {model.n_layers} layers of {model.id}"
        )
    if not 0 <= layout.prefill < layout.replicas:
        raise UsageError(
            f"best.parallelism.prefill {layout.prefill} must leave one of {layout.replicas} replicas to decode"
        )
    used = layout.devices_per_replica * layout.replicas
    if used > machine.count:
        raise UsageError(
            f"best.parallelism asks for {used} devices (tensor × pipeline × data × replicas); {machine.label} has "
            f"{machine.count}"
        )
