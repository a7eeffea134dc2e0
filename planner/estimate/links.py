"""What joins the devices of a group, and how an engine reduces over it.

Knows links and the rules of a release; `ops` has the seconds.
"""

from __future__ import annotations

from typing import Final

from planner.records import dataclass
from planner.spec.engine import Defaults, FusedReduction
from planner.spec.hardware import Machine

SLOW_LINK_BYTES_PER_S: Final = 10e9
SLOW_LINK_S: Final = 2e-5
"""Link between devices of which neither link nor PCIe is known: PCIe 3.0 x16 in practice."""


@dataclass(frozen=True, slots=True)
class Link:
    """What devices of one group reduce over, or hand a hidden state on through."""

    bytes_per_s: float
    latency_s: float
    reduces: bool = False


def link_of(machine: Machine, devices: int) -> Link:
    """The narrowest link that joins `devices` devices of `machine`."""
    if devices > machine.devices_per_node and machine.network is not None:
        return Link(machine.network.bandwidth_bytes_per_s, machine.network.latency_s)
    link = machine.link
    if link is not None and (link.max_devices is None or devices <= link.max_devices):
        return Link(link.bandwidth_bytes_per_s, link.latency_s, link.reduces)
    if machine.pcie is not None:
        return Link(machine.pcie.bandwidth_bytes_per_s, machine.pcie.latency_s)
    return Link(SLOW_LINK_BYTES_PER_S, SLOW_LINK_S)


def one_stage_bytes(defaults: Defaults, machine: Machine, devices: int) -> float | None:
    """Payload from which on an all-reduce of `devices` takes two stages; None where its engine has no such rule.

    Two devices always take one, which is shorter.
    """
    a = machine.accelerator
    if a is None or devices <= 2 or not _writes_across(machine, devices):
        return None
    if fused := _fused(defaults, machine, devices):
        return fused.one_stage_bytes + 1.0
    plain = (r for r in defaults.one_stage if r.platform == a.platform and devices <= r.devices)
    best = min(plain, key=lambda r: r.devices, default=None)
    return float(best.bytes) if best else None


def fused_bytes(defaults: Defaults, machine: Machine, devices: int) -> float:
    """Payload up to which the norm behind an all-reduce of `devices` is part of it; 0 where it never is."""
    rule = _fused(defaults, machine, devices)
    return float(rule.most_bytes) if rule else 0.0


def _fused(defaults: Defaults, machine: Machine, devices: int) -> FusedReduction | None:
    """The rule of the fused kernels for a group."""
    a = machine.accelerator
    if a is None or not defaults.fused_all_reduce or not _writes_across(machine, devices):
        return None
    group = (devices, (a.sm or 0) / 10)
    return next((r for r in defaults.fused_reductions if (r.devices, r.compute_capability) == group), None)


def _writes_across(machine: Machine, devices: int) -> bool:
    """Whether kernels may write to each other's memory: `devices` of one node that a fast link joins."""
    link = machine.link
    return link is not None and 1 < devices <= min(machine.devices_per_node, link.max_devices or devices)
