"""The wire format as huggingface_hub's InferenceClient sees it."""

from __future__ import annotations

import pytest

hub = pytest.importorskip("huggingface_hub", reason="the oracle needs huggingface_hub")


def test_chat_and_its_stream_agree(url: str) -> None:
    client = hub.InferenceClient(base_url=url, api_key="none")
    messages = [{"role": "user", "content": "hello"}]
    whole = client.chat_completion(messages, model="tiny", max_tokens=16, seed=2)
    stream = list(client.chat_completion(messages, model="tiny", max_tokens=16, seed=2, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in stream) == whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
