"""Flags and a request file become one validated Request; flags win over the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.errors import UsageError
from planner.units import parse_tokens

if TYPE_CHECKING:
    from planner.spec.request import Request

_MAX_FILE_BYTES = 1 << 20
_FLAGS = {
    "input_tokens": "--isl",
    "output_tokens": "--osl",
    "ttft_ms": "--ttft",
    "itl_ms": "--itl",
    "tensor_parallel": "--tp",
    "pipeline_parallel": "--pp",
    "data_parallel": "--dp",
    "expert_parallel": "--ep",
    "budget_usd_per_hour": "--budget",
    "features.lora_adapters": "--lora",
    "site.http_proxy": "--proxy",
    "shared_prefix_tokens": "--shared-prefix",
    "length_variation": "--lengths",
}
"""Options that are not spelled as the field they set."""


def build_request(file: Path | None, **flags: Any) -> Request:
    """The Request of `file` and `flags`. Raises UsageError with the field, its limit and valid values."""
    from planner.api import make_request
    from planner.spec.request import Request

    defaults = {name: field.default for name, field in Request.model_fields.items()}
    fields: dict[str, Any] = {} if file is None else read_request(file)
    for group in ("features", "site"):
        _add_group(fields, group, flags.pop(group, None) or {})
    given = {name: value for name, value in flags.items() if value is not None and value != defaults.get(name, ...)}
    gpu, number = given.pop("gpu", None), given.pop("num_gpus", None)
    if gpu is not None:
        if "gpus" in given:
            raise UsageError("give --gpus, or --gpu with --num-gpus, not both")
        given["gpus"] = f"{1 if number is None else number}x{gpu}"
    elif number is not None:
        raise UsageError("--num-gpus needs --gpu, e.g. --gpu A100-80GB --num-gpus 2")
    if isinstance(given.get("require"), str):
        given["require"] = tuple(word.strip() for word in given["require"].split(",") if word.strip())
    if given.get("lengths") is not None:
        from planner.sources.lengths import length_fields

        given |= length_fields(given.pop("lengths"))
    if isinstance(given.get("max_model_len"), str):
        given["max_model_len"] = parse_tokens(given["max_model_len"])
    if isinstance(given.get("budget_usd_per_hour"), str):
        given["budget_usd_per_hour"] = _budget(given["budget_usd_per_hour"])
    if given.get("request_rate") is not None and "arrival" not in given:
        given["arrival"] = "poisson"
    fields |= given
    if not fields.get("model"):
        raise UsageError("no model given; use --model, e.g. --model llama3-70b")
    return make_request(**fields)


def _add_group(fields: dict[str, Any], group: str, flags: dict[str, Any]) -> None:
    """Flags of one nested part of the request over what the file says of it."""
    given = {name: value for name, value in flags.items() if value is not None}
    held = fields.get(group)
    if given and (held is None or isinstance(held, dict)):
        fields[group] = {**(held or {}), **given}


def as_options(message: str, arguments: list[str]) -> str:
    """`message` about a field of the request, with the option by which `arguments` set it instead."""
    field, colon, limit = message.partition(": ")
    field = field.rstrip("0123456789").rstrip(".")  # an element of a list, require.0
    option = _FLAGS.get(field) or "--" + field.rpartition(".")[2].replace("_", "-")
    given = any(a.split("=")[0] == option for a in arguments)
    return f"{option}: {limit}" if colon and given else message


def read_request(path: Path) -> dict[str, Any]:
    """A request file: a YAML mapping of Request fields. Raises UsageError in one line."""
    import yaml

    from planner.api import reading_failure
    from planner.formats.strict_yaml import KeyProblemError, strict_loader
    from planner.sources.given import read_given

    try:
        text = read_given(path, _MAX_FILE_BYTES)
        if "&" in text and "*" in text and any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text)):
            raise UsageError(f"{path.name}: YAML aliases are not accepted in a request")
        data = yaml.load(text, Loader=strict_loader(yaml.SafeLoader))  # safe: built upon the safe loader
    except KeyProblemError as error:
        raise UsageError(f"{path.name}, {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"request file {str(path)!a} cannot be read: {reading_failure(error)}") from None
    except (yaml.YAMLError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise UsageError(
            f"{path.name}{line}: not valid YAML: {getattr(error, 'problem', None) or 'too deep'}"
        ) from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UsageError(f"{path.name}: a request is a mapping, e.g. `model: llama3-70b`")
    return data


def _budget(text: str) -> float:
    """USD per hour of "5/h", "5", "$5/h" or "3600/month"."""
    amount, _, unit = text.strip().lstrip("$").partition("/")
    hours = {"": 1, "h": 1, "hour": 1, "day": 24, "d": 24, "month": 730, "mo": 730}.get(unit.strip())
    try:
        if hours is None:
            raise ValueError
        return float(amount) / hours
    except ValueError:
        raise UsageError(f"budget {text!a} is not an amount per hour, day or month; e.g. 5/h") from None
