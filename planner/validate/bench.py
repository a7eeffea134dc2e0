"""What the smoke test works on: a model loaded into the engine, beside the spec that the ledger reads.

A twin (`twin`), written in the plan's weight format and loaded again, or the user's own checkpoint where the plan
serves a small one from this machine. Checks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from planner.engine.engine import Engine
from planner.engine.load import load
from planner.engine.model import Model
from planner.engine.scheduler import Limits
from planner.engine.tokenizer import ByteTokenizer
from planner.errors import UsageError
from planner.render.arguments import is_local
from planner.validate.twin import CONTEXT_TOKENS, MAX_SEQUENCES, Twin, make_twin, seeded_weights
from planner.validate.twin_files import planned_bytes, stored_bytes, write_twin

if TYPE_CHECKING:
    from planner.engine.chat import ChatTemplate
    from planner.engine.load import Checkpoint
    from planner.engine.tokenizer import Tokenizer
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec
    from planner.spec.plan import Plan
    from planner.spec.quantization import QuantizationFormat

MAX_OWN_PARAMETERS = 1_500_000_000
"""A checkpoint of the user's own is run up to this size; fp32 takes four bytes of each."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The twin's files in a weight format: their bytes of tensors, and the ledger's. `why` the plan's was not taken."""

    form: str
    bytes: int
    planned: int
    why: str = ""


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
    stored: Stored | None = None
    planned_kv_dtype: str = "fp32"

    def engine(
        self, *, context: int | None = None, sequences: int | None = None, n_blocks: int | None = None,
        queue: int | None = None,
    ) -> Engine:  # fmt: skip
        """An engine over the whole model, prefix cache off so that nothing is shared by chance."""
        limits = Limits(
            context or self.context_tokens, sequences or self.twin.max_num_seqs, self.twin.step_tokens, queue
        )
        return Engine(
            self.model, self.tokenizer or ByteTokenizer(self.twin.spec.vocab_size), limits, n_blocks=n_blocks,
            block_size=self.twin.block_size, prefix_caching=False,
        )  # fmt: skip

    def prompt(self, number: int, length: int) -> list[int]:
        """A fixed prompt of `length` tokens, another for each `number`."""
        size = min(256, self.twin.spec.vocab_size)
        return [(number * 131 + i * i * 7 + i * 31) % size for i in range(length)]


def make_bench(plan: Plan, catalog: Catalog, checkpoint: Path | None = None) -> Bench:
    """The user's own small checkpoint, else a twin of the planned model.

    The checkpoint is `checkpoint`, or the planned model itself where it lies on this machine. Raises UsageError for an
    architecture that the engine does not have and a checkpoint that is too large, FormatError for a damaged one.
    """
    fp32, tensor = catalog.format("fp32"), 2 if plan.best.parallelism.tensor > 1 else 1
    if checkpoint is not None:
        path = checkpoint.expanduser()
        return _own(plan, _spec_of(path, catalog), path, fp32, tensor)
    if _runs_itself(plan):
        return _own(plan, plan.resolved.model, Path(plan.best.model.checkpoint).expanduser(), fp32, tensor)
    form = catalog.format(plan.best.quantization)
    try:
        twin, found, stored = _loaded(plan, form, catalog)
    except UsageError as error:
        plain = catalog.format("fp32" if plan.resolved.model.dtype == "fp32" else plan.resolved.model.dtype)
        twin, found, stored = _loaded(plan, plain, catalog)
        stored = replace(stored, why=f"{form.id}: {error}")
    config, weights = found.config, found.weights
    sharded = Model(config, weights, tensor) if tensor > 1 else None
    return Bench(twin, fp32, Model(config, weights), sharded, stored=stored, planned_kv_dtype=plan.best.kv_cache_dtype)


def _loaded(plan: Plan, form: QuantizationFormat, catalog: Catalog) -> tuple[Twin, Checkpoint, Stored]:
    """The twin written as `form` and read back by the engine. Raises UsageError when the engine has no such format."""
    twin = make_twin(plan, form)
    with TemporaryDirectory(prefix="planner-twin-") as folder:
        path = write_twin(twin, seeded_weights(twin.engine_config, twin.spec.id), form, catalog, Path(folder))
        found, size = load(path), stored_bytes(path)
    told, read = ([layer.window for layer in c.layers] for c in (twin.engine_config, found.config))
    if any(read) and told != read:
        raise UsageError(f"a file of this format cannot say which of {len(told)} layers have windows")
    notes = () if told == read else ("without the sliding window, which llama.cpp does not keep either",)
    return replace(twin, notes=(*twin.notes, *notes)), found, Stored(form.id, size, planned_bytes(twin, form, catalog))


def _runs_itself(plan: Plan) -> bool:
    model = plan.best.model
    return is_local(model) and model.parameters <= MAX_OWN_PARAMETERS and Path(model.checkpoint).expanduser().exists()


def _spec_of(checkpoint: Path, catalog: Catalog) -> ModelSpec:
    from planner.estimate.tensors import parameter_count
    from planner.sources.local import from_path

    spec = from_path(catalog, str(checkpoint), catalog.model)
    if (n := parameter_count(spec)) > MAX_OWN_PARAMETERS:
        raise UsageError(f"{checkpoint.name} has {n:,} parameters; the smoke test runs up to {MAX_OWN_PARAMETERS:,}")
    return spec


def _own(plan: Plan, spec: ModelSpec, path: Path, fp32: QuantizationFormat, tensor: int) -> Bench:
    limits = plan.best.limits
    found = load(path)
    if tensor > 1 and (found.config.heads % tensor or found.config.kv_heads % tensor):
        tensor = 1
    twin = Twin(
        spec, {}, min(limits.max_num_seqs, MAX_SEQUENCES), limits.block_size or 16, tensor,
        (f"your own checkpoint {found.name}",),
    )  # fmt: skip
    sharded = Model(found.config, found.weights, tensor) if tensor > 1 else None
    context = min(CONTEXT_TOKENS, limits.max_model_len, found.config.max_position)
    return Bench(
        twin, fp32, Model(found.config, found.weights), sharded, found.tokenizer, found.template, context,
        planned_kv_dtype=plan.best.kv_cache_dtype,
    )  # fmt: skip
