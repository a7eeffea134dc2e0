"""OpenAI's HTTP API over one engine: models, completions, chat, health and metrics.

Joins `http` (sockets and limits), `protocol` (JSON) and `loop` (the engine's thread). Too long a prompt is a 400, a
full queue a 503 with Retry-After; a client that goes away gives its blocks back.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from typing import Any

from planner.engine.chat import ChatTemplate
from planner.engine.engine import Engine, Output
from planner.engine.http import Handler, HttpError, HttpLimits, Server, error_object
from planner.engine.loop import EngineLoop, EngineStoppedError, Ticket
from planner.engine.metrics import Metrics
from planner.engine.params import QueueFullError, RequestError
from planner.engine.protocol import Call, Kind, Reply, UnknownModelError, parse_call, usage

POLL_S = 0.2
RETRY_AFTER_S = 1
LAST_BYTES_S = 1.0
"""How long a stop waits at least for answers that are complete to reach their clients."""


class ApiServer:
    """Serves `engine` under `model_name` on 127.0.0.1; `port` 0 takes a free one. Use `start` and `stop`, or `with`."""

    def __init__(
        self,
        engine: Engine,
        model_name: str,
        template: ChatTemplate,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: HttpLimits | None = None,
    ) -> None:
        self.engine, self.model_name, self.template = engine, model_name, template
        self.metrics = Metrics(model_name)
        self.loop = EngineLoop(engine, self.metrics)
        self.created = int(time.time())
        handler = type("BoundHandler", (ApiHandler,), {"api": self})
        self._http = Server((host, port), handler, limits or HttpLimits())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="http", daemon=True)

    @property
    def url(self) -> str:
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        self.loop.start()
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Stop accepting, finish what runs within `timeout_s`; True when nothing was cut off."""
        end = time.monotonic() + timeout_s
        self._http.shutdown()
        self._http.server_close()  # who comes now is turned away at once
        finished = self.loop.stop(timeout_s)
        finished = self._http.drained(max(LAST_BYTES_S, end - time.monotonic())) and finished
        self._thread.join()
        return finished

    def __enter__(self) -> ApiServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class ApiHandler(Handler):
    """The routes."""

    api: ApiServer

    def health(self) -> None:
        if not self.api.loop.alive:
            raise _stopped("the engine is not running")
        self.reply(200, b"", "text/plain")

    def metrics(self) -> None:
        self.reply(200, self.api.metrics.text().encode(), "text/plain; version=0.0.4; charset=utf-8")

    def models(self) -> None:
        entry = {
            "id": self.api.model_name,
            "object": "model",
            "created": self.api.created,
            "owned_by": "planner",
            "max_model_len": self.api.engine.limits.max_model_len,
        }
        self.reply_json(200, {"object": "list", "data": [entry]})

    def chat(self) -> None:
        self._complete("chat")

    def completion(self) -> None:
        self._complete("completion")

    def _complete(self, kind: Kind) -> None:
        api = self.api
        try:
            call = parse_call(kind, self.body(), api.model_name, api.engine.tokenizer, api.template)
            ticket = api.loop.submit(call.prompt, call.params)
        except RequestError as error:
            raise _refusal(error) from None
        except EngineStoppedError as error:
            raise _stopped(str(error)) from None
        try:
            reply = Reply(call, api.model_name)
            if call.stream:
                self._stream(call, reply, ticket)
            else:
                self._whole(reply, ticket)
        except BaseException:
            api.loop.cancel(ticket)
            raise

    def _whole(self, reply: Reply, ticket: Ticket) -> None:
        text: list[str] = []
        look = time.monotonic() + POLL_S
        while True:
            output = self._next(ticket)
            text.append(output.text)
            if time.monotonic() > look:
                if self.client_left():
                    raise ConnectionError("the client has left")
                look = time.monotonic() + POLL_S
            if output.finish_reason is not None:
                self.reply_json(200, reply.whole("".join(text), output.finish_reason, _usage(output)))
                return

    def _stream(self, call: Call, reply: Reply, ticket: Ticket) -> None:
        output = self._next(ticket)  # an error here is still a proper answer
        self.begin_stream()
        first = reply.first_chunk()
        if first is not None:
            self._event(first)
        while True:
            if output.text or output.finish_reason:
                self._event(reply.chunk(output.text, output.finish_reason))
            if output.finish_reason is not None:
                break
            try:
                output = self._next(ticket)
            except HttpError as error:  # the engine stopped in the middle
                self._event(error.body)
                break
        if call.include_usage and output.finish_reason is not None:
            self._event(reply.usage_chunk(_usage(output)))
        self.send_event("[DONE]")
        self.end_stream()

    def _event(self, body: Any) -> None:
        self.send_event(json.dumps(body, ensure_ascii=False))

    def _next(self, ticket: Ticket) -> Output:
        """The next output. Raises HttpError for a refusal, ConnectionError when the client has left."""
        while True:
            try:
                output = ticket.outputs.get(timeout=POLL_S)
            except queue.Empty:
                if self.client_left():
                    raise ConnectionError("the client has left") from None
                continue
            if isinstance(output, Output):
                return output
            if isinstance(output, RequestError):
                raise _refusal(output)
            if isinstance(output, QueueFullError):
                body = error_object(str(output), "server_error", "queue_full")
                raise HttpError(503, body, {"Retry-After": str(RETRY_AFTER_S)})
            raise _stopped(str(output))

    routes = {  # noqa: RUF012 - never changed
        ("GET", "/health"): health,
        ("GET", "/metrics"): metrics,
        ("GET", "/v1/models"): models,
        ("POST", "/v1/chat/completions"): chat,
        ("POST", "/v1/completions"): completion,
    }


def _usage(output: Output) -> dict[str, Any]:
    return usage(output.n_prompt, output.n_output, output.n_cached)


def _refusal(error: RequestError) -> HttpError:
    if isinstance(error, UnknownModelError):
        return HttpError(404, error_object(str(error), "invalid_request_error", "model_not_found", error.param))
    code = "context_length_exceeded" if "maximum context length" in str(error) else None
    return HttpError(400, error_object(str(error), "invalid_request_error", code, error.param))


def _stopped(message: str) -> HttpError:
    return HttpError(503, error_object(message, "server_error", "engine_stopped"), {"Retry-After": str(RETRY_AFTER_S)})
