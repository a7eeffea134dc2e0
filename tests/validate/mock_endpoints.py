"""Small servers that speak OpenAI's, TGI's, Ollama's and llama.cpp's protocol, with faults that can be switched on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
VLLM_METRICS = (
    '# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1.0\n'
    'vllm:num_preemptions_total{model_name="mock"} 0.0\n'
)


class Mock(BaseHTTPRequestHandler):
    """`faults` is a set of words; `protocol` is vllm, tgi, ollama or llamacpp."""

    protocol_version = "HTTP/1.1"
    protocol, faults, model, context, delay_s = "vllm", frozenset[str](), "mock", 256, 0.0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        known: dict[str, Any] = {
            "/v1/models": {"object": "list", "data": [{"id": self.model, "max_model_len": self.context}]},
        }
        if "unlisted" in self.faults:
            known["/v1/models"]["data"] = []
        if "locked" in self.faults:
            return self._error(401, "a key is needed")
        if self.protocol == "llamacpp":
            known["/v1/models"]["data"] = [{"id": self.model}]
            settings = {"n_ctx": "many" if "native" in self.faults else self.context}
            known["/props"] = {"total_slots": 4, "default_generation_settings": settings}
        if self.protocol == "tgi":
            known["/v1/models"]["data"] = [{"id": self.model}]
            known["/info"] = {
                "model_id": "m", "max_input_tokens": 255, "max_total_tokens": 256, "max_concurrent_requests": 8,
            }  # fmt: skip
        if self.protocol == "ollama":
            known |= {
                "/api/version": {"version": "0.33.0"},
                "/api/tags": {"models": [{"name": f"{self.model}:latest"}]},
            }
        if self.path == "/health" and self.protocol != "ollama" and "health" not in self.faults:
            return self._send(200, b"")
        if self.path == "/metrics" and self.protocol == "vllm":
            return self._send(200, VLLM_METRICS.encode(), "text/plain")
        return self._json(200, known[self.path]) if self.path in known else self._json(404, {"error": "not found"})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        if "drops" in self.faults:
            self.close_connection = True
            return None
        try:
            body = json.loads(raw)
        except ValueError:
            return self._error(500 if "errors" in self.faults else 400, "not JSON")
        handler = {
            "/v1/chat/completions": self._openai, "/v1/completions": self._openai, "/generate": self._tgi,
            "/generate_stream": self._tgi, "/api/generate": self._ollama, "/api/chat": self._ollama,
            "/completion": self._llamacpp,
        }.get(self.path)  # fmt: skip
        own = {"tgi": "/gen", "ollama": "/api", "llamacpp": "/completion"}.get(self.protocol, "-")
        allowed = self.path.startswith("/v1") or own in self.path
        return handler(body) if handler and allowed else self._json(404, {"error": "not found"})

    def _openai(self, body: dict[str, Any]) -> None:
        chat = "chat" in self.path
        if chat and not body.get("messages"):
            return self._error(400, "messages are missing")
        if not isinstance(body.get("temperature", 0), int | float):
            return self._error(422, "temperature is no number")
        if body.get("model") != self.model and self.protocol not in ("tgi", "llamacpp"):
            return self._error(404, "no such model")
        if "ignore_eos" in body and "strict" in self.faults:
            return self._error(400, "ignore_eos is unknown")
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        n_prompt = len(prompt.split())
        if n_prompt + body["max_tokens"] > self.context:
            if self.protocol == "ollama":
                n_prompt = self.context // 2
            elif "overlong" not in self.faults:
                return self._error(400, "This model's maximum context length is 256 tokens")
        if body.get("response_format"):
            words = ['{"city": "Rome",', '"large": true}'] if "schema" not in self.faults else ["Rome"]
        else:
            words = [WORDS[i % 10] for i in range(body["max_tokens"] + ("max_tokens" in self.faults))]
            if body.get("seed") and "seed" in self.faults:
                words[0] = str(time.perf_counter_ns())
        if "mumbles" in self.faults and "five" in prompt:  # of the usual prompt nothing can be read
            words = ["\ufffd"] * len(words)
        text, reason = " ".join(words), "length"
        for stop in body.get("stop") or []:
            if stop in text:
                text, reason = text[: text.index(stop) + (len(stop) if "stop" in self.faults else 0)], "stop"
        n_output = len(text.split())
        total = n_prompt + n_output + ("usage" in self.faults)
        usage = {"prompt_tokens": n_prompt, "completion_tokens": n_output, "total_tokens": total}
        kind = "chat.completion" if chat else "text_completion"
        if not body.get("stream"):
            said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            choice = {"index": 0, "finish_reason": reason, **said}
            body = {"object": kind, "choices": None if "mute" in self.faults else [choice], "usage": usage}
            return self._json(200, {k: v for k, v in body.items() if k != "usage" or "uncounted" not in self.faults})
        chunks: list[dict[str, Any]] = []
        pieces = text.split(" ")
        for i, word in enumerate(pieces):
            piece = word if i == len(pieces) - 1 else word + " "
            said = {"delta": {"content": piece}} if chat else {"text": piece}
            last = reason if i == len(pieces) - 1 and "finish" not in self.faults else None
            chunks.append({"choices": [{"index": 0, "finish_reason": last, **said}]})
        chunks.append({"choices": [], "usage": usage})
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        return self._stream(events + ([] if "done" in self.faults else ["data: [DONE]\n\n"]), "text/event-stream")

    def _tgi(self, body: dict[str, Any]) -> None:
        n = body["parameters"]["max_new_tokens"] + ("native" in self.faults)
        text = " ".join(WORDS[:n])
        if self.path == "/generate":
            details = {"generated_tokens": n, "finish_reason": "length"}
            return self._json(200, {"generated_text": text, "details": details})
        chunks: list[dict[str, Any]] = [{"token": {"text": word}, "generated_text": None} for word in WORDS[:n]]
        chunks[-1]["generated_text"] = None if "native" in self.faults else text
        return self._stream([f"data:{json.dumps(chunk)}\n\n" for chunk in chunks], "text/event-stream")

    def _llamacpp(self, body: dict[str, Any]) -> None:
        n = body["n_predict"] + ("native" in self.faults)
        self._json(200, {"content": " ".join(WORDS[:n]), "tokens_predicted": n, "stop_type": "limit"})

    def _ollama(self, body: dict[str, Any]) -> None:
        n = body["options"]["num_predict"] + ("native" in self.faults)
        text = " ".join(WORDS[:n])
        end = {"done": "native" not in self.faults, "done_reason": "length", "eval_count": n}
        if body.get("stream") is False:
            chat = self.path == "/api/chat"
            return self._json(200, end | ({"message": {"content": text}} if chat else {"response": text}))
        lines = [{"response": word, "done": False} for word in WORDS[:n]] + [end | {"response": ""}]
        return self._stream([json.dumps(line) + "\n" for line in lines], "application/x-ndjson")

    def _stream(self, events: list[str], kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            time.sleep(self.delay_s)
            data = event.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _error(self, status: int, message: str) -> None:
        self._json(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def _json(self, status: int, body: Any) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(protocol: str = "vllm", *faults: str, **options: Any) -> Iterator[str]:
    """The URL of a mock that runs until the block ends."""
    handler = type("Bound", (Mock,), {"protocol": protocol, "faults": frozenset(faults), **options})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
