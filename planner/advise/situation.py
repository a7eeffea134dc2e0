"""What the decision guide looks at: the request with its facts resolved and its defaults filled in.

Knows what was asked and what is there; knows nothing of rules, and computes nothing but sums of
what it holds.
"""

from __future__ import annotations

from dataclasses import field

from planner.records import dataclass
from planner.spec.hardware import Machine
from planner.spec.model import ModelSpec
from planner.spec.request import Objective, Policy, Request, Requirement

PERSONAL_CONCURRENCY = 4
"""Requests at once that a personal tool is meant for; above it a deployment serves users."""

_PERSONAL_NEEDS: tuple[Requirement, ...] = ("simple", "prototype", "local")


@dataclass(frozen=True, slots=True)
class Situation:
    """One question, as predicates see it.

    `concurrency` and `objective` are after defaults (`request` says which were asked for).
    `quantization_kinds` are the kinds of weight format that request, quality floor and published
    checkpoints leave open; empty when nobody narrowed them. `smallest_weight_bytes` is the model in
    the smallest format still allowed, None when not known.
    """

    request: Request
    model: ModelSpec
    machine: Machine
    concurrency: int
    objective: Objective
    policy: Policy = "guide"
    quantization_kinds: frozenset[str] = field(default_factory=frozenset)
    smallest_weight_bytes: int | None = None

    def requires(self, requirement: Requirement) -> bool:
        """True when the user asked for `requirement` by name."""
        return requirement in self.request.require

    @property
    def personal(self) -> str | None:
        """The need that marks this as one person's own use, or None.

        Offline use of a server with several accelerators is an isolated deployment, not a desktop.
        """
        for need in _PERSONAL_NEEDS:
            if self.requires(need):
                return need
        return "offline" if self.requires("offline") and self.machine.count <= 1 else None

    @property
    def many_users(self) -> bool:
        """True when more requests run at once than a personal tool is meant for.

        A default concurrency does not count against somebody who asked for a personal setup.
        """
        if self.request.request_rate is not None or self.request.arrival == "poisson":
            return True
        asked = self.request.concurrency is not None
        return self.concurrency > PERSONAL_CONCURRENCY and (asked or self.personal is None)

    @property
    def node_memory_bytes(self) -> int:
        """Accelerator memory of one host; 0 without accelerators."""
        accelerator = self.machine.accelerator
        if accelerator is None:
            return 0
        return accelerator.usable_memory_bytes * min(self.machine.count, self.machine.devices_per_node)
