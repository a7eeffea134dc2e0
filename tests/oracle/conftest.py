"""A served tiny model for the clients of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from planner.engine.chat import ChatTemplate
    from planner.engine.engine import Engine
    from planner.engine.hf_config import from_hf
    from planner.engine.model import Model
    from planner.engine.scheduler import Limits
    from planner.engine.server import ApiServer
    from planner.engine.tokenizer import ByteTokenizer
    from tests.engine.checkpoints import LLAMA, random_weights

    model = Model(from_hf(LLAMA), random_weights(LLAMA))
    engine = Engine(model, ByteTokenizer(272), Limits(max_model_len=128))
    with ApiServer(engine, "tiny", ChatTemplate(None)) as server:
        yield server.url + "/v1"
