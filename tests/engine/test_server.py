"""The HTTP API: OpenAI's objects and errors, limits on what a client controls, and nothing left behind."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from planner.engine.chat import ChatTemplate
from planner.engine.engine import Engine
from planner.engine.http import HttpLimits
from planner.engine.server import ApiServer

MakeEngine = Callable[..., Engine]
Json = dict[str, Any]
LIMITS = HttpLimits(header_bytes=4096, body_bytes=20_000, receive_s=1.0, idle_s=1.0, send_s=2.0, connections=80)


@pytest.fixture
def serve(make_engine: MakeEngine) -> Iterator[Callable[..., ApiServer]]:
    servers: list[ApiServer] = []

    def start(limits: HttpLimits = LIMITS, **options: Any) -> ApiServer:
        server = ApiServer(make_engine(**options), "tiny", ChatTemplate(None), limits=limits)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(5)


def connect(server: ApiServer) -> http.client.HTTPConnection:
    address = urllib.parse.urlsplit(server.url)
    return http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)


def call(server: ApiServer, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    connection = connect(server)
    try:
        connection.request(method, path, body if isinstance(body, bytes | None) else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def post(server: ApiServer, path: str, **body: Any) -> tuple[int, Json]:
    status, _, data = call(server, "POST", path, body)
    return status, json.loads(data)


def raw(server: ApiServer) -> socket.socket:
    address = urllib.parse.urlsplit(server.url)
    return socket.create_connection((str(address.hostname), address.port), timeout=10)


def settled(server: ApiServer) -> bool:
    """The engine comes to rest with every block free."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if not server.engine.has_work and server.engine.pool.n_used == 0:
            return True
        time.sleep(0.02)
    return False


def finished(server: ApiServer) -> dict[str, float]:
    """Requests that ended, by reason."""
    pattern = r'request_success_total\{finished_reason="(\w+)",model_name="tiny"\} (\S+)'
    return {reason: float(count) for reason, count in re.findall(pattern, server.metrics.text())}


CHAT: Json = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, "seed": 1, "ignore_eos": True}


def test_models_and_health(serve: Callable[..., ApiServer]) -> None:
    server = serve(max_model_len=96)
    assert call(server, "GET", "/health")[0] == 200
    (model,) = json.loads(call(server, "GET", "/v1/models")[2])["data"]
    assert (model["id"], model["object"], model["max_model_len"]) == ("tiny", "model", 96)


def test_a_chat_completion_has_text_reason_and_usage(serve: Callable[..., ApiServer]) -> None:
    status, answer = post(serve(), "/v1/chat/completions", model="tiny", **CHAT)
    assert status == 200 and answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length" and choice["message"]["role"] == "assistant"
    used = answer["usage"]
    assert (used["completion_tokens"], used["total_tokens"]) == (6, used["prompt_tokens"] + 6)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_is_the_whole_answer_in_pieces(path: str, serve: Callable[..., ApiServer]) -> None:
    server = serve()
    body = CHAT if "chat" in path else {k: v for k, v in CHAT.items() if k != "messages"} | {"prompt": "hello"}
    body = body | {"max_tokens": 40}
    whole = post(server, path, **body)[1]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    status, headers, data = call(server, "POST", path, body | options)
    assert status == 200 and headers["Content-Type"].startswith("text/event-stream")
    events = [e.removeprefix("data: ") for e in data.decode().split("\n\n") if e]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(e) for e in events]
    last = chunks.pop()
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 40
    choices = [c["choices"][0] for c in chunks]
    text = "".join(c["delta"].get("content", "") if "chat" in path else c["text"] for c in choices)
    expected = whole["choices"][0]
    assert text == (expected["message"]["content"] if "chat" in path else expected["text"])
    assert [c["finish_reason"] for c in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["finish_reason"] == "length"


def test_json_schema_output_is_valid(serve: Callable[..., ApiServer]) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    _, answer = post(serve(), "/v1/chat/completions", **CHAT | {"max_tokens": 40, "response_format": form})
    assert isinstance(json.loads(answer["choices"][0]["message"]["content"])["n"], int)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"max_tokens": 500}, 400, "maximum context length"),
        ({"messages": [{"role": "user", "content": "x" * 500}]}, 400, "maximum context length"),
        ({"model": "other"}, 404, "does not exist"),
        ({"n": 2}, 400, "n must be 1"),
        ({"temperature": 3}, 400, "temperature must be from 0 to 2"),
        ({"temperature": "hot"}, 400, "temperature must be of type float"),
        ({"temperature": True}, 400, "temperature must be of type float"),
        ({"max_tokens": 0}, 400, "max_tokens must be at least 1"),
        ({"stop": [1]}, 400, "stop"),
        ({"tools": [{}]}, 400, "tools is not implemented"),
        ({"logprobs": True}, 400, "logprobs is not implemented"),
        ({"temprature": 1}, 400, "nearest: temperature"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "only text"),
        ({"response_format": {"type": "yaml"}}, 400, "yaml"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "a"}}}},
         400, "pattern"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_request_is_an_error_object(
    change: Json, status: int, words: str, serve: Callable[..., ApiServer]
) -> None:
    got, answer = post(serve(), "/v1/chat/completions", **CHAT | change)
    assert got == status and words in answer["error"]["message"]
    assert answer["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("GET", "/v1/completions", None, 405),
        ("POST", "/v1/completions", b"{", 400),
        ("POST", "/v1/completions", b"[" * 10_000, 400),
        ("POST", "/v1/completions", b"[]", 400),
        ("POST", "/v1/completions", b"\xff", 400),
        ("POST", "/v1/completions", b"x" * 30_000, 413),
        ("POST", "/v1/completions", None, 411),
    ],
)
def test_a_wrong_call_is_an_error(
    method: str, path: str, body: bytes | None, status: int, serve: Callable[..., ApiServer]
) -> None:
    server = serve()
    if status == 411:
        with raw(server) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 411 " in client.recv(4096)
        return
    got, _, data = call(server, method, path, body)
    assert got == status and "message" in json.loads(data)["error"]


def test_past_the_queue_bound_is_a_503_with_retry_after(serve: Callable[..., ApiServer]) -> None:
    server = serve(max_num_seqs=1, queue=1, max_model_len=512)
    body = {"prompt": "x", "max_tokens": 400, "ignore_eos": True}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: call(server, "POST", "/v1/completions", body), range(12)))
    assert {status for status, _, _ in answers} == {200, 503}
    refused = [headers for status, headers, _ in answers if status == 503]
    assert all(headers["Retry-After"] == "1" for headers in refused)
    told = {json.loads(data)["error"]["message"] for status, _, data in answers if status == 503}
    assert told == {"the server is full (at most 1 running and 1 waiting); try again later"}
    assert settled(server)


def test_concurrent_streams_give_the_text_of_one_alone(serve: Callable[..., ApiServer]) -> None:
    server = serve(max_num_seqs=8, max_num_batched_tokens=32)
    bodies = [{"prompt": f"number {i}", "max_tokens": 20, "temperature": 0, "ignore_eos": True} for i in range(24)]

    def text(body: Json) -> str:
        return str(post(server, "/v1/completions", **body)[1]["choices"][0]["text"])

    alone = [text(body) for body in bodies]
    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(text, bodies)) == alone


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_leave_give_their_blocks_back(stream: bool, serve: Callable[..., ApiServer]) -> None:
    server = serve(max_model_len=512, max_num_seqs=4)
    body = json.dumps({"prompt": "x", "max_tokens": 500, "stream": stream, "ignore_eos": True}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(20):
        with raw(server) as client:
            client.sendall(head + body)
            if stream:
                client.recv(10)
    end = time.monotonic() + 20
    while sum(finished(server).values()) < 20 and time.monotonic() < end:
        time.sleep(0.02)
    assert sum(finished(server).values()) == 20 and finished(server)["abort"] >= 15
    assert settled(server)


def test_many_connects_and_disconnects_leave_nothing(serve: Callable[..., ApiServer]) -> None:
    server = serve()
    before = threading.active_count()
    for i in range(300):
        with raw(server) as client:
            client.sendall((b"", b"GET /health", b"POST /v1/completions HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")[i % 3])
    assert call(server, "GET", "/health")[0] == 200
    assert settled(server)
    end = time.monotonic() + 5
    while threading.active_count() > before + 1 and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before + 1


def test_slow_and_greedy_clients_are_dropped(serve: Callable[..., ApiServer]) -> None:
    server = serve()
    with raw(server) as slow:
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\n")
        began = time.monotonic()
        assert slow.recv(100) == b"" and time.monotonic() - began < 4
    with raw(server) as greedy:
        greedy.sendall(b"GET / HTTP/1.1\r\nX: " + b"y" * 8000)
        assert b" 431 " in greedy.recv(100)
    assert call(server, "GET", "/health")[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n", 400),  # TLS to a port that speaks none
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"BREW / HTTP/1.1\r\n\r\n", 501),
        (b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n", 431),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\n{}{}", 411),
    ],
    ids=["garbage", "tls", "http2", "method", "long line", "many headers", "two lengths"],
)
def test_what_is_no_request_gets_the_error_object_too(
    sent: bytes, status: int, serve: Callable[..., ApiServer]
) -> None:
    with raw(serve()) as client:
        client.sendall(sent)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == status and answer.getheader("Content-Type") == "application/json"
        assert json.loads(answer.read())["error"].keys() == {"message", "type", "param", "code"}


def test_a_client_that_sends_too_much_reads_why(serve: Callable[..., ApiServer]) -> None:
    status, _, data = call(serve(), "POST", "/v1/completions", b"x" * (8 << 20))
    assert status == 413 and "the limit is 20000" in json.loads(data)["error"]["message"]


def test_connections_are_bounded(serve: Callable[..., ApiServer]) -> None:
    server = serve(HttpLimits(connections=2, idle_s=5))
    held = [raw(server) for _ in range(2)]
    time.sleep(0.2)
    with raw(server) as client:
        answer = client.recv(1000)
        assert b" 503 " in answer and b'"message": "too many connections"' in answer
    for client in held:
        client.close()


def test_metrics_have_vllms_names(serve: Callable[..., ApiServer]) -> None:
    server = serve()
    post(server, "/v1/chat/completions", **CHAT)
    text = call(server, "GET", "/metrics")[2].decode()
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert f'vllm:{name}{{model_name="tiny"}} 0.0' in text
    assert 'vllm:generation_tokens_total{model_name="tiny"} 6.0' in text
    assert 'vllm:time_to_first_token_seconds_count{model_name="tiny"} 1' in text
    assert 'vllm:request_success_total{finished_reason="length",model_name="tiny"} 1.0' in text


def test_shutdown_finishes_what_runs(serve: Callable[..., ApiServer]) -> None:
    server = serve(max_model_len=512)
    with ThreadPoolExecutor(1) as pool:
        body = {"prompt": "x", "max_tokens": 300, "ignore_eos": True}
        answer = pool.submit(post, server, "/v1/completions", **body)
        while not server.engine.has_work:
            time.sleep(0.005)
        assert server.stop(20)
        status, value = answer.result()
    assert status == 200 and value["usage"]["completion_tokens"] == 300


def test_shutdown_does_not_wait_for_ever(serve: Callable[..., ApiServer]) -> None:
    server = serve(max_model_len=512)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, server, "/v1/completions", prompt="x", max_tokens=500, ignore_eos=True)
        while not server.engine.has_work:
            time.sleep(0.005)
        assert not server.stop(0.01)
        status, value = answer.result()
    assert status == 503 and "stopped" in value["error"]["message"]
