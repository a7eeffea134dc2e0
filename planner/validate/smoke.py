"""A twin of the planned model (or the user's own small checkpoint), served for real.

Bytes, attention, admission, preemption, the HTTP API. The only place where what the engine allocates meets the
ledger's formula: they must be equal to the byte. Needs numpy and no network; says nothing of speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from textwrap import shorten
from typing import TYPE_CHECKING

from planner.errors import FormatError, UsageError
from planner.estimate.kvcache import PoolRules, kv_pool
from planner.estimate.weights import PLAIN, weight_bytes
from planner.units import ceil_div
from planner.validate.verdict import Check, failed, guarded, judged, passed, skipped

if TYPE_CHECKING:
    from pathlib import Path

    from planner.sources.catalog import Catalog
    from planner.spec.plan import Plan
    from planner.validate.bench import Bench

TOLERANCE = 1e-4
"""Largest difference of two logits that count as equal, as a share of the largest logit."""
MAX_STEPS = 20_000
PREEMPTION_UNIT_TOKENS = 16
N_QUESTIONS = 5
"""How many questions the smoke model is asked."""
PROBE_LOAD = (64, 8)
"""Input and output tokens of the load over HTTP."""


def smoke(plan: Plan, catalog: Catalog, checkpoint: Path | None = None) -> tuple[Check, ...]:
    """All checks on the twin of `plan`'s model, or on the user's own `checkpoint`.

    One skipped check when the engine has no such architecture, a failed one when the checkpoint is damaged.
    """
    from planner.validate.bench import make_bench

    try:
        bench = make_bench(plan, catalog, checkpoint)
    except UsageError as error:
        if checkpoint is not None:  # asked for by name: not something to pass over
            raise
        return (skipped("twin", " ".join(str(error).split())),)
    except FormatError as error:
        return (failed("checkpoint", " ".join(str(error).split())),)
    named: list[tuple[str, Callable[[Bench], Check]]] = [
        ("weights to the byte", _weights), ("weight format", _format), ("KV blocks to the byte", _kv_blocks),
        ("paged = contiguous", _paged),
        ("admission", _admission), ("preemption", _preemption), ("alone = under load", _under_load),
        ("context limit", _context),
    ]  # fmt: skip
    if bench.sharded is not None:
        named.insert(3, ("tensor parallel", _tensor_parallel))
    twin = bench.twin
    scaled = _limits(bench, plan)
    told = (
        f"{twin.summary}; {scaled['max_num_seqs']} of {scaled['planned_max_num_seqs']:,} sequences, a context of "
        f"{scaled['context_tokens']} of {scaled['planned_context_tokens']:,} tokens"
    )
    made = passed("twin", told, layers=twin.spec.n_layers, **scaled)
    if bench.stored is None:
        del named[1]
    checks = [guarded(name, partial(check, bench)) for name, check in named]
    return (made, *checks, *_over_http(bench, plan), guarded("answer", _answer))


def _limits(b: Bench, plan: Plan) -> dict[str, int]:
    """The limits it is served with, beside the planned ones."""
    planned, twin = plan.best.limits, b.twin
    return {
        "max_num_seqs": twin.max_num_seqs, "planned_max_num_seqs": planned.max_num_seqs,
        "context_tokens": b.context_tokens, "planned_context_tokens": planned.max_model_len,
        "step_tokens": twin.step_tokens,
    }  # fmt: skip


def _weights(b: Bench) -> Check:
    """What numpy allocated for weights, whole and on the first rank, against the ledger's sum over tensors."""
    spec, tensor = b.twin.spec, b.twin.tensor_parallel
    rows = [("whole", b.model.allocated_weight_bytes, weight_bytes(spec, b.fp32, rules=PLAIN))]
    if b.sharded is not None:
        on_rank = sum(array.nbytes for array in b.sharded.ranks[0].arrays())
        rows.append((f"rank 0 of {tensor}", on_rank, weight_bytes(spec, b.fp32, tp=tensor, rules=PLAIN)))
    return _to_the_byte("weights to the byte", rows)


def _format(b: Bench) -> Check:
    """The twin's files in the plan's weight format, as the engine read them, against the ledger's formula for it."""
    assert b.stored is not None
    form, name = b.stored.form, "weight format"
    if b.stored.why:
        return skipped(name, f"{b.stored.why}; the twin's weights are {form}")
    return _to_the_byte(name, [(f"the twin's files in {form}", b.stored.bytes, b.stored.planned)])


def _kv_blocks(b: Bench) -> Check:
    """The same for KV blocks: one table for all layers, as the engine has."""
    spec, size = b.twin.spec, b.twin.block_size
    engine = b.engine()
    n_blocks, rows = engine.pool.n_blocks, []
    models = [("whole", b.model, 1)]
    models += [(f"rank 0 of {b.twin.tensor_parallel}", b.sharded, b.twin.tensor_parallel)] if b.sharded else []
    for name, model, tensor in models:
        allocated = engine.allocated_kv_bytes if tensor == 1 else model.paged_caches(n_blocks, size)[0].allocated_bytes
        pool = kv_pool(
            spec, allocated, max_model_len=b.context_tokens, kv_dtype_bytes=4, tp=tensor,
            rules=PoolRules(block_tokens=size, hybrid=False),
        )  # fmt: skip
        rows.append((f"{name}, {n_blocks} blocks of {size} tokens", allocated, n_blocks * pool.block_bytes))
    check = _to_the_byte("KV blocks to the byte", rows)
    return replace(check, detail=f"{check.detail}; the twin's cache is fp32, the plan's {b.planned_kv_dtype}")


def _to_the_byte(name: str, rows: Sequence[tuple[str, int, int]]) -> Check:
    told = "; ".join(f"{what}: {allocated:,} B" for what, allocated, _ in rows)
    wrong = [f"{what}: {allocated:,} B allocated, the ledger says {planned:,}" for what, allocated, planned in rows
             if allocated != planned]  # fmt: skip
    figures = {"allocated_bytes": rows[0][1], "ledger_bytes": rows[0][2]}
    return judged(name, not wrong, f"{told}, as the ledger says", "; ".join(wrong), **figures)


def _tensor_parallel(b: Bench) -> Check:
    """Ranks computed apart and summed give the logits of the whole."""
    import numpy as np

    assert b.sharded is not None
    prompt = b.prompt(0, 96)
    summed, whole = b.sharded.logits(prompt), b.model.logits(prompt)
    difference, scale = float(np.abs(summed - whole).max()), float(np.abs(whole).max())
    return _difference("tensor parallel", f"{b.twin.tensor_parallel} ranks summed", difference, scale, len(prompt))


def _difference(name: str, what: str, difference: float, scale: float, n_tokens: int) -> Check:
    share = difference / scale
    told = f"{what}: logits of {n_tokens} tokens differ by {share:.1e} of their scale"
    return judged(name, share <= TOLERANCE, told, told, difference=share, tolerance=TOLERANCE)


def _paged(b: Bench) -> Check:
    """Prompt chunks through blocks that lie apart and out of order, against one run of memory."""
    import numpy as np

    from planner.engine.batch import Chunk, make_step

    prompt, size = b.prompt(1, 150), b.twin.block_size
    n_blocks = 2 * ceil_div(len(prompt), size) + 1
    table = list(range(n_blocks - 1, -1, -2))[: ceil_div(len(prompt), size)]
    caches = b.model.paged_caches(n_blocks, size)
    pieces = []
    for start, end in ((0, 61), (61, 62), (62, 150)):
        chunk = Chunk(prompt[start:end], start, table[: ceil_div(end, size)])
        pieces.append(b.model.forward(make_step([chunk], block_size=size, every_row=True), caches))
    paged, whole = np.concatenate(pieces), b.model.logits(prompt)
    difference, scale = float(np.abs(paged - whole).max()), float(np.abs(whole).max())
    return _difference("paged = contiguous", f"{len(table)} scattered blocks", difference, scale, len(prompt))


def _admission(b: Bench) -> Check:
    """As many as planned run at once, one more waits, all end, and every block comes back."""
    from planner.engine.params import SamplingParams

    name, planned = "admission", b.twin.max_num_seqs
    engine = b.engine()
    ids = {engine.add(b.prompt(i, 12), SamplingParams(8, 0.0, ignore_eos=True)) for i in range(planned + 1)}
    most, ended = 0, set()
    for _ in range(MAX_STEPS):
        if not engine.has_work:
            break
        outputs = engine.step()
        most = max(most, len(engine.scheduler.running) + sum(o.finish_reason is not None for o in outputs))
        ended |= {o.request_id for o in outputs if o.finish_reason is not None}
    problems = []
    if most != planned:
        problems.append(f"{most} ran at once, planned {planned}")
    if ended != ids:
        problems.append(f"{len(ended)} of {len(ids)} requests ended")
    if engine.pool.n_used:
        problems.append(f"{engine.pool.n_used} blocks were not given back")
    good = f"{planned} at once, one more waits; all {len(ids)} ended, no block leaked"
    return judged(name, not problems, good, "; ".join(problems), ran_at_once=most, max_num_seqs=planned)


def _preemption(b: Bench) -> Check:
    """Three sequences in a pool for two: some are recomputed, and every token is the one of an ample pool."""
    from planner.engine.params import SamplingParams

    size = b.twin.block_size
    unit = max(size, PREEMPTION_UNIT_TOKENS)  # an engine may page single tokens
    prompt_tokens, output_tokens = 2 * unit - 4, 2 * unit
    context = 4 * unit
    params = SamplingParams(output_tokens, 0.0, ignore_eos=True)
    prompts = [b.prompt(20 + i, prompt_tokens) for i in range(3)]
    ample = b.engine(context=context, sequences=3).generate(prompts, params)
    tight = b.engine(context=context, sequences=3, n_blocks=7 * unit // size)
    found = tight.generate(prompts, params)
    n = tight.scheduler.n_preemptions
    if not n:
        return failed("preemption", "a pool for two of three sequences preempted none")
    lost = sum(a != z for one, two in zip(found, ample, strict=True) for a, z in zip(one, two, strict=True))
    told = f"{n} preemptions, {lost} of {3 * output_tokens} tokens differ"
    return judged("preemption", lost == 0 and tight.pool.n_used == 0, told, told, preemptions=n, lost_tokens=lost)


def _under_load(b: Bench) -> Check:
    """The same greedy tokens alone and among others of other lengths."""
    from planner.engine.params import SamplingParams

    params = SamplingParams(12, 0.0, ignore_eos=True)
    prompts = [b.prompt(40 + i, 5 + 17 * i) for i in range(min(b.twin.max_num_seqs, 6))]
    together = b.engine().generate(prompts, params)
    alone = [b.engine(sequences=1).generate([prompt], params)[0] for prompt in prompts]
    same = sum(a == z for a, z in zip(together, alone, strict=True))
    told = f"{same} of {len(prompts)} prompts give the same {params.max_tokens} tokens alone and together"
    return judged("alone = under load", same == len(prompts), told, told, prompts=len(prompts), same=same)


def _context(b: Bench) -> Check:
    """A prompt that fills the context but for one token is served, one token more is refused."""
    from planner.engine.params import RequestError, SamplingParams

    engine, params = b.engine(sequences=1), SamplingParams(1, 0.0)
    (longest,) = engine.generate([b.prompt(60, b.context_tokens - 1)], params)
    try:
        engine.add(b.prompt(61, b.context_tokens), params)
    except RequestError as error:
        return judged(
            "context limit",
            len(longest) == 1,
            shorten(str(error), 120, placeholder=" …"),
            "the longest prompt got no token",
        )
    return failed("context limit", f"{b.context_tokens} prompt tokens and one more were accepted")


def _answer() -> Check:
    """The shipped smoke model, asked over HTTP: a twin's weights are noise, this one's answers are words."""
    from planner.engine.engine import Engine
    from planner.engine.load import load
    from planner.engine.model import Model
    from planner.engine.scheduler import Limits
    from planner.engine.server import ApiServer
    from planner.engine.smoke_model import FOLDER, golden_answers
    from planner.validate.probe.http import Client

    found, golden = load(FOLDER), golden_answers()
    engine = Engine(Model(found.config, found.weights), found.tokenizer, Limits(found.config.max_position))
    heard = {}
    with ApiServer(engine, "smoke", found.template) as server:
        client = Client(server.url, timeout_s=20)
        for question in list(golden)[:N_QUESTIONS]:
            body = {"model": "smoke", "temperature": 0, "messages": [{"role": "user", "content": question}]}
            heard[question] = str(client.post("/v1/chat/completions", body).json["choices"][0]["message"]["content"])
    wrong = [f"{q!r} → {a!r}, not {golden[q]!r}" for q, a in heard.items() if a != golden[q]]
    told = "; ".join(f"{question} → {answer}" for question, answer in list(heard.items())[-2:])
    return judged("answer", not wrong, told, "; ".join(wrong), questions=len(heard), as_trained=len(heard) - len(wrong))


def _over_http(b: Bench, plan: Plan) -> tuple[Check, ...]:
    """The probe against the twin behind the engine's server, at the planned concurrency of the twin."""
    from planner.engine.chat import ChatTemplate
    from planner.engine.server import ApiServer
    from planner.validate.probe import probe_checks
    from planner.validate.probe.http import Client
    from planner.validate.probe.subject import Promise

    name, (prompt, answer) = plan.best.model.served_name, PROBE_LOAD
    promise = Promise("vllm", name, b.context_tokens, b.twin.max_num_seqs, prompt, answer, grammar=True)
    with ApiServer(b.engine(queue=4 * b.twin.max_num_seqs), name, b.template or ChatTemplate(None)) as server:
        checks = probe_checks(Client(server.url, timeout_s=20), promise)
    speed = ("TTFT", "ITL", "throughput", "native API", "metrics: KV tokens")  # a twin says nothing of these
    return tuple(Check(f"HTTP: {c.name}", c.status, c.detail, c.figures) for c in checks if c.name not in speed)
