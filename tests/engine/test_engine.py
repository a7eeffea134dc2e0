"""The engine as its users see it: the same tokens alone, under load, after preemption and from the prefix cache."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from planner.engine.engine import Engine
from planner.engine.params import RequestError, SamplingParams
from planner.errors import UsageError
from tests.engine.checkpoints import CASES, prompt

MakeEngine = Callable[..., Engine]
GREEDY = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
PROMPTS = [prompt(n, seed=n) for n in (3, 17, 30, 9, 41, 12)]


@pytest.mark.parametrize("case", ["llama", "mistral", "gemma2", "deepseek-v2", "qwen2-moe"])
def test_greedy_tokens_are_the_same_alone_and_under_load(case: str, make_engine: MakeEngine) -> None:
    alone = [make_engine(case).generate([p], GREEDY)[0] for p in PROMPTS]
    assert make_engine(case, max_num_seqs=6, max_num_batched_tokens=24).generate(PROMPTS, GREEDY) == alone


@pytest.mark.parametrize("case", ["llama", "deepseek-v2"])
def test_preemption_loses_no_token(case: str, make_engine: MakeEngine) -> None:
    engine = make_engine(case, max_model_len=64, max_num_seqs=6, n_blocks=16, block_size=4)
    assert engine.generate(PROMPTS, GREEDY) == make_engine(case, max_num_seqs=6).generate(PROMPTS, GREEDY)
    assert engine.scheduler.n_preemptions > 0
    assert engine.pool.n_used == 0


def test_seeded_sampling_survives_preemption(make_engine: MakeEngine) -> None:
    params = SamplingParams(max_tokens=12, temperature=0.9, top_p=0.95, seed=3, ignore_eos=True)
    tight = make_engine(max_model_len=64, max_num_seqs=6, n_blocks=16, block_size=4)
    assert tight.generate(PROMPTS, params) == make_engine(max_num_seqs=6).generate(PROMPTS, params)


def test_a_repeated_prompt_comes_from_the_prefix_cache(make_engine: MakeEngine) -> None:
    engine = make_engine()
    first = engine.generate([PROMPTS[4]], GREEDY)
    assert engine.generate([PROMPTS[4]], GREEDY) == first
    assert engine.scheduler.prefix_hits == len(PROMPTS[4]) // 16 * 16


def test_ranks_give_the_tokens_of_one(make_engine: MakeEngine) -> None:
    assert make_engine(tensor_parallel=2).generate(PROMPTS, GREEDY) == make_engine().generate(PROMPTS, GREEDY)


def test_the_planned_concurrency_runs_and_one_more_waits(make_engine: MakeEngine) -> None:
    engine = make_engine(max_num_seqs=3)
    for p in PROMPTS[:4]:
        engine.add(p, GREEDY)
    engine.step()
    assert (len(engine.scheduler.running), len(engine.scheduler.waiting)) == (3, 1)


def test_an_aborted_request_gives_its_blocks_back(make_engine: MakeEngine) -> None:
    engine = make_engine(max_num_seqs=1)
    running, waiting = engine.add(PROMPTS[0], GREEDY), engine.add(PROMPTS[1], GREEDY)
    engine.step()
    assert engine.abort(waiting) and engine.abort(running) and not engine.abort(running)
    assert engine.pool.n_used == 0 and not engine.has_work and engine.step() == []


def test_a_prompt_beyond_the_context_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(max_model_len=32)
    with pytest.raises(RequestError, match="maximum context length is 32 tokens"):
        engine.add(prompt(32), SamplingParams())
    with pytest.raises(RequestError, match="29 for the completion"):
        engine.add([1, 2, 3, 4], SamplingParams(max_tokens=29))
    engine.add([1, 2, 3, 4], SamplingParams(max_tokens=28))


@pytest.mark.parametrize(("tokens", "complaint"), [([], "empty"), ([1, 272], "token 272"), ([-1], "token -1")])
def test_impossible_prompts_are_refused(tokens: list[int], complaint: str, make_engine: MakeEngine) -> None:
    with pytest.raises(RequestError, match=complaint):
        make_engine().add(tokens, GREEDY)


def test_limits_the_cache_cannot_hold_are_refused(make_engine: MakeEngine) -> None:
    with pytest.raises(UsageError, match="at least 8 blocks"):
        make_engine(max_model_len=128, n_blocks=7)
    with pytest.raises(UsageError, match="beyond the model's 512"):
        make_engine(max_model_len=513)


def test_output_ends_at_the_context(make_engine: MakeEngine) -> None:
    engine = make_engine(max_model_len=16)
    outputs = []
    engine.add(prompt(10), SamplingParams(temperature=0.0, ignore_eos=True))
    while engine.has_work:
        outputs += engine.step()
    assert len(outputs) == 6 and outputs[-1].finish_reason == "length"


def test_a_stop_string_ends_the_text_before_it(make_engine: MakeEngine) -> None:
    params = SamplingParams(max_tokens=60, temperature=1.0, seed=5, ignore_eos=True)

    def run(stop: tuple[str, ...]) -> tuple[str, str | None]:
        engine, text, reason = make_engine(), "", None
        engine.add(PROMPTS[1], SamplingParams(max_tokens=60, temperature=1.0, seed=5, ignore_eos=True, stop=stop))
        while engine.has_work:
            for output in engine.step():
                text, reason = text + output.text, output.finish_reason
        return text, reason

    whole, _ = run(())
    assert len(make_engine().generate([PROMPTS[1]], params)[0]) == 60
    stop = whole[10:13]
    text, reason = run((stop, "never there"))
    assert (text, reason) == (whole[: whole.index(stop)], "stop")


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "ü", 3]}, "minItems": 1, "maxItems": 3},
        "note": {"type": ["null", "boolean"]},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("case", ["llama", "gemma2"])
def test_constrained_output_is_valid_and_complete(seed: int, case: str, make_engine: MakeEngine) -> None:
    engine, text, reason = make_engine(case), "", None
    engine.add(prompt(8, seed), SamplingParams(max_tokens=70, temperature=1.3, seed=seed, schema=SCHEMA))
    while engine.has_work:
        for output in engine.step():
            text, reason = text + output.text, output.finish_reason
    value = json.loads(text)
    assert {"name", "age", "tags"} <= value.keys() <= SCHEMA["properties"].keys()  # type: ignore[attr-defined]
    assert isinstance(value["age"], int) and len(value["name"]) <= 8 and set(value["tags"]) <= {"a", "ü", 3}
    assert reason in ("stop", "length")


def test_every_case_generates(make_engine: MakeEngine) -> None:
    for case in CASES:
        assert len(make_engine(case).generate([PROMPTS[0]], GREEDY)[0]) == 12, case
