"""OpenAI's API as a client relies on it: one small request per promise, one Check per request.

What a server may leave out (seed, JSON schema) is skipped when the plan does not promise it and the server refuses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from planner.validate.probe.http import Answer, Client, EndpointError, Stream
from planner.validate.probe.subject import Promise
from planner.validate.verdict import Check, failed, from_problems, judged, passed, skipped

Json = dict[str, Any]
PROMPT = "Count from one to five, in words."
MESSAGES = [{"role": "user", "content": PROMPT}]
OTHER_PROMPTS = (
    "Say hello.", "What colour is grass?", "Name the days of the week.", "What is the capital of France?",
    "Tell me a story.",
)  # fmt: skip
"""Asked in turn while an answer holds no place to stop at: one of noise may be a byte over and over."""
SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "large": {"type": "boolean"}},
    "required": ["city", "large"],
    "additionalProperties": False,
}
FINISH_REASONS = ("stop", "length")
SMALL = 8
_WORD = re.compile(r"[!-~]{1,3}")
"""Printable ASCII: a stop string that no tokenizer garbles."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint, the model asked for, and what the plan says."""

    client: Client
    model: str
    promise: Promise

    def chat(self, **options: Any) -> Answer:
        """One chat completion; greedy and short unless `options` say otherwise."""
        return self.client.post("/v1/chat/completions", self.body(**({"messages": MESSAGES} | options)))

    def body(self, **options: Any) -> Json:
        """A request body: greedy, at most SMALL tokens; None leaves a field out."""
        given = {"model": self.model, "max_tokens": SMALL, "temperature": 0} | options
        return {name: value for name, value in given.items() if value is not None}


def health(client: Client) -> Check:
    """Some engine's health path answers 200."""
    tried = []
    for path in ("/health", "/v1/health/ready", "/api/version"):
        status = client.get(path).status
        if status == 200:
            return passed("health", f"GET {path} answers 200")
        tried.append(f"{path} {status}")
    return failed("health", ", ".join(tried))


def models(client: Client, promise: Promise) -> tuple[Check, str | None]:
    """/v1/models lists the planned name (and the planned context, where it says one); the name to ask for."""
    name = "models"
    answer = client.get("/v1/models")
    data = answer.json.get("data") if answer.status == 200 and isinstance(answer.json, dict) else None
    entries = (
        [e for e in data if isinstance(e, dict) and isinstance(e.get("id"), str)] if isinstance(data, list) else []
    )
    if not entries:
        hint = "; --api-key-env names the variable that holds its key" if answer.status in (401, 403) else ""
        told = f"GET /v1/models: status {answer.status}, no list of models: {answer.text[:120]}{hint}"
        return failed(name, told), None
    ids = [entry["id"] for entry in entries]
    wanted = promise.served_name
    chosen = next((e for e in entries if wanted in (e["id"], e["id"].removesuffix(":latest"))), entries[0])
    problems = []
    if wanted is not None and wanted not in (chosen["id"], chosen["id"].removesuffix(":latest")):
        told = f"no model {wanted!a} here: the endpoint has {', '.join(ids[:5])}"
        problems.append(f"{told}; {chosen['id']!a} is asked for")
    length = chosen.get("max_model_len")
    if promise.max_model_len is not None and isinstance(length, int) and length != promise.max_model_len:
        problems.append(f"max_model_len is {length:,}, planned {promise.max_model_len:,}")
    good = ", ".join(ids[:5]) + (f", max_model_len {length:,}" if isinstance(length, int) else "")
    return from_problems(name, problems, good), chosen["id"]


def checks(target: Target) -> tuple[Check, ...]:
    """Every promise of the API. A connection that breaks fails its check and the rest goes on."""
    named: tuple[tuple[str, Callable[[Target], Check]], ...] = (
        ("chat", _chat), ("completions", _completions), ("chat stream", _chat_stream),
        ("completions stream", _completions_stream), ("max_tokens", _max_tokens), ("stop", _stop), ("seed", _seed),
        ("JSON schema", _schema), ("error shapes", _errors), ("over-long context", _overlong),
    )  # fmt: skip
    found = []
    for name, check in named:
        try:
            found.append(check(target))
        except EndpointError as error:
            found.append(failed(name, str(error)))
    return tuple(found)


def _chat(t: Target) -> Check:
    answer = t.chat()
    problems, text = whole_problems(answer, "chat")
    return from_problems("chat", problems, f"answers {_shown(text)}")


def _completions(t: Target) -> Check:
    answer = t.client.post("/v1/completions", t.body(prompt=PROMPT))
    if answer.status == 404 and t.chat().status == 200:
        return skipped("completions", "this endpoint serves chat only")
    problems, text = whole_problems(answer, "completion")
    return from_problems("completions", problems, f"answers {_shown(text)}")


def whole_problems(answer: Answer, kind: str) -> tuple[list[str], str]:
    """What is wrong with an answer in one piece, and its text."""
    if answer.status != 200 or not isinstance(answer.json, dict):
        return [f"status {answer.status}: {answer.text[:160]}"], ""
    body, problems = answer.json, []
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    text = text_of(choice)
    if text is None:
        problems.append("no text in choices[0]")
    if choice.get("finish_reason") not in FINISH_REASONS:
        problems.append(f"finish_reason is {choice.get('finish_reason')!r}")
    expected = {"chat": "chat.completion", "completion": "text_completion"}[kind]
    if body.get("object") not in (expected, "text.completion"):  # TGI has its own spelling
        problems.append(f"object is {body.get('object')!r}, not {expected!r}")
    problems += usage_problems(body.get("usage"))
    return problems, text or ""


def text_of(choice: Json) -> str | None:
    """The text of a choice: a message's (reasoning counts: it is generated), or a completion's."""
    message = choice.get("message")
    if isinstance(message, dict):
        parts = [message.get(name) for name in ("reasoning_content", "reasoning", "content")]
        said = [part for part in parts if isinstance(part, str)]
        return "".join(said) if said else None
    text = choice.get("text")
    return text if isinstance(text, str) else None


def usage_problems(usage: object) -> list[str]:
    """What is wrong with a usage object."""
    if not isinstance(usage, dict):
        return ["no usage"]
    counts = [n for name in ("prompt_tokens", "completion_tokens", "total_tokens") if type(n := usage.get(name)) is int]
    if len(counts) != 3:
        return [f"usage lacks counts: {usage}"[:120]]
    prompt, completion, total = counts
    return (
        [] if prompt + completion == total and prompt > 0 else [f"usage does not add up: {prompt}+{completion}≠{total}"]
    )


def _chat_stream(t: Target) -> Check:
    body = t.body(messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    whole = text_of(_choice(t.chat()))
    return _streamed("chat stream", t.client.stream("/v1/chat/completions", body), whole)


def _completions_stream(t: Target) -> Check:
    body = t.body(prompt=PROMPT, stream=True, stream_options={"include_usage": True})
    stream = t.client.stream("/v1/completions", body)
    if stream.refused is not None and stream.refused.status == 404:
        return skipped("completions stream", "this endpoint serves chat only")
    return _streamed("completions stream", stream, None)


def _streamed(name: str, stream: Stream, whole: str | None) -> Check:
    if stream.refused is not None:
        return failed(name, f"status {stream.refused.status}: {stream.refused.text[:160]}")
    problems, text, reasons, usage = [], "", [], None
    if "text/event-stream" not in stream.content_type:
        problems.append(f"content type {stream.content_type!r} is no event stream")
    if not stream.pieces or stream.pieces[-1].data != "[DONE]":
        problems.append("the stream does not end with [DONE]")
    for piece in stream.pieces:
        chunk = chunk_of(piece.data)
        if chunk is None:
            if piece.data != "[DONE]":
                problems.append(f"no JSON in an event: {piece.data[:60]!r}")
            continue
        usage = chunk.get("usage") or usage
        said, reason = delta_of(chunk)
        text += said
        reasons += [reason] if reason else []
    if len(reasons) != 1 or reasons[0] not in FINISH_REASONS:
        problems.append(f"finish reasons {reasons}")
    problems += [f"include_usage: {problem}" for problem in usage_problems(usage)]
    same = whole is None or whole.strip() == text.strip()
    also = "" if whole is None else ", as unstreamed" if same else "; the unstreamed answer differed"
    return from_problems(
        name, problems, f"{len(stream.pieces)} events, {_shown(text)}{also}", events=len(stream.pieces)
    )


def chunk_of(data: str) -> Json | None:
    """An event's JSON object, None for anything else."""
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return chunk if isinstance(chunk, dict) else None


def delta_of(chunk: Json) -> tuple[str, str | None]:
    """The text and the finish reason of a streamed chunk."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "", None
    choice = choices[0]
    delta = choice.get("delta")
    if isinstance(delta, dict):
        parts = [delta.get(name) for name in ("reasoning_content", "reasoning", "content")]
        text = "".join(part for part in parts if isinstance(part, str))
    else:
        plain = choice.get("text")
        text = plain if isinstance(plain, str) else ""
    reason = choice.get("finish_reason")
    return text, reason if isinstance(reason, str) else None


def _max_tokens(t: Target) -> Check:
    answer = t.chat(max_tokens=3)
    used, choice = _completion_tokens(answer), _choice(answer)
    if used is None:
        return failed("max_tokens", f"status {answer.status}: {answer.text[:120]}")
    holds = used <= 3 and (used < 3 or choice.get("finish_reason") in FINISH_REASONS)
    reason = choice.get("finish_reason")
    return judged("max_tokens", holds, f"{used} of at most 3 tokens, {reason}", f"{used} tokens for max_tokens 3")


def _stop(t: Target) -> Check:
    """A stop string taken from the model's own greedy answer ends it there and is not part of the text."""
    for prompt in (PROMPT, *OTHER_PROMPTS):
        messages = [{"role": "user", "content": prompt}]
        free = text_of(_choice(t.chat(messages=messages, max_tokens=24))) or ""
        places = [match[0] for match in _WORD.finditer(free[1:])]
        if places:
            break
    else:
        n = 1 + len(OTHER_PROMPTS)
        return skipped("stop", f"none of {n} answers holds a place to stop at; the last is {_shown(free)}")
    word = max(places, key=len)
    answer = t.chat(messages=messages, max_tokens=24, stop=[word])
    choice, text = _choice(answer), text_of(_choice(answer))
    if answer.status != 200 or text is None:
        return failed("stop", f"status {answer.status}: {answer.text[:120]}")
    if word in text:
        return failed("stop", f"the answer holds the stop string {word!r}")
    good = f"ends before {word!r}"
    return judged("stop", choice.get("finish_reason") == "stop", good, f"finish_reason {choice.get('finish_reason')!r}")


def _seed(t: Target) -> Check:
    answers = [t.chat(max_tokens=16, temperature=1, seed=7) for _ in range(2)]
    if any(a.status != 200 for a in answers):
        refused = next(a for a in answers if a.status != 200)
        return skipped("seed", f"refused with {refused.status}: {refused.text[:120]}")
    first, second = (text_of(_choice(a)) for a in answers)
    if not first or not second:
        return failed("seed", f"an answer without text: {answers[0 if not first else 1].text[:120]}")
    good = f"twice {_shown(first)}"
    return judged("seed", first == second, good, f"{_shown(first)} and {_shown(second)}")


def _schema(t: Target) -> Check:
    name, form = "JSON schema", {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
    answer = t.chat(max_tokens=200, response_format=form)
    told = f"status {answer.status}: {answer.text[:120]}"
    if answer.status != 200:
        return failed(name, told) if t.promise.grammar else skipped(name, f"not promised by a plan; {told}")
    text = text_of(_choice(answer)) or ""
    value = chunk_of(text)
    right = (
        value is not None and value.keys() == {"city", "large"} and isinstance(value["city"], str)
        and isinstance(value["large"], bool)
    )  # fmt: skip
    if not right and not t.promise.grammar:
        return skipped(name, f"not promised by a plan, and not kept: {_shown(text)}")
    return judged(name, right, _shown(text), f"{_shown(text)} does not satisfy the schema")


def _errors(t: Target) -> Check:
    """What is wrong is a 4xx with a message, never a 200 or a 5xx."""
    cases: dict[str, tuple[Any, tuple[int, ...]]] = {
        "no JSON": (b"{", (400, 422)),
        "no messages": ({"model": t.model}, (400, 422)),
        "unknown model": ({"model": "no-such-model", "messages": MESSAGES, "max_tokens": 1}, (404, 400)),
        "temperature of a string": (t.body(messages=MESSAGES, temperature="hot"), (400, 422)),
    }
    problems, seen = [], []
    for name, (body, allowed) in cases.items():
        answer = t.client.post("/v1/chat/completions", body)
        if name == "unknown model" and answer.status == 200 and t.promise.engine in (None, "tgi", "llamacpp"):
            seen.append(f"{name}: ignored")  # TGI and llama-server serve one model and take any name
            continue
        if answer.status not in allowed:
            problems.append(f"{name}: status {answer.status}, not {' or '.join(map(str, allowed))}")
        elif error_message(answer) is None:
            problems.append(f"{name}: no message in {answer.text[:80]!r}")
        seen.append(f"{name}: {answer.status}")
    return from_problems("error shapes", problems, ", ".join(seen))


def error_message(answer: Answer) -> str | None:
    """The message of an error body: OpenAI's object, or a plain `error`, `message` or `detail`."""
    body = answer.json
    if not isinstance(body, dict):
        return None
    error = body.get("error", body.get("message", body.get("detail")))
    message = error.get("message") if isinstance(error, dict) else error
    return str(message) if message else None


def _overlong(t: Target) -> Check:
    """A prompt beyond the context is refused with a 4xx that says so; Ollama cuts it instead."""
    name = "over-long context"
    limit = t.promise.max_model_len or context_of(t.client, t.model)
    if limit is None:
        return skipped(name, "neither a plan nor the endpoint says how long a context may be")
    if limit > MAX_CONTEXT:
        return skipped(name, f"the context of {limit:,} tokens is too long to try")
    messages = [{"role": "user", "content": "one " * (limit + 16)}]
    answer = t.client.post("/v1/chat/completions", t.body(messages=messages, max_tokens=1))
    kept = _prompt_tokens(answer)
    if answer.status == 200 and t.promise.engine in ("ollama", None) and 0 < kept <= limit:
        return skipped(name, f"the endpoint cut the prompt to {kept:,} tokens instead of refusing it")
    message = error_message(answer)
    good = (
        f"{limit + 16:,} words for {limit:,} tokens: {answer.status}, {shorten(message or '', 100, placeholder=' …')}"
    )
    right = answer.status in (400, 413, 422) and message is not None
    return judged(name, right, good, f"status {answer.status}: {answer.text[:120]}")


def context_of(client: Client, model: str) -> int | None:
    """Tokens of one context as the endpoint says it: vLLM in its list of models, TGI in /info, llama.cpp in /props."""
    listed = client.get("/v1/models").json
    entries = listed.get("data") if isinstance(listed, dict) else None
    own = [e for e in entries if isinstance(e, dict) and e.get("id") == model] if isinstance(entries, list) else []
    info, props = client.get("/info").json, client.get("/props").json
    settings = props.get("default_generation_settings") if isinstance(props, dict) else None
    told = [own[0].get("max_model_len")] if own else []
    told += [info.get("max_total_tokens")] if isinstance(info, dict) else []
    told += [settings.get("n_ctx")] if isinstance(settings, dict) else []
    return next((n for n in told if type(n) is int and n > 0), None)


MAX_CONTEXT = 262_144
"""Longest context (tokens) that is tried to be overrun: about a MiB of prompt."""


def _choice(answer: Answer) -> Json:
    choices = answer.json.get("choices") if isinstance(answer.json, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _count(answer: Answer, name: str) -> int | None:
    usage = answer.json.get("usage") if isinstance(answer.json, dict) else None
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int else None


def _completion_tokens(answer: Answer) -> int | None:
    return _count(answer, "completion_tokens")


def _prompt_tokens(answer: Answer) -> int:
    return _count(answer, "prompt_tokens") or 0


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
