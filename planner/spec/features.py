"""What a deployment does beyond answering prompts: drafts, adapters, parsers, grammars, a watermark.

A request says what is wanted; in a configuration every name that was left open is filled in. Knows no flags.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from planner.spec.base import Spec

SpeculativeMethod = Literal["ngram", "draft_model", "eagle", "eagle3", "mtp"]
GrammarBackend = Literal["auto", "xgrammar", "guidance", "outlines", "lm-format-enforcer"]
DRAFTERS: tuple[SpeculativeMethod, ...] = ("draft_model", "eagle", "eagle3")
"""Methods that need weights of their own."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
REPOSITORY = rf"{NAME}/{NAME}"
_ADAPTER = re.compile(rf"(?:{NAME}=)?{REPOSITORY}", re.ASCII)
_PARSER = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class Features(Spec):
    """Each is off, or the engine's own default, unless said."""

    speculative: SpeculativeMethod | None = None
    """How tokens are drafted."""
    draft_tokens: Annotated[int, Field(ge=0, le=32)] = 0
    """Tokens drafted per step; 0: the request's `speculative_tokens`, or the method's own default."""
    draft_model: str | None = Field(default=None, max_length=200)
    """Hub repository (or catalog alias) of the drafting model or EAGLE head."""
    lora_adapters: tuple[str, ...] = Field(default=(), max_length=64)
    """NAME=organisation/repository, or the repository alone, which is then its name."""
    max_lora_rank: Annotated[int, Field(ge=1, le=512)] = 16
    prefix_caching: bool | None = None
    """None: as the engine has it."""
    tool_calling: bool = False
    """The server turns the model's tool calls into the API's."""
    tool_parser: str | None = Field(default=None, pattern=_PARSER)
    """None: the one that the model's family is catalogued with."""
    reasoning: bool = False
    """The server keeps what the model thinks apart from what it answers."""
    reasoning_parser: str | None = Field(default=None, pattern=_PARSER)
    structured_output: GrammarBackend | None = None
    """Which backend holds the output to a schema; auto: the engine chooses by the request."""
    watermark: bool = False
    disaggregated: bool = False
    """Prefill and decode in pods of their own."""

    @field_validator("draft_model")
    @classmethod
    def _names_a_model(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(rf"{REPOSITORY}|{NAME}", name, re.ASCII):
            raise ValueError("a draft model is a repository of the Hub or an alias, e.g. org/name")
        return name

    @field_validator("lora_adapters")
    @classmethod
    def _names_adapters(cls, adapters: tuple[str, ...]) -> tuple[str, ...]:
        wrong = next((text for text in adapters if not _ADAPTER.fullmatch(text)), None)
        if wrong is not None:
            raise ValueError("an adapter is NAME=org/repository or org/repository of the Hub")
        names = [adapter_name(text) for text in adapters]
        if len(set(names)) < len(names):
            raise ValueError("two adapters have one name")
        return adapters

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        needs = self.speculative in DRAFTERS
        if needs and self.draft_model is None:
            raise ValueError(f"speculative {self.speculative} needs draft_model, the repository of what drafts")
        if self.draft_model is not None and not needs:
            raise ValueError(f"draft_model belongs to speculative {', '.join(DRAFTERS)}")
        if self.tool_parser is not None and not self.tool_calling:
            raise ValueError("tool_parser belongs to tool_calling")
        if self.reasoning_parser is not None and not self.reasoning:
            raise ValueError("reasoning_parser belongs to reasoning")
        return self


def adapter_name(adapter: str) -> str:
    """What a client calls it: the word before `=`, or the repository."""
    return adapter.partition("=")[0]


def adapter_repository(adapter: str) -> str:
    """Where it is on the Hub."""
    return adapter.rpartition("=")[2]
