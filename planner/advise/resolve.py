"""The facts a plan rests on, with a hash of each, so that a plan file needs nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from planner.sources.local_calibration import sha256
from planner.spec.plan import Resolved

if TYPE_CHECKING:
    from planner.advise.brief import Brief
    from planner.spec.base import Spec
    from planner.spec.engine import EngineRelease


def resolved(brief: Brief, release: EngineRelease, calibration_sha256: str) -> Resolved:
    """Model, machine and release as the plan used them."""
    return Resolved(
        model=brief.model,
        machine=brief.machine,
        engine=release,
        model_sha256=digest(brief.model),
        machine_sha256=digest(brief.machine),
        engine_sha256=digest(release),
        calibration_sha256=calibration_sha256,
        local_calibration_sha256=sha256(brief.machine.corrections) if brief.machine.corrections else None,
    )


def digest(record: Spec) -> str:
    """SHA-256 of a record's canonical JSON."""
    canonical = json.dumps(record.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
