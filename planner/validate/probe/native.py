"""The engines' own APIs: TGI's `/generate` and `/generate_stream`, Ollama's `/api/*`, llama.cpp's `/completion`.

Each check is one request or two. Which engine answers is found by asking; what an endpoint does not have is skipped
unless the plan promises it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.validate.probe.http import Client, EndpointError, Stream
from planner.validate.probe.openai import MESSAGES, PROMPT, SMALL, chunk_of
from planner.validate.verdict import Check, failed, from_problems, passed, skipped

Json = dict[str, Any]


def checks(client: Client, model: str | None, engine: str | None) -> tuple[Check, ...]:
    """Checks of the engine's own API. `engine` is the plan's; None: what the endpoint looks like."""
    found = engine or detect(client)
    if found == "tgi":
        return _all((("TGI /info", _tgi_info), ("TGI /generate", _tgi_generate), ("TGI stream", _tgi_stream)), client)
    if found == "ollama":
        named: tuple[tuple[str, Callable[[Client], Check]], ...] = (
            ("Ollama /api/tags", lambda c: _ollama_tags(c, model)),
            ("Ollama /api/generate", lambda c: _ollama_generate(c, model)),
            ("Ollama /api/chat", lambda c: _ollama_chat(c, model)),
            ("Ollama stream", lambda c: _ollama_stream(c, model)),
        )
        return _all(named, client)
    if found == "llamacpp":
        return _all((("llama.cpp /props", _llama_props), ("llama.cpp /completion", _llama_completion)), client)
    return (skipped("native API", f"{found or 'this endpoint'} has none beside OpenAI's"),)


def detect(client: Client) -> str | None:
    """`tgi`, `ollama`, `llamacpp` or `vllm` by what answers; None for others."""
    info = client.get("/info").json
    if isinstance(info, dict) and "max_total_tokens" in info:
        return "tgi"
    version = client.get("/api/version").json
    if isinstance(version, dict) and "version" in version:
        return "ollama"
    props = client.get("/props").json
    if isinstance(props, dict) and "default_generation_settings" in props:
        return "llamacpp"
    return "vllm" if b"vllm:" in client.get("/metrics").body else None


def _all(named: tuple[tuple[str, Callable[[Client], Check]], ...], client: Client) -> tuple[Check, ...]:
    found = []
    for name, check in named:
        try:
            found.append(check(client))
        except EndpointError as error:
            found.append(failed(name, str(error)))
    return tuple(found)


def _tgi_info(client: Client) -> Check:
    answer = client.get("/info")
    info = answer.json if isinstance(answer.json, dict) else {}
    wanted = ("model_id", "max_input_tokens", "max_total_tokens", "max_concurrent_requests")
    problems = [f"no {name}" for name in wanted if name not in info]
    return from_problems("TGI /info", problems, ", ".join(f"{name} {info.get(name)}" for name in wanted))


def _tgi_generate(client: Client) -> Check:
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": SMALL, "details": True}}
    answer = client.post("/generate", body)
    data: Json = answer.json if isinstance(answer.json, dict) else {}
    given = data.get("details")
    details: Json = given if isinstance(given, dict) else {}
    problems = [] if answer.status == 200 else [f"status {answer.status}: {answer.text[:120]}"]
    if not isinstance(data.get("generated_text"), str):
        problems.append("no generated_text")
    n_tokens = details.get("generated_tokens")
    if type(n_tokens) is not int or not 0 < n_tokens <= SMALL:
        problems.append(f"generated_tokens is {n_tokens!r}, at most {SMALL} were asked for")
    if details.get("finish_reason") not in ("length", "eos_token", "stop_sequence"):
        problems.append(f"finish_reason is {details.get('finish_reason')!r}")
    return from_problems("TGI /generate", problems, f"{n_tokens} tokens, {details.get('finish_reason')}")


def _tgi_stream(client: Client) -> Check:
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": SMALL}}
    stream = client.stream("/generate_stream", body)
    chunks, problems = _chunks(stream)
    tokens = [chunk for chunk in chunks if isinstance(chunk.get("token"), dict)]
    if not tokens or not isinstance(tokens[-1].get("generated_text"), str):
        problems.append("the last event has no generated_text")
    return from_problems("TGI stream", problems, f"{len(tokens)} tokens streamed")


def _ollama_tags(client: Client, model: str | None) -> Check:
    answer = client.get("/api/tags")
    data = answer.json.get("models") if isinstance(answer.json, dict) else None
    names = [str(m.get("name")) for m in data if isinstance(m, dict)] if isinstance(data, list) else []
    if model is None or any(name.removesuffix(":latest") == model.removesuffix(":latest") for name in names):
        return passed("Ollama /api/tags", ", ".join(names[:5])) if names else failed("Ollama /api/tags", "no models")
    return failed("Ollama /api/tags", f"{model} is not among {', '.join(names[:5]) or 'no models'}")


def _ollama_generate(client: Client, model: str | None) -> Check:
    options = {"num_predict": SMALL, "temperature": 0}
    answer = client.post("/api/generate", {"model": model, "prompt": PROMPT, "stream": False, "options": options})
    return _ollama_whole("Ollama /api/generate", answer.status, answer.json, lambda d: d.get("response"))


def _ollama_chat(client: Client, model: str | None) -> Check:
    options = {"num_predict": SMALL, "temperature": 0}
    answer = client.post("/api/chat", {"model": model, "messages": MESSAGES, "stream": False, "options": options})
    return _ollama_whole(
        "Ollama /api/chat", answer.status, answer.json, lambda d: (d.get("message") or {}).get("content")
    )


def _ollama_whole(name: str, status: int, data: object, text: Callable[[Json], object]) -> Check:
    if status != 200 or not isinstance(data, dict):
        return failed(name, f"status {status}: {str(data)[:120]}")
    problems = [] if isinstance(text(data), str) else ["no text"]
    if data.get("done") is not True:
        problems.append("done is not true")
    count = data.get("eval_count")
    if type(count) is not int or not 0 < count <= SMALL:
        problems.append(f"eval_count is {count!r}, num_predict was {SMALL}")
    return from_problems(name, problems, f"{count} tokens, {data.get('done_reason', 'done')}")


def _ollama_stream(client: Client, model: str | None) -> Check:
    body = {"model": model, "prompt": PROMPT, "options": {"num_predict": SMALL, "temperature": 0}}
    chunks, problems = _chunks(client.stream("/api/generate", body))
    if not chunks or chunks[-1].get("done") is not True:
        problems.append("the last line is not done")
    if any(chunk.get("done") is True for chunk in chunks[:-1]):
        problems.append("lines follow the one that is done")
    return from_problems("Ollama stream", problems, f"{len(chunks)} lines of JSON")


def _llama_props(client: Client) -> Check:
    """https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md: GET /props."""
    props = client.get("/props").json
    props = props if isinstance(props, dict) else {}
    slots, settings = props.get("total_slots"), props.get("default_generation_settings")
    context = settings.get("n_ctx") if isinstance(settings, dict) else None
    problems = [f"no {name}" for name, v in (("total_slots", slots), ("n_ctx", context)) if type(v) is not int]
    return from_problems("llama.cpp /props", problems, f"total_slots {slots}, n_ctx {context} each")


def _llama_completion(client: Client) -> Check:
    answer = client.post("/completion", {"prompt": PROMPT, "n_predict": SMALL, "temperature": 0})
    data: Json = answer.json if isinstance(answer.json, dict) else {}
    problems = [] if answer.status == 200 else [f"status {answer.status}: {answer.text[:120]}"]
    if not isinstance(data.get("content"), str):
        problems.append("no content")
    count = data.get("tokens_predicted")
    if type(count) is not int or not 0 < count <= SMALL:
        problems.append(f"tokens_predicted is {count!r}, n_predict was {SMALL}")
    return from_problems("llama.cpp /completion", problems, f"{count} tokens, {data.get('stop_type', 'stopped')}")


def _chunks(stream: Stream) -> tuple[list[Json], list[str]]:
    if stream.refused is not None:
        return [], [f"status {stream.refused.status}: {stream.refused.text[:120]}"]
    parsed = [chunk_of(piece.data) for piece in stream.pieces if piece.data != "[DONE]"]
    good = [chunk for chunk in parsed if chunk is not None]
    return good, [] if len(good) == len(parsed) else [f"{len(parsed) - len(good)} events are no JSON"]
