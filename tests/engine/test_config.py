"""Configs: both of HF's layouts mean the same, and no value of any field does more than raise one of our errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine.config import ModelConfig
from planner.engine.hf_config import from_hf
from planner.errors import PlannerError, UnknownNameError
from tests.engine.checkpoints import CASES, LLAMA

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(case=st.sampled_from(sorted(CASES)), data=st.data())
def test_any_value_of_any_field_is_taken_or_refused(case: str, data: st.DataObject) -> None:
    config = dict(CASES[case])
    config[data.draw(st.sampled_from(sorted(config)))] = data.draw(JSON)
    try:
        assert isinstance(from_hf(config), ModelConfig)
    except PlannerError:
        return


def test_both_layouts_of_rope_mean_the_same() -> None:
    scaling = {"rope_type": "linear", "factor": 2.0}
    old = LLAMA | {"rope_theta": 5e5, "rope_scaling": scaling}
    new = {k: v for k, v in LLAMA.items() if k != "rope_theta"} | {"rope_parameters": scaling | {"rope_theta": 5e5}}
    assert from_hf(old) == from_hf(new)


def test_both_layouts_of_gemma3_mean_the_same() -> None:
    old: dict[str, Any] = CASES["gemma3"]
    dropped = ("rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern")
    new = {k: v for k, v in old.items() if k not in dropped} | {
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    }
    assert from_hf(old) == from_hf(new)


def test_an_unknown_model_type_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="nearest: llama"):
        from_hf(LLAMA | {"model_type": "lama"})


def test_an_endless_number_of_experts_is_refused() -> None:
    with pytest.raises(PlannerError, match="experts"):
        from_hf(CASES["mixtral"] | {"num_local_experts": 1 << 39})
