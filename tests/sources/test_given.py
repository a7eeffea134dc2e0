"""Files that a user names are read up to a bound, whatever they are."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import planner
from planner.api import load_plan
from planner.cli.request import read_request
from planner.errors import UsageError
from planner.sources.given import read_given
from planner.sources.lengths import read_lengths

ENDLESS = Path("/dev/zero")


def test_a_file_is_read_whole_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("äb", encoding="utf-8")
    assert read_given(path, 3) == "äb"
    with pytest.raises(UsageError, match="larger"):
        read_given(path, 2)


@pytest.mark.skipif(not ENDLESS.exists(), reason="no such device here")
@pytest.mark.parametrize("read", [read_request, load_plan, read_lengths], ids=lambda f: f.__name__)
def test_a_device_without_an_end_is_refused_in_one_line(read: object) -> None:
    assert callable(read)
    with pytest.raises(UsageError, match="larger than"):
        read(ENDLESS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_request_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "request.yaml"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("model: llama3-8b\ngpus: 1xH100\n",))
    writer.start()
    assert read_request(pipe) == {"model": "llama3-8b", "gpus": "1xH100"}
    writer.join()


def test_a_plan_is_loaded_from_a_folder(tmp_path: Path) -> None:
    rec = planner.recommend(model="llama3-8b", gpus="1xH100")
    rec.save(tmp_path / "out")
    assert load_plan(tmp_path / "out") == rec.plan
