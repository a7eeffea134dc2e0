"""Step times of many candidates at once: columns of loads, each row on the deployment that it names.

The laws are those of `StepModel`, evaluated on numpy columns, so a row equals the scalar call. numpy is imported
when it is called; nothing on the way of a recommendation needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.estimate.pace import Steps


def step_times(
    steps: Sequence[Steps],
    which: Any,
    decode_batch: Any,
    mean_context: Any,
    prefill_tokens: Any = 0.0,
    prompt_tokens: Any = 1.0,
) -> Any:
    """Seconds of one step per row, a float64 array [n].

    `which` [n] says on which of `steps` a row runs; the other columns [n] (or one number for all) are those of
    `StepModel.mixed_s`: sequences, and tokens. Raises IndexError when `which` names no step.
    """
    import numpy as np

    which = np.asarray(which, dtype=np.intp)
    columns = [
        np.broadcast_to(np.asarray(c, dtype=np.float64), which.shape)
        for c in (decode_batch, mean_context, prefill_tokens, prompt_tokens)
    ]
    if not which.size:
        return np.empty(which.shape, dtype=np.float64)
    order = np.argsort(which, kind="stable")
    found, starts = np.unique(which[order], return_index=True)
    if found[0] < 0 or found[-1] >= len(steps):
        raise IndexError(f"rows name steps {found[0]} to {found[-1]}, there are {len(steps)}")
    seconds = np.empty(which.shape, dtype=np.float64)
    for index, rows in zip(found, np.split(order, starts[1:]), strict=True):
        seconds[rows] = steps[index].mixed_s(*(column[rows] for column in columns))
    return seconds
