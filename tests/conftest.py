"""Shared fixtures: one catalog, and an index cache of the test run's own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog

os.environ["PLANNER_OFFLINE"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads only wait for each other
os.environ["PLANNER_DATA_DIR"] = str(Path(tempfile.gettempdir()) / "planner-test-without-store")
os.environ.setdefault("PLANNER_CACHE_DIR", str(Path(tempfile.gettempdir()) / "planner-test-cache"))


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The catalog of this checkout."""
    from planner.sources.catalog import load

    return load()
