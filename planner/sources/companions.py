"""catalog/companions.yaml, monitoring.yaml and migration.yaml: what targets start, rent, show and tell clients.

Read once, never on a cold start.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from planner.errors import CatalogError
from planner.spec.companion import CompanionImage, Companions, EnginePlugin, Monitoring, Panel

if TYPE_CHECKING:
    from planner.spec.migration import MigrationRow


@cache
def companions() -> Companions:
    """Images and instances. Raises CatalogError when the file is damaged."""
    from planner.sources.catalog import load

    return load().record("companions", Companions)


@cache
def _monitoring() -> Monitoring:
    from planner.sources.catalog import load

    return load().record("monitoring", Monitoring)


def monitoring_panels(engine: str) -> tuple[Panel, ...]:
    """The dashboard of `engine`, empty when none is catalogued. Raises CatalogError when the file is damaged."""
    return _monitoring().engines.get(engine, ())


def companion_image(name: str) -> CompanionImage:
    """The image with this id. Raises CatalogError when the file lacks it."""
    for image in companions().images:
        if image.id == name:
            return image
    raise CatalogError(f"companions.yaml has no image {name!r}")


def engine_plugin(name: str) -> EnginePlugin | None:
    """The plugin with this id, None when it is not catalogued. Raises CatalogError when the file is damaged."""
    return next((plugin for plugin in companions().plugins if plugin.id == name), None)


@cache
def migration_rows() -> tuple[MigrationRow, ...]:
    """What changes for a client from Ollama to vLLM. Raises CatalogError when the file is damaged."""
    from planner.sources.catalog import load
    from planner.spec.migration import Migration

    return load().record("migration", Migration).rows
