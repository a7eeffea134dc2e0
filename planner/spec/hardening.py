"""The security pass as data: rules that must hold on what the planner writes, and reasoned exceptions."""

from __future__ import annotations

from typing import Literal

from planner.spec.base import Provenance, Spec

Subject = Literal["container", "pod", "object", "file", "service"]


class HardeningRule(Spec):
    """`subject` says what it is checked on; `like` names the checks of checkov that it equals."""

    id: str
    subject: Subject
    like: tuple[str, ...] = ()
    statement: str


class Waiver(Spec):
    """Where a rule need not hold, and why. An empty field does not narrow it."""

    rule: str
    kinds: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """Names of Compose services; a number behind one (`server-1`) is no difference."""
    because: str


class Hardening(Spec):
    """The file catalog/hardening.yaml."""

    schema_version: int
    provenance: Provenance
    rules: tuple[HardeningRule, ...]
    waivers: tuple[Waiver, ...]
