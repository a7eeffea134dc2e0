"""OpenAI's JSON, both ways: a request body to prompt and parameters, outputs to response objects.

What is not implemented is refused by name, and so is a field that nobody knows. Knows nothing of sockets.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Literal

from planner.engine.chat import ChatTemplate
from planner.engine.params import RequestError, SamplingParams
from planner.engine.tokenizer import Tokenizer
from planner.errors import nearest

Kind = Literal["chat", "completion"]
Json = dict[str, Any]
SAMPLING = {
    "temperature": float, "top_p": float, "top_k": int, "min_p": float, "repetition_penalty": float,
    "presence_penalty": float, "frequency_penalty": float, "seed": int, "ignore_eos": bool, "max_tokens": int,
}  # fmt: skip
IGNORED = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
COMMON = {"model", "stream", "stream_options", "n", "stop", "response_format", *SAMPLING, *IGNORED}
FIELDS: dict[Kind, set[str]] = {
    "chat": COMMON | {"messages", "max_completion_tokens"},
    "completion": COMMON | {"prompt", "echo", "best_of"},
}
NOT_IMPLEMENTED = (
    "tools", "tool_choice", "functions", "function_call", "logprobs", "top_logprobs", "logit_bias", "suffix", "audio",
    "modalities", "prediction", "reasoning_effort", "guided_json", "guided_regex", "structured_outputs",
)  # fmt: skip
MAX_MESSAGES = 4096


@dataclass(frozen=True, slots=True)
class Call:
    """One checked request."""

    kind: Kind
    prompt: list[int]
    params: SamplingParams
    stream: bool
    include_usage: bool


def parse_call(kind: Kind, raw: bytes, model: str, tokenizer: Tokenizer, template: ChatTemplate) -> Call:
    """The request in `raw`. Raises RequestError; `UnknownModelError` when it names another model."""
    body = _object(raw)
    given = {name: value for name, value in body.items() if value is not None}
    _check_fields(kind, given)
    if given.get("model", model) != model:
        raise UnknownModelError(
            f"The model {str(given['model'])[:80]!r} does not exist; this server has {model!r}", "model"
        )
    options = _typed(given, "stream_options", dict) or {}
    if kind == "chat":
        prompt = tokenizer.encode(template.render(_messages(given.get("messages"))), special=False)
        prompt = prompt or tokenizer.encode("")
    else:
        prompt = _prompt(given.get("prompt"), tokenizer)
    return Call(
        kind=kind,
        prompt=prompt,
        params=_params(kind, given),
        stream=bool(_typed(given, "stream", bool)),
        include_usage=bool(options.get("include_usage")),
    )


class UnknownModelError(RequestError):
    """The request names a model that is not served; over HTTP a 404."""


class Reply:
    """The response objects of one call, streamed or whole."""

    def __init__(self, call: Call, model: str) -> None:
        self.call = call
        self._chat = call.kind == "chat"
        self._head = {
            "id": ("chatcmpl-" if self._chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def first_chunk(self) -> Json | None:
        """Chat streams begin with the role."""
        return self._chunk({"role": "assistant", "content": ""}, None) if self._chat else None

    def chunk(self, text: str, finish_reason: str | None) -> Json:
        """One streamed piece."""
        return self._chunk({"content": text} if text or not finish_reason else {}, finish_reason, text)

    def usage_chunk(self, usage: Json) -> Json:
        """The last chunk when `stream_options.include_usage` is set: no choice, only usage."""
        return {**self._head, "object": self._object(stream=True), "choices": [], "usage": usage}

    def whole(self, text: str, finish_reason: str, usage: Json) -> Json:
        """The answer in one piece."""
        choice: Json = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        choice |= {"message": {"role": "assistant", "content": text, "refusal": None}} if self._chat else {"text": text}
        return {**self._head, "object": self._object(stream=False), "choices": [choice], "usage": usage}

    def _chunk(self, delta: Json, finish_reason: str | None, text: str = "") -> Json:
        choice: Json = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        choice |= {"delta": delta} if self._chat else {"text": text}
        chunk = {**self._head, "object": self._object(stream=True), "choices": [choice]}
        return chunk | ({"usage": None} if self.call.include_usage else {})

    def _object(self, *, stream: bool) -> str:
        return ("chat.completion.chunk" if stream else "chat.completion") if self._chat else "text_completion"


def usage(n_prompt: int, n_output: int, n_cached: int) -> Json:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_output,
        "total_tokens": n_prompt + n_output,
        "prompt_tokens_details": {"cached_tokens": n_cached},
    }


def _object(raw: bytes) -> Json:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise RequestError("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    return body


def _check_fields(kind: Kind, given: Json) -> None:
    for name, value in given.items():
        if name in NOT_IMPLEMENTED:
            if value not in (False, [], {}, "none", "auto") and not (value == 0 and name != "logprobs"):
                raise RequestError(f"{name} is not implemented by this server", name)
        elif name not in FIELDS[kind]:
            near = nearest(name, FIELDS[kind], n=2)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise RequestError(f"Unrecognized request argument supplied: {name[:60]}{hint}", name)
    for name in ("n", "best_of"):
        if given.get(name, 1) != 1:
            raise RequestError(f"{name} must be 1; several choices are not implemented", name)
    if given.get("echo"):
        raise RequestError("echo is not implemented by this server", "echo")


def _typed(given: Json, name: str, kind: type) -> Any:
    value = given.get(name)
    if value is None:
        return None
    right = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not right or (isinstance(value, bool) and kind is not bool):
        raise RequestError(f"{name} must be of type {kind.__name__}, got {str(value)[:40]!r}", name)
    return value


def _params(kind: Kind, given: Json) -> SamplingParams:
    values = {name: value for name, type_ in SAMPLING.items() if (value := _typed(given, name, type_)) is not None}
    if "max_completion_tokens" in given:
        values["max_tokens"] = _typed(given, "max_completion_tokens", int)
    if kind == "completion":
        values.setdefault("max_tokens", 16)  # OpenAI's default for this endpoint
    if values.get("top_k") == -1:
        values["top_k"] = 0  # vLLM's way to say "off"
    stop = given.get("stop", [])
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(s, str) for s in stop):
        raise RequestError("stop must be a string or a list of strings", "stop")
    return SamplingParams(**values, stop=tuple(stop), schema=_schema(given))


def _schema(given: Json) -> Json | None:
    form = _typed(given, "response_format", dict)
    kind = (form or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if form is None or kind != "json_schema":
        raise RequestError(
            f"response_format {str(kind)[:40]!r} is not text, json_object or json_schema", "response_format"
        )
    schema = (form.get("json_schema") or {}).get("schema") if isinstance(form.get("json_schema"), dict) else None
    if not isinstance(schema, dict):
        raise RequestError("response_format.json_schema.schema must be a JSON schema", "response_format")
    return schema


def _prompt(value: object, tokenizer: Tokenizer) -> list[int]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, str):
        return tokenizer.encode(value)
    if isinstance(value, list) and value and all(type(t) is int for t in value):
        return value
    raise RequestError("prompt must be one string or one list of token ids", "prompt")


def _messages(value: object) -> list[Json]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MESSAGES:
        raise RequestError(f"messages must be a list of 1 to {MAX_MESSAGES} messages", "messages")
    return [_message(entry) for entry in value]


def _message(entry: object) -> Json:
    if not isinstance(entry, dict) or not isinstance(entry.get("role"), str):
        raise RequestError("every message needs a role", "messages")
    content = entry.get("content")
    if isinstance(content, list):
        parts = [p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None for p in content]
        if not all(isinstance(p, str) for p in parts):
            raise RequestError("only text parts are implemented in a message's content", "messages")
        content = "".join(p for p in parts if p is not None)
    if not isinstance(content, str):
        raise RequestError("a message's content must be text", "messages")
    return {"role": entry["role"], "content": content}
