"""Messages to a prompt: the checkpoint's jinja2 template in a sandbox, or a plain one for models without."""

from __future__ import annotations

from typing import Any

from planner.engine.params import RequestError

PLAIN = """{% for m in messages %}
{{ m.role }}: {{ m.content }}
{% endfor %}
{%- if add_generation_prompt %}assistant:{% endif %}"""
MAX_PROMPT_CHARACTERS = 4 << 20


class ChatTemplate:
    """A compiled template; `render` raises RequestError when the template refuses the messages."""

    def __init__(self, source: str | None, special_tokens: dict[str, str] | None = None) -> None:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda _form: "1 January 2026"
        self._errors = (TemplateError, TypeError, ValueError, OverflowError, RecursionError, AttributeError, KeyError)
        self._special = special_tokens or {}
        try:
            self._template = environment.from_string(source or PLAIN)
        except self._errors as error:
            raise RequestError(f"the checkpoint's chat template cannot be compiled: {str(error)[:120]}") from None

    def render(self, messages: list[dict[str, Any]]) -> str:
        """The prompt that asks for the assistant's next message."""
        try:
            text = self._template.render(messages=messages, add_generation_prompt=True, tools=None, **self._special)
        except self._errors as error:
            raise RequestError(f"the chat template refuses these messages: {str(error)[:200]}", "messages") from None
        if len(text) > MAX_PROMPT_CHARACTERS:
            raise RequestError(f"the rendered prompt is over {MAX_PROMPT_CHARACTERS} characters", "messages")
        return str(text)


def _refuse(message: str) -> None:
    raise ValueError(message)
