"""What was asked beyond answering prompts, resolved for one engine release: all names filled in, or why not.

Reads capabilities, option lists and the parsers' catalog. Knows no flags (`render/arguments`) and no bytes
(`estimate/extras`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from planner.spec.features import Features
from planner.spec.model import ModelSpec

if TYPE_CHECKING:
    from planner.estimate.deployment import Extras
    from planner.sources.catalog import Catalog
    from planner.spec.engine import EngineRelease
    from planner.spec.hardware import Machine
    from planner.spec.request import Request

_VLLM = frozenset({"vllm", "nim"})
_GGML = frozenset({"ollama", "llamacpp"})


def resolve_features(
    asked: Features | None, release: EngineRelease, model: ModelSpec, machine: Machine
) -> Features | str:
    """`asked` with the open names filled in for `release`, or the reason why it cannot do them."""
    if asked is None:
        return Features()
    reasons = (
        _no_options(asked, release),
        _no_drafts(asked, release, model, machine),
        _no_adapters(asked, release, model),
        _no_prefix_caching(asked, release, machine),
        _no_grammar(asked, release),
        _no_watermark(asked, release),
        _no_split(asked, release, machine),
    )
    reason = next((text for text in reasons if text), None)
    if reason is not None:
        return reason
    tool = _parser("tool", asked.tool_calling, asked.tool_parser, release, model)
    thought = _parser("reasoning", asked.reasoning, asked.reasoning_parser, release, model)
    for found in (tool, thought):
        if found is not None and found.startswith("!"):
            return found[1:]
    rank = asked.max_lora_rank
    if asked.lora_adapters and release.lora is not None and release.lora.ranks:
        rank = min(r for r in release.lora.ranks if r >= rank)
    return asked.model_copy(update={"tool_parser": tool, "reasoning_parser": thought, "max_lora_rank": rank})


def _title(release: EngineRelease) -> str:
    return f"{release.engine} {release.version}"


def _no_options(asked: Features, release: EngineRelease) -> str | None:
    """vLLM renames these options between releases, so they are written only where the list of them is known."""
    if release.engine != "vllm" or release.flags_file is not None or asked == Features():
        return None
    return f"no option list of {_title(release)} is catalogued, so it is asked for no features; plan with 0.26 or newer"


def _no_drafts(asked: Features, release: EngineRelease, model: ModelSpec, machine: Machine) -> str | None:
    method, title = asked.speculative, _title(release)
    if method is None:
        return None
    if release.engine == "ollama":
        return (
            f"{title} drafts only with a prediction layer that the GGUF file holds (PARAMETER draft_num_predict), "
            "whose memory is not planned; plan with engine vllm"
        )
    if not release.has("speculative_decoding"):
        return f"{title} has no speculative decoding"
    if release.engine == "tgi":
        return None if method == "ngram" else f"{title} drafts with n-grams, not with {method}; ask for ngram"
    if release.engine not in _VLLM:
        return f"the options of {release.engine} for drafting are not catalogued; plan with engine vllm"
    if machine.platform == "cpu" and method != "ngram":
        return f"drafting with {method} is not known to run in the CPU build of {title}; ask for ngram"
    if method == "mtp" and not any(block.role == "mtp" for block in model.blocks):
        return f"{model.id} has no layer that predicts further tokens; ask for ngram, eagle3 or draft_model"
    known = _choices(release, "--spec-method")
    if known and method not in known:
        return f"{title} drafts with {', '.join(known)}, not with {method}"
    return None


def _no_adapters(asked: Features, release: EngineRelease, model: ModelSpec) -> str | None:
    title, rules = _title(release), release.lora
    if not asked.lora_adapters:
        return None
    if not release.has("lora"):
        own = "; it merges one adapter when a model is created" if release.engine == "ollama" else ""
        return f"{title} serves no LoRA adapters beside a model{own}"
    if release.engine not in ("vllm", "tgi"):
        return f"{release.engine} takes adapters from files of its own form, not from the Hub; plan with engine vllm"
    if rules is None:
        return None
    if model.architecture in rules.unsupported_architectures:
        return f"{title} attaches no adapters to {model.architecture} models"
    widest = rules.max_vocab_size
    if widest and model.architecture in rules.embedding_architectures and model.vocab_size > widest:
        return f"{title} attaches adapters up to a vocabulary of {widest:,} tokens; {model.id} has {model.vocab_size:,}"
    return None


def _no_prefix_caching(asked: Features, release: EngineRelease, machine: Machine) -> str | None:
    if asked.prefix_caching is None:
        return None
    title = _title(release)
    if not release.has("prefix_caching"):
        return f"{title} keeps no prefixes" if asked.prefix_caching else None
    where = release.defaults.prefix_caching_platforms
    if asked.prefix_caching and where and machine.platform not in where:
        return f"{title} keeps no prefixes on {machine.platform}, only on {', '.join(where)}"
    if release.engine in _GGML and not asked.prefix_caching:
        return f"{title} always keeps what a slot read last"
    return None


def _no_grammar(asked: Features, release: EngineRelease) -> str | None:
    wanted, title = asked.structured_output, _title(release)
    if wanted is None:
        return None
    if not release.has("grammar"):
        return f"{title} holds no output to a schema"
    if release.engine in _VLLM or wanted == "auto":
        return None
    own = "outlines" if release.engine == "tgi" else "its own grammars"
    if release.engine == "tgi" and wanted == "outlines":
        return None
    return f"{title} holds output to a schema with {own}, not with {wanted}; ask for auto"


def _no_watermark(asked: Features, release: EngineRelease) -> str | None:
    if not asked.watermark:
        return None
    if not release.has("watermark"):
        return f"{_title(release)} marks no tokens; TGI does"
    if release.engine in _VLLM:
        return (
            f"{_title(release)} takes its secret watermark key on the command line, and no file of ours holds a secret"
        )
    return None


def _no_split(asked: Features, release: EngineRelease, machine: Machine) -> str | None:
    if not asked.disaggregated:
        return None
    if release.engine != "vllm":
        return f"{_title(release)} cannot send a prompt's keys and values to another server"
    return None if machine.platform in ("cuda", "rocm") else f"NIXL is not known to run on {machine.platform}"


def _parser(kind: str, wanted: bool, named: str | None, release: EngineRelease, model: ModelSpec) -> str | None:
    """The parser's name, None where none is needed, or `!` and a reason."""
    title = _title(release)
    if not wanted:
        return None
    if kind == "tool" and not release.has("tool_calling"):
        return f"!{title} parses no tool calls"
    if release.engine not in _VLLM:
        if named is not None:
            return f"!{title} has no choice of parsers; leave the {kind} parser out"
        return "!TGI leaves thoughts in the answer; plan with engine vllm" if _is_tgi(kind, release) else None
    from planner.sources.parsers import family_of

    flag = "--tool-call-parser" if kind == "tool" else "--reasoning-parser"
    known = _choices(release, flag)
    family = family_of(model.id)
    name = named or (family and (family.tool if kind == "tool" else family.reasoning)) or None
    if name is None:
        return f"!no {kind} parser for {model.id} is catalogued; name one of {title}'s with --{kind}-parser"
    if known and name not in known:
        from planner.errors import nearest

        near = nearest(name, known, n=3) or known[:6]
        return f"!{title} has no {kind} parser {name}; nearest: {', '.join(near)}"
    return name


def _is_tgi(kind: str, release: EngineRelease) -> bool:
    return kind == "reasoning" and release.engine == "tgi"


def _choices(release: EngineRelease, flag: str) -> tuple[str, ...]:
    """The closed list of an option's values; empty where the release's options are not catalogued."""
    from planner.sources.flags import flag_list

    known = flag_list(release)
    found = known.find(flag) if known else None
    return tuple(choice for choice in found.choices if choice) if found else ()


def draft_reason(draft: ModelSpec, model: ModelSpec) -> str | None:
    """Why `draft` cannot draft for `model`; None when it can. vLLM compares token ids, so vocabularies must be one."""
    if draft.vocab_size == model.vocab_size:
        return None
    return (
        f"{draft.id} has {draft.vocab_size:,} tokens and {model.id} {model.vocab_size:,}: "
        "a draft model must have the same vocabulary"
    )


def extras_of(catalog: Catalog, features: Features) -> Extras:
    """`features` with the shape of what drafts. Raises UnknownNameError for a draft model that nobody knows."""
    from planner.estimate.deployment import Extras
    from planner.sources.models import resolve_model

    if features.speculative != "draft_model" or features.draft_model is None:
        return Extras(features)
    draft, _ = resolve_model(catalog, features.draft_model)
    named = features.model_copy(update={"draft_model": draft.id})
    return Extras(named, draft, catalog.format(draft.quantization))


def with_adapter(request: Request, model: ModelSpec) -> tuple[Request, str]:
    """`request` that asks for the adapter which was named as the model, and what became of it.

    Engines are told repositories of the Hub; an adapter in a folder is left to the user.
    """
    assert model.adapter is not None
    from planner.spec.features import REPOSITORY, adapter_name
    from planner.spec.request import Request

    if re.fullmatch(REPOSITORY, model.adapter, re.ASCII) is None:
        told = f"the adapter {model.adapter!a} is no repository: no file loads it; add it to the engine's options"
        return request, told
    asked = request.features.model_dump() if request.features is not None else {}
    adapters = dict.fromkeys((*asked.get("lora_adapters", ()), model.adapter))
    rank = max(model.adapter_rank or 1, asked.get("max_lora_rank", 16))
    features = {**asked, "lora_adapters": tuple(adapters), "max_lora_rank": rank}
    fields = request.model_dump(exclude_unset=True) | {"model": model.id, "features": features}
    return Request.model_validate(fields), f"the adapter is served as {adapter_name(model.adapter)} with its base model"
