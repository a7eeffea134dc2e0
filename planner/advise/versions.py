"""The release that a request names: of a catalogued line, or said to be planned as the nearest one.

A version outside the catalogued range is an error: its files would name an image of quite another release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.advise.candidates import nearest_release
from planner.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.engine import EngineRelease
    from planner.spec.request import Request


def asked_release(catalog: Catalog, request: Request) -> tuple[str, ...]:
    """What to assume of the engine version that `request` names: nothing where its line (0.26) is catalogued.

    Raises UsageError without an engine, UnknownNameError for an engine or a version that no release is near.
    """
    version = request.engine_version
    if version is None:
        return ()
    if request.engine is None:
        raise UsageError("--engine-version needs --engine, e.g. --engine vllm --engine-version 0.33.0")
    releases = catalog.releases(request.engine)
    if not releases:
        known = sorted({r.engine for r in catalog.releases()})
        raise UnknownNameError("engine", request.engine, known, hint=f"known: {', '.join(known)}")
    release = catalogued_release(releases, version)
    if _line(release.version) == _line(version):
        return ()
    return (f"{request.engine} {version} is not catalogued; planned as {release.version}, image and flags included",)


def catalogued_release(releases: tuple[EngineRelease, ...], version: str) -> EngineRelease:
    """The release nearest to `version`. Raises UnknownNameError below the oldest and above the newest line."""
    lines = sorted(_line(release.version) for release in releases)
    if not any(c.isdigit() for c in version) or not lines[0] <= _line(version) <= lines[-1]:
        known = ", ".join(release.version for release in releases)
        raise UnknownNameError(f"version of {releases[0].engine}", version, hint=f"catalogued: {known}")
    return nearest_release(releases, version)


def _line(version: str) -> tuple[int, ...]:
    """Major and minor number."""
    from planner.sources.catalog import version_key

    return version_key(version)[:2]
