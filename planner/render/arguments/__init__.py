"""Engine command lines: one configuration to the flags of its engine.

One module per engine, each with `arguments(configuration, resolved) -> tuple[str, ...]`. Every
option is one word, `--flag=value`: a value that starts with a dash can then never be read as a
flag. Knows nothing of containers; the port and the model's place inside one are passed in.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.spec.plan import Configuration, ModelChoice, Resolved

MODEL_MOUNT = PurePosixPath("/models")
"""Where local weights are mounted inside a container."""


def option(flag: str, value: object) -> str:
    """`--flag=value`; floats without binary noise."""
    return f"{flag}={value:.12g}" if isinstance(value, float) else f"{flag}={value}"


def options(*pairs: tuple[str, object | None]) -> tuple[str, ...]:
    """Those of `pairs` whose value is not None, as words."""
    return tuple(option(flag, value) for flag, value in pairs if value is not None)


def is_local(model: ModelChoice) -> bool:
    """True when the engine is told to load a path of the user's machine and not a name of a hub."""
    name = model.checkpoint
    return name.startswith(("/", "./", "../", "~")) or name.endswith(".gguf")


def own_path(model: ModelChoice) -> str:
    """A local checkpoint on the user's machine, `~` resolved. Raises UsageError for the home of nobody."""
    from planner.errors import UsageError
    from planner.render.quoting import printable

    try:
        return str(Path(model.checkpoint).expanduser())
    except RuntimeError:
        raise UsageError(
            f"{printable(model.checkpoint)[:80]!r} starts in the home of a user that is not here"
        ) from None


def container_model_path(model: ModelChoice) -> str:
    """Where a local checkpoint is mounted: a fixed name, so that nothing of the path matters inside."""
    return str(MODEL_MOUNT / ("model.gguf" if model.checkpoint.endswith(".gguf") else "model"))


def kv_cache_flag(configuration: Configuration, resolved: Resolved) -> str | None:
    """What the engine's own option calls the planned KV format; None leaves the option out."""
    dtype = configuration.kv_cache_dtype
    flag = resolved.engine.kv_flags.get(dtype)
    if flag is None and dtype not in ("auto", "bf16", "fp16"):
        return dtype
    return None if flag == "auto" else flag


def dtype_flag(configuration: Configuration, resolved: Resolved) -> str | None:
    """The dtype that must be named because it is not the checkpoint's: bf16 weights on a GPU without bf16."""
    names = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
    accelerator, model = resolved.machine.accelerator, resolved.model
    wanted = configuration.quantization if configuration.quantization in names else None
    if accelerator is not None and accelerator.lacks_bf16 and (wanted or model.dtype) == "bf16":
        wanted = "fp16"
    return names[wanted] if wanted is not None and wanted != model.dtype else None
