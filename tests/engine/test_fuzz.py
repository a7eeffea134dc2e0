"""Hostile bytes at every door: HTTP requests, JSON bodies, checkpoints. An error each time, never a crash or a leak."""

from __future__ import annotations

import json
import socket
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.engine.chat import ChatTemplate
from planner.engine.engine import Engine
from planner.engine.hf_config import from_hf
from planner.engine.http import HttpLimits
from planner.engine.load import load
from planner.engine.model import Model
from planner.engine.scheduler import Limits
from planner.engine.server import ApiServer
from planner.engine.tokenizer import ByteTokenizer
from planner.errors import PlannerError
from tests.engine.checkpoints import LLAMA, random_weights, save_checkpoint, save_gguf

LIMITS = HttpLimits(header_bytes=4096, body_bytes=20_000, receive_s=2.0, idle_s=2.0, send_s=2.0)
KNOWN = {200, 400, 404, 405, 411, 413, 414, 422, 431, 501, 503, 505}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    model = Model(from_hf(LLAMA), random_weights(LLAMA))
    engine = Engine(model, ByteTokenizer(LLAMA["vocab_size"]), Limits(max_model_len=64, max_num_seqs=4))
    with ApiServer(engine, "tiny", ChatTemplate(None), limits=LIMITS) as made:
        yield made


def answer(server: ApiServer, request: bytes) -> bytes:
    """All that comes back before the server closes, our side half-closed."""
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError:  # closed on us in the middle: the server's right
            pass
    return received


def statuses(received: bytes) -> list[int]:
    lines = [line for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    return [int(line.split()[1]) for line in lines]


def post(server: ApiServer, path: str, body: bytes) -> tuple[int, bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    received = answer(server, head.encode() + body)
    return statuses(received)[0], received.partition(b"\r\n\r\n")[2]


TOKENS = st.sampled_from(
    [b"GET", b"POST", b"HEAD", b"OPTIONS", b"/", b"/health", b"/v1/models", b"/v1/completions", b"/metrics", b" ",
     b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/9.9", b"\r\n", b"\n", b"\r\n\r\n", b"Host: x", b":", b"\0", b"\xff",
     b"Content-Length: ", b"0", b"5", b"-1", b"99999999999999999999", b"Transfer-Encoding: chunked", b"Expect: ",
     b"100-continue", b"Connection: keep-alive", b"a" * 300, b"{}", b'{"prompt":', b"%00", b"..", b"?x=y"]
)  # fmt: skip


@FUZZ
@given(st.lists(st.one_of(TOKENS, st.binary(max_size=12)), max_size=25).map(b"".join))
def test_no_bytes_break_the_http_parser(server: ApiServer, request_bytes: bytes) -> None:
    found = statuses(answer(server, request_bytes))
    assert set(found) <= KNOWN | {100}, (request_bytes, found)
    assert statuses(answer(server, b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")) == [200]


@FUZZ
@given(
    st.integers(0, 70),
    st.binary(min_size=1, max_size=6),
    st.sampled_from([b"/v1/completions", b"/v1/chat/completions"]),
)
def test_a_changed_request_is_answered_or_refused(server: ApiServer, at: int, piece: bytes, path: bytes) -> None:
    body = b'{"model":"tiny","prompt":"ab","messages":[{"role":"user","content":"ab"}],"max_tokens":2}'
    whole = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        path,
        len(body),
        body,
    )
    at = at * len(whole) // 71
    assert set(statuses(answer(server, whole[:at] + piece + whole[at + len(piece) :]))) <= KNOWN | {100}


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=12),
        st.sampled_from(["tiny", "user", "assistant", "json_schema", "json_object", "\ud800", "object", "string"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["role", "content", "type", "json_schema", "schema", "name", "properties", "include_usage", "text"]
    ), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
FIELDS = (
    "model", "prompt", "messages", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stream",
    "stream_options", "n", "logprobs", "response_format", "presence_penalty", "repetition_penalty", "ignore_eos",
    "max_completion_tokens", "logit_bias", "echo", "tools",
)  # fmt: skip


@FUZZ
@given(st.sampled_from(["/v1/completions", "/v1/chat/completions"]), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_json_breaks_the_api(server: ApiServer, path: str, changes: dict[str, Any]) -> None:
    valid = {"model": "tiny", "max_tokens": 3, "temperature": 0}
    valid |= {"prompt": "ab"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "ab"}]}
    status, body = post(server, path, json.dumps(valid | changes).encode("utf-8", "surrogatepass"))
    assert status in KNOWN, (changes, body[:200])
    if status != 200:
        assert json.loads(body)["error"]["message"]


def test_fuzzing_left_no_block_taken(server: ApiServer) -> None:
    assert post(server, "/v1/completions", b'{"model":"tiny","prompt":"ab","max_tokens":2}')[0] == 200
    assert not server.engine.has_work and server.engine.pool.n_used == 0


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    config = LLAMA | {"num_hidden_layers": 1, "tie_word_embeddings": True}
    weights = random_weights(config)
    return {
        "safetensors": save_checkpoint(folder / "hf", config, weights) / "model.safetensors",
        "config": folder / "hf" / "config.json",
        "gguf": save_gguf(folder / "tiny.gguf", config, weights, "Q8_0"),
    }


PIECES = st.sampled_from(
    [b"0", b"9", b"-", b".", b"e", b'"', b"[", b"{", b" ", b"\x00", b"\x01", b"a", b"F16", b"null"]
)


@pytest.mark.parametrize("kind", ["safetensors", "config", "gguf"])
@FUZZ
@given(data=st.data())
def test_a_damaged_checkpoint_loads_or_is_refused(kind: str, data: st.DataObject, checkpoints: dict[str, Path]) -> None:
    whole = checkpoints[kind].read_bytes()
    changed = bytearray(whole)
    header = min(len(whole), 2500)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, header - 1))
        piece = data.draw(st.one_of(PIECES, st.binary(min_size=1, max_size=8)))
        changed[at : at + len(piece)] = piece
    if data.draw(st.booleans()):
        del changed[data.draw(st.integers(0, len(changed) - 1)) :]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for other in ("safetensors", "config"):
            (folder / checkpoints[other].name).write_bytes(checkpoints[other].read_bytes())
        path = folder / checkpoints[kind].name
        path.write_bytes(bytes(changed))
        attempt: Callable[[], Any] = lambda: load(path if kind == "gguf" else folder)  # noqa: E731
        try:
            found = attempt()
        except PlannerError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert sum(value.nbytes for value in found.weights.values()) < 1 << 24
