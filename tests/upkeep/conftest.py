"""The Hub's server of the live sources' tests, for what refreshes the catalog from it."""

from __future__ import annotations

from tests.sources.conftest import site, workshop

__all__ = ["site", "workshop"]
