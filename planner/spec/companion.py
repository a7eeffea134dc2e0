"""Images and rentable instances that are no engine release: what third-party targets start."""

from __future__ import annotations

from planner.spec.base import Provenance, Spec
from planner.spec.hardware import Platform


class CompanionImage(Spec):
    """An image that a target puts beside, or in the place of, the planned one.

    `engine_version` is the engine inside when somebody has stated it; None: not known, so the planned
    flags are unverified there.
    """

    id: str
    reference: str
    platform: Platform | None = None
    engine: str | None = None
    engine_version: str | None = None
    arbitrary_user: bool = False
    note: str = ""
    provenance: Provenance


class EndpointInstance(Spec):
    """One kind of instance of Hugging Face Inference Endpoints. `counts` are accelerators per instance."""

    vendor: str
    region: str
    instance_type: str
    accelerator: str
    """Id of an Accelerator."""
    counts: tuple[int, ...]
    provenance: Provenance


class Companions(Spec):
    """The file catalog/companions.yaml."""

    schema_version: int
    images: tuple[CompanionImage, ...]
    endpoint_instances: tuple[EndpointInstance, ...]
