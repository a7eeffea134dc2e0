"""Messages to a prompt: the checkpoint's jinja2 template in a sandbox, or a plain one for models without."""

from __future__ import annotations

from typing import Any

from planner.engine.params import RequestError

PLAIN = """{% for m in messages %}
{{ m.role }}: {{ m.content }}
{% endfor %}
{%- if add_generation_prompt %}assistant:{% endif %}"""
MAX_PROMPT_CHARACTERS = 4 << 20
MAX_ROUNDS = 1 << 20
"""Numbers that `range` may give in one rendering: a template comes with a checkpoint, and a checkpoint from anybody."""
MAX_EXPONENT = 64


class ChatTemplate:
    """A compiled template; `render` raises RequestError when the template refuses the messages or grows without end."""

    def __init__(self, source: str | None, special_tokens: dict[str, str] | None = None) -> None:
        from jinja2 import TemplateError

        environment = _sandbox()
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
        given = {"messages": messages, "add_generation_prompt": True, "tools": None, "range": _Rounds()}
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(given | self._special):
                length += len(piece)
                if length > MAX_PROMPT_CHARACTERS:
                    raise RequestError(f"the rendered prompt is over {MAX_PROMPT_CHARACTERS} characters", "messages")
                pieces.append(piece)
        except RequestError:
            raise
        except self._errors as error:
            raise RequestError(f"the chat template refuses these messages: {str(error)[:200]}", "messages") from None
        return "".join(pieces)


class _Rounds:
    """`range`, for so many numbers in all."""

    def __init__(self) -> None:
        self._left = MAX_ROUNDS

    def __call__(self, *bounds: int) -> range:
        numbers = range(*bounds)
        self._left -= len(numbers)
        if self._left < 0:
            raise OverflowError(f"more than {MAX_ROUNDS} rounds of range")
        return numbers


def _sandbox() -> Any:
    """jinja2's sandbox as checkpoints expect it; a product of a text or list is bounded too."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            numbers = [x for x in (left, right) if isinstance(x, int | float)]
            if len(numbers) < 2:  # a text or a list, so many times
                size = max((len(x) for x in (left, right) if hasattr(x, "__len__")), default=0)
                if size * max(numbers, default=0) > MAX_PROMPT_CHARACTERS:
                    raise OverflowError("a repeated text is too long")
            elif operator == "**" and abs(right) > MAX_EXPONENT:
                raise OverflowError(f"an exponent is over {MAX_EXPONENT}")
            return super().call_binop(context, operator, left, right)

    return Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])


def _refuse(message: str) -> None:
    raise ValueError(message)
