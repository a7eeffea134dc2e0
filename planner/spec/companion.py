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


class EnginePlugin(Spec):
    """A package that a stock engine image lacks. `requirements` are all pinned, the plugin itself first."""

    id: str
    engine: str
    requirements: tuple[str, ...]
    entry_point: str
    """Its name in the group that the engine loads plugins from; an image without it was built in vain."""
    platforms: tuple[Platform, ...]
    """Where the published wheel runs."""
    note: str = ""
    provenance: Provenance


class Companions(Spec):
    """The file catalog/companions.yaml."""

    schema_version: int
    images: tuple[CompanionImage, ...]
    endpoint_instances: tuple[EndpointInstance, ...]
    plugins: tuple[EnginePlugin, ...] = ()


class Query(Spec):
    """One line of a panel: PromQL and its legend."""

    expr: str
    legend: str


class Panel(Spec):
    """One graph of the ready dashboard. `unit` is Grafana's; `planned` names the plan's figure to draw."""

    title: str
    unit: str
    planned: str | None = None
    queries: tuple[Query, ...]


class Monitoring(Spec):
    """The file catalog/monitoring.yaml: engine → panels."""

    schema_version: int
    provenance: Provenance
    engines: dict[str, tuple[Panel, ...]]
