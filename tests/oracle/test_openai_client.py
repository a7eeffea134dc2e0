"""The wire format as the `openai` client sees it: whole, streamed, asynchronous, and errors as its exceptions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

openai = pytest.importorskip("openai", reason="the oracle needs the openai client")
MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def test_models(client: Any) -> None:
    assert [m.id for m in client.models.list()] == ["tiny"]
    assert client.models.list().data[0].max_model_len == 128


def test_chat_and_its_stream_agree(client: Any) -> None:
    options: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 20, "seed": 4}
    whole = client.chat.completions.create(**options)
    stream = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == whole.choices[0].message.content
    assert stream[-1].usage.total_tokens == whole.usage.total_tokens
    assert stream[0].choices[0].delta.role == "assistant"
    assert stream[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_completions_and_stop(client: Any) -> None:
    options: dict[str, Any] = {"model": "tiny", "prompt": "abc", "max_tokens": 20, "seed": 4}
    text = client.completions.create(**options).choices[0].text
    stopped = client.completions.create(**options, stop=[text[5:7]]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text[: text.index(text[5:7])], "stop")


def test_json_schema(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=30, response_format=form)
    assert isinstance(json.loads(answer.choices[0].message.content)["ok"], bool)


def test_errors_are_the_clients_exceptions(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="other", prompt="x")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt="x" * 200)
    assert long.value.code == "context_length_exceeded" and long.value.param == "prompt"


def test_the_asynchronous_client(url: str) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            calls = [
                client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8, seed=i) for i in range(8)
            ]
            return [answer.choices[0].finish_reason for answer in await asyncio.gather(*calls)]

    assert set(asyncio.run(run())) <= {"length", "stop"}
