"""The assumption lines of configurations that rest on this user's own measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.spec.hardware import Machine
    from planner.spec.plan import Configuration


def calibrated_here(machine: Machine, *configurations: Configuration) -> tuple[str, ...]:
    """One line for each engine whose figures `planner calibrate` moved; none without local corrections."""
    if not machine.corrections:
        return ()
    from planner.estimate.local import said

    lines = (
        said(machine.corrections, c.engine.name, c.engine.version, c.model.id, c.quantization)
        for c in configurations
        if _moved(c)
    )
    return tuple(dict.fromkeys(line for line in lines if line))


def _moved(c: Configuration) -> bool:
    """True when a figure or a row of memory rests on a measurement made here."""
    found = {row.basis for row in c.memory.rows}
    if c.performance is not None:
        itl = c.performance.itl_ms
        found |= {c.performance.ttft_ms.p50.basis, c.performance.output_tokens_per_s.basis}
        found |= {itl.p50.basis} if itl else set()
    return "calibrated here" in found
