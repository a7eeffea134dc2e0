"""What the smoke test works on: a model loaded into the engine, beside the spec that the ledger reads.

A twin (`twin`), or the user's own checkpoint where the plan serves a small one from this machine. Checks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from planner.engine.engine import Engine
from planner.engine.load import load
from planner.engine.model import Model
from planner.engine.scheduler import Limits
from planner.engine.tokenizer import ByteTokenizer
from planner.render.arguments import is_local
from planner.validate.twin import CONTEXT_TOKENS, MAX_SEQUENCES, Twin, make_twin, seeded_weights

if TYPE_CHECKING:
    from planner.engine.chat import ChatTemplate
    from planner.engine.tokenizer import Tokenizer
    from planner.sources.catalog import Catalog
    from planner.spec.plan import Plan
    from planner.spec.quantization import QuantizationFormat

STEP_TOKENS = 256
MAX_OWN_PARAMETERS = 1_500_000_000
"""A checkpoint of the user's own is run up to this size; fp32 takes four bytes of each."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A model, whole and (where the plan is tensor-parallel) in slices. Without a tokenizer, bytes are tokens."""

    twin: Twin
    fp32: QuantizationFormat
    model: Model
    sharded: Model | None
    tokenizer: Tokenizer | None = None
    template: ChatTemplate | None = None
    context_tokens: int = CONTEXT_TOKENS

    def engine(
        self, *, context: int | None = None, sequences: int | None = None, n_blocks: int | None = None,
        queue: int | None = None,
    ) -> Engine:  # fmt: skip
        """An engine over the whole model, prefix cache off so that nothing is shared by chance."""
        limits = Limits(context or self.context_tokens, sequences or self.twin.max_num_seqs, STEP_TOKENS, queue)
        return Engine(
            self.model, self.tokenizer or ByteTokenizer(self.twin.spec.vocab_size), limits, n_blocks=n_blocks,
            block_size=self.twin.block_size, prefix_caching=False,
        )  # fmt: skip

    def prompt(self, number: int, length: int) -> list[int]:
        """A fixed prompt of `length` tokens, another for each `number`."""
        size = min(256, self.twin.spec.vocab_size)
        return [(number * 131 + i * i * 7 + i * 31) % size for i in range(length)]


def make_bench(plan: Plan, catalog: Catalog) -> Bench:
    """The user's own small checkpoint, else a twin of the planned model.

    Raises UsageError for an architecture that the engine does not have, FormatError for a damaged checkpoint.
    """
    fp32, tensor = catalog.format("fp32"), 2 if plan.best.parallelism.tensor > 1 else 1
    if _runs_itself(plan):
        return _own(plan, fp32, tensor)
    twin = make_twin(plan)
    config = twin.engine_config
    weights = seeded_weights(config, twin.spec.id)
    return Bench(twin, fp32, Model(config, weights), Model(config, weights, tensor) if tensor > 1 else None)


def _runs_itself(plan: Plan) -> bool:
    model = plan.best.model
    return is_local(model) and model.parameters <= MAX_OWN_PARAMETERS and Path(model.checkpoint).expanduser().exists()


def _own(plan: Plan, fp32: QuantizationFormat, tensor: int) -> Bench:
    limits = plan.best.limits
    found = load(Path(plan.best.model.checkpoint).expanduser())
    twin = Twin(
        plan.resolved.model, {}, min(limits.max_num_seqs, MAX_SEQUENCES), limits.block_size or 16, tensor,
        (f"your own checkpoint {found.name}",),
    )  # fmt: skip
    sharded = Model(found.config, found.weights, tensor) if tensor > 1 else None
    context = min(CONTEXT_TOKENS, limits.max_model_len, found.config.max_position)
    return Bench(twin, fp32, Model(found.config, found.weights), sharded, found.tokenizer, found.template, context)
