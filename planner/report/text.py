"""Why a plan is what it is, as plain text: the decision trace, then the refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.report.numbers import figure

if TYPE_CHECKING:
    from planner.errors import InfeasibleError
    from planner.spec.plan import Plan

_MAX_REFUSALS = 20


def explanation(plan: Plan) -> str:
    """Choice by choice: what was chosen, because of what, by which rule and source."""
    best = plan.best
    lines = [f"{best.model.checkpoint} on {best.hardware.label}", ""]
    lines.append("Choices")
    for reason in best.reasons:
        rule = f" [{reason.rule}]" if reason.rule else ""
        lines.append(f"  {reason.subject}: {reason.choice}{rule}")
        lines.append(f"    because {reason.because}")
        if reason.source:
            lines.append(f"    source: {reason.source}")
    lines += ["", "Decision trace"]
    for i, step in enumerate(plan.trace, 1):
        lines.append(f"  {i}. {step.rule} ({step.strength}): {step.statement}")
        lines += [f"       {name}: {value}" for name, value in step.inputs.items()]
        lines.append(f"     → {step.outcome}")
    if best.performance is not None:
        p = best.performance
        lines += ["", "Figures (80 % band)"]
        lines.append(f"  TTFT p50 {figure(p.ttft_ms.p50)}, p99 {figure(p.ttft_ms.p99)}")
        if p.itl_ms is not None:
            lines.append(f"  ITL p50 {figure(p.itl_ms.p50)}, p99 {figure(p.itl_ms.p99)}")
        lines.append(f"  throughput {figure(p.output_tokens_per_s)}")
    if plan.rejected:
        lines += ["", f"Refused ({len(plan.rejected)})"]
        lines += [f"  {r.candidate}: {r.reason} [{r.rule}]" for r in plan.rejected[:_MAX_REFUSALS]]
        if len(plan.rejected) > _MAX_REFUSALS:
            lines.append(f"  … and {len(plan.rejected) - _MAX_REFUSALS} more in plan.yaml")
    return "\n".join(lines) + "\n"


def ladder(error: InfeasibleError) -> str:
    """An infeasible request: why, then the ways out with their figures and commands."""
    lines = [str(error)]
    if error.remedies:
        lines += ["", "Ways out, least effort first:"]
    elif error.tried:
        lines += ["", "No single change that was tried is a way out."]
    else:
        lines += ["", "`planner recommend` with this model and machine looks for what runs."]
    for i, remedy in enumerate(error.remedies, 1):
        figures = ", ".join(f"{name} {value}" for name, value in remedy.figures.items() if name != "configuration")
        lines += [f"{i}. {remedy.action}: {remedy.detail}", f"   {figures}", f"   {remedy.command}"]
    return "\n".join(lines) + "\n"
