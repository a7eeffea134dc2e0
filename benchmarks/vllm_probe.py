"""What has to live inside a vLLM engine to measure it: a memory report and a decode without its prefill.

`MemoryReport` extends the worker with a remote call that reads the figures of the start-up profile in
bytes; `SweepWorker` repeats that profile for other limits of tokens and sequences, without starting again.
`SkipPrefill` is a KV connector that tells the scheduler that a marked prompt is already in the cache, so
the decode step at a long context is measured without paying for the prompt; the cache is filled with random
values once. `AuditWorker` lists what the allocator holds once the weights are loaded, and stops there;
`SpreadWorker` gives random weights what a trained model has: experts that are all used, and packed integers
that are not all zero. It says nothing about prefill and knows no model. Loaded by name by `measure_vllm.py`;
written against vLLM 0.26.
"""

from __future__ import annotations

import gc
import re
from collections import defaultdict
from typing import Any, ClassVar

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    SupportsHMA,
)
from vllm.v1.worker.gpu_worker import Worker

_MARK = "in_cache"
_FILL_CHUNK_ELEMENTS = 1 << 30
SWEEP = [(tokens, seqs) for tokens in (16384, 8192, 4096, 2048) for seqs in (1024, 256, 64)]


class MemoryReport:
    """Worker extension: `collective_rpc("memory_report")` returns the engine's own profile, in bytes."""

    def memory_report(self) -> dict[str, float]:
        """Bytes of every share that the start-up profile knows; a figure the engine lacks is absent."""
        worker: Any = self
        report: dict[str, float] = {
            "total": worker.init_snapshot.total_memory,
            "free_at_start": worker.init_snapshot.free_memory,
            "requested": worker.requested_memory,
            "weights": worker.model_runner.model_memory_usage,
        }
        names = {
            "non_torch": "non_torch_memory",
            "activation_peak": "peak_activation_memory",
            "cuda_graph_estimate": "cudagraph_memory_estimate",
            "kv_available": "available_kv_cache_memory_bytes",
        }
        report |= {name: getattr(worker, attribute) for name, attribute in names.items() if hasattr(worker, attribute)}
        return {name: float(value) for name, value in report.items()}


class SweepWorker(Worker):
    """A worker whose start-up profile is repeated for every (max_num_batched_tokens, max_num_seqs) of `SWEEP`."""

    def determine_available_memory(self) -> int:
        """The engine's own profile first (it compiles), then the activation peak of each point, in bytes."""
        available = int(super().determine_available_memory())
        runner: Any = self.model_runner
        started_with = runner.max_num_tokens, runner.max_num_reqs
        self.sweep: list[tuple[int, int, int]] = []
        for tokens, seqs in SWEEP:
            if tokens > started_with[0] or seqs > started_with[1]:
                continue
            runner.max_num_tokens, runner.max_num_reqs = tokens, seqs
            gc.collect()
            torch.accelerator.empty_cache()
            torch.accelerator.reset_peak_memory_stats(self.device)
            before = torch.accelerator.memory_stats(self.device)["allocated_bytes.all.peak"]
            runner.profile_run()
            peak = torch.accelerator.memory_stats(self.device)["allocated_bytes.all.peak"]
            self.sweep.append((tokens, seqs, peak - before))
        runner.max_num_tokens, runner.max_num_reqs = started_with
        return available

    def activation_sweep(self) -> list[tuple[int, int, int]]:
        """(max_num_batched_tokens, max_num_seqs, bytes) of every point."""
        return self.sweep


class Audited(Exception):  # noqa: N818 -- an end, not an error
    """The weights are loaded and listed in `held`; nothing else is wanted of the engine."""

    held: ClassVar[list[tuple[str, str, int, int, int]]] = []
    consumed_bytes = 0


class AuditWorker(Worker):
    """A worker that lists every block that loading made and the allocator still holds, then raises `Audited`.

    A row is (tensor with layer numbers starred or "", lines of vLLM that asked for it, blocks, bytes of the
    blocks, bytes asked for). Needs an engine in its own process (VLLM_ENABLE_V1_MULTIPROCESSING=0).
    """

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        """Load as ever, then say what is held."""
        torch.cuda.memory._record_memory_history(enabled="state", context="state", stacks="python")
        super().load_model(load_dummy_weights=load_dummy_weights)
        runner: Any = self.model_runner
        owners: dict[int, str] = {}
        model = runner.model
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            owners.setdefault(tensor.untyped_storage().data_ptr(), re.sub(r"\.\d+\.", ".*.", name))
        rows: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        snapshot = torch.cuda.memory._snapshot()
        torch.cuda.memory._record_memory_history(enabled=None)
        for segment in snapshot["segments"]:
            for block in segment["blocks"]:
                if block["state"] != "active_allocated":
                    continue
                frames = [f for f in block.get("frames", []) if "/vllm/" in f["filename"]]
                if not any("/model_loader/" in f["filename"] for f in frames):
                    continue
                where = " < ".join(f"{f['filename'].rpartition('/vllm/')[2]}:{f['line']}" for f in frames[:4])
                row = rows[owners.get(block["address"], ""), where]
                row[0] += 1
                row[1] += block["size"]
                row[2] += block["requested_size"]
        Audited.consumed_bytes = int(runner.model_memory_usage)
        Audited.held = [(*key, *row) for key, row in sorted(rows.items(), key=lambda item: -item[1][1])]
        raise Audited


class SpreadWorker(Worker):
    """A worker whose random weights route evenly: unit norms, no router bias, random packed integers."""

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        """Load, with packed integers random (scales of 2**-9) instead of zero, then even out norms and routers."""
        from vllm.model_executor.model_loader import dummy_loader

        floats_only = dummy_loader.initialize_dummy_weights

        def with_integers(layer: Any, config: Any) -> None:
            floats_only(layer, config)
            for name, tensor in layer.state_dict().items():
                if tensor.device.type == "meta" or tensor.is_floating_point():
                    continue
                if tensor.dtype == torch.uint8 and "scale" in name:
                    tensor.fill_(118)
                elif tensor.dtype in (torch.uint8, torch.int32) and tensor.numel() > 1024:
                    tensor.view(torch.uint8).random_(0, 256)

        dummy_loader.initialize_dummy_weights = with_integers
        super().load_model(load_dummy_weights=load_dummy_weights)
        dummy_loader.initialize_dummy_weights = floats_only
        runner: Any = self.model_runner
        with torch.no_grad():
            for name, tensor in runner.model.named_parameters():
                if re.search(r"norm[^.]*\.weight$", name):
                    tensor.fill_(1.0)
                elif re.search(r"(router|gate)\.bias$|e_score_correction_bias$", name):
                    tensor.zero_()


class _Nothing(KVConnectorMetadata):
    """The scheduler has nothing to tell the workers."""


class SkipPrefill(KVConnectorBase_V1, SupportsHMA):
    """Prompts whose `kv_transfer_params` carry {"in_cache": True} count as computed but for the last token."""

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        """Fill every cache tensor once with small random values, so that no kernel reads zeros."""
        seen: set[int] = set()
        for cache in kv_caches.values():
            for tensor in cache if isinstance(cache, list | tuple) else [cache]:
                if tensor.data_ptr() in seen:
                    continue
                seen.add(tensor.data_ptr())
                rows = max(1, _FILL_CHUNK_ELEMENTS // max(1, tensor[0].numel()))
                for start in range(0, tensor.shape[0], rows):
                    part = tensor[start : start + rows]
                    if part.dtype in (torch.bfloat16, torch.float16, torch.float32):
                        part.normal_(0.0, 0.02)
                    else:
                        part.view(torch.uint8).random_(0, 0x38)
        torch.accelerator.synchronize()

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        """(tokens that the cache is said to hold beyond `num_computed_tokens`, loaded asynchronously)."""
        if not (request.kv_transfer_params or {}).get(_MARK):
            return 0, False
        return max(0, request.num_tokens - 1 - num_computed_tokens), False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """No state: the cache is already filled."""

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        """Empty: the workers have nothing to load."""
        return _Nothing()

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Nothing to load."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing to wait for."""

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        """Nothing to save."""

    def wait_for_save(self) -> None:
        """Nothing to wait for."""

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Blocks are freed at once."""
        return False, None

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Blocks are freed at once."""
        return False, None
