"""The public names: complete, importable, and callable whatever was imported before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import planner


@pytest.mark.parametrize("name", planner.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(planner, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="speculate"):
        planner.speculate  # noqa: B018


def test_estimate_is_callable_before_and_after_its_room_is_imported() -> None:
    code = (
        "import planner; a = planner.estimate('llama3-8b', '1xH100', max_model_len=8192);"
        "import planner.estimate.memory as room; from planner.estimate import weights;"
        "b = planner.estimate('llama3-8b', '1xH100', max_model_len=8192);"
        "assert a == b and room.ledger and weights.weight_bytes"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wrong_values_are_value_errors_too() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        planner.recommend(model="llama3-8b", gpus="1xH100", concurrency=0)
    with pytest.raises(LookupError, match="llama3-8b"):
        planner.recommend(model="lama3-8b", gpus="1xH100")
    with pytest.raises(planner.UsageError, match="speed"):
        planner.recommend(model="llama3-8b", gpus="1xH100", speed="fast")
