"""Measure a real vLLM: start-up memory, decode step by batch and context, prefill time, a closed loop.

`python benchmarks/measure_vllm.py --out results` needs one CUDA GPU (`tp2-` cases two) and vLLM 0.26; weights are
random, so nothing but each model's `config.json` is fetched (or read from `--configs DIR/<org>--<name>.json`). Every
case runs in its own forked process with a time limit and appends its points to
`results/vllm_steps.csv` and `results/vllm_memory.csv` as they are measured, so a run that is cut off keeps
what it has.

How a point is taken. *Decode*: the prompts are declared to be in the cache (`vllm_probe.SkipPrefill`), and
the time between two outputs of the engine is averaged over the steps in which all requests got a token;
this is (t_total - t_prefill)/(osl - 1) without the requests that start late. *Prefill*: wall seconds from
submitting prompts to their first token, nothing cached. *Closed loop*: each client sends its next request
when the last has ended; its first is left out. `clients` of a case ask an asynchronous engine of their own,
its `loops` the engine of the other points, which saves a start. *Slices*: a case with `slices` runs one device's
part of a model alone; the `tp2-` case beside it says what the reductions add. It does not measure HTTP, a
tokenizer or more than one node.
Random weights do not route like trained ones, so `spread` cases send every token to uniformly drawn experts
(vLLM's routing simulation) or even the router out. *Load*: a case with `audit` keeps a few layers, and lists
in `results/vllm_load.csv` every block that the allocator holds once the weights are in. Long for one file, so
that it, `vllm_cases.py` and `vllm_probe.py` are all that has to be copied to a machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from vllm_cases import CASES, Case

STEPS, SETTLE, MAX_STEPS, REPEATS = 32, 3, 700, 3
COLUMNS = [
    *("source", "date", "engine", "engine_version", "accelerator", "model", "quantization", "kv_dtype", "tp"),
    *("batch", "input_len", "output_len", "metric", "value", "unit", "settings"),
]
_LOG_PATTERNS = {
    ("kv_tokens", "tokens"): r"GPU KV cache size: ([\d,]+) tokens",
    ("cuda_graphs", "GiB"): r"Graph capturing finished in .* took ([\d.]+) GiB",
    ("cuda_graph_pool", "GiB"): r"CUDA graph pool memory: ([\d.]+) GiB",
    ("model_load", "s"): r"Model loading took .* and ([\d.]+) seconds",
    ("engine_init", "s"): r"init engine .* took ([\d.]+) s",
}
_BACKENDS = re.compile(r"Using (\S+ attention backend|[^\n]*?(?:MoE|moe) backend|\S+ for \w+Method)")


@dataclass
class Recorder:
    """Appends rows about one case to the CSV files of a folder."""

    out: Path
    case: Case
    accelerator: str
    version: str
    settings: str = ""

    def write(
        self, file: str, batch: int, input_len: int, output_len: int, metrics: dict[tuple[str, str], float]
    ) -> None:
        """One row per metric {(name, unit): value}; the file gets its header when it is new."""
        path = self.out / file
        new = not path.exists()
        with path.open("a", newline="") as sink:
            rows = csv.writer(sink, lineterminator="\n")
            if new:
                rows.writerow(COLUMNS)
            for (metric, unit), value in metrics.items():
                rows.writerow(
                    [
                        f"own measurement, vLLM {self.version}, dummy weights, benchmarks/measure_vllm.py",
                        datetime.now(UTC).date().isoformat(),
                        *("vllm", self.version, self.accelerator, self.case.model.split("/")[-1]),
                        *(self.case.quantization, self.case.kv_dtype, self.case.devices, batch),
                        *(input_len, output_len),
                        *(metric, f"{value:.6g}" if abs(value) < 1e5 else f"{value:.0f}", unit, self.settings),
                    ]
                )

    def steps(self, batch: int, input_len: int, output_len: int, metrics: dict[tuple[str, str], float]) -> None:
        """Rows of speed."""
        self.write("vllm_steps.csv", batch, input_len, output_len, metrics)


def config_dir(case: Case, configs: Path | None) -> str:
    """A folder with the case's edited `config.json`, taken from `configs` or else from the Hugging Face Hub."""
    local = configs / f"{case.model.replace('/', '--')}.json" if configs else None
    if local is None or not local.exists():
        from huggingface_hub import hf_hub_download

        local = Path(hf_hub_download(case.model, "config.json"))
    config = json.loads(local.read_text())
    if "ForCausalLM" in str(case.edit.get("architectures")):
        config = config.get("text_config", config)
    config = {key: value for key, value in (config | case.edit).items() if value is not None}
    if case.layers:
        config["num_hidden_layers"] = case.layers
        if "layer_types" in config:
            config["layer_types"] = config["layer_types"][: case.layers]
    if case.slices > 1:
        config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
        for key in ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"):
            config[key] //= case.slices
    folder = Path(tempfile.mkdtemp(prefix="config-"))
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def engine_arguments(case: Case, configs: Path | None) -> dict[str, Any]:
    """Arguments of `LLM`: defaults of the engine, save for what the measurement itself needs."""
    common = {
        "model": config_dir(case, configs),
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "max_model_len": case.max_model_len,
        "enable_prefix_caching": False,
        "worker_extension_cls": "vllm_probe.MemoryReport",
    }
    if case.batches:
        common["kv_transfer_config"] = {
            "kv_connector": "SkipPrefill",
            "kv_connector_module_path": "vllm_probe",
            "kv_role": "kv_both",
        }
    if case.audit:
        common |= {"enforce_eager": True, "worker_cls": "vllm_probe.AuditWorker"}
    return common | case.engine


def prompt(vocabulary: int, length: int) -> dict[str, list[int]]:
    """Random token ids, none of them among the special ones at the ends of the vocabulary."""
    return {"prompt_token_ids": random.choices(range(100, min(vocabulary, 100_000)), k=length)}


class Bench:
    """Speed of one synchronous engine."""

    def __init__(self, llm: Any, recorder: Recorder, kv_tokens: float, ends_at: float) -> None:
        self.engine, self.recorder, self.kv_tokens, self.ends_at = llm.llm_engine, recorder, kv_tokens, ends_at
        self.vocabulary = llm.llm_engine.model_config.get_vocab_size()
        self.longest = llm.llm_engine.model_config.max_model_len
        self.count = 0

    def submit(self, batch: int, length: int, output_len: int, *, cached: bool) -> list[str]:
        """Hand over `batch` prompts of `length` random tokens; returns their ids."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0,
            max_tokens=output_len,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={"kv_transfer_params": {"in_cache": True}} if cached else None,
        )
        prompts = [prompt(self.vocabulary, length) for _ in range(batch)]
        ids = [f"r{self.count + index}" for index in range(batch)]
        self.count += batch
        self.began = time.perf_counter()
        for name, tokens in zip(ids, prompts, strict=True):
            self.engine.add_request(name, tokens, params)
        return ids

    def closed_loop(self, clients: int, length: int, output_len: int, per_client: int = 3) -> None:
        """`per_client` requests of each of `clients`, the next when the last has ended."""
        waiting = dict.fromkeys(range(clients), per_client)
        asked: dict[str, tuple[int, list[float]]] = {}
        done: list[list[float]] = []
        began = time.perf_counter()

        def ask(client: int) -> None:
            waiting[client] -= 1
            name = self.submit(1, length, output_len, cached=False)[0]
            asked[name] = client, [self.began]

        for client in waiting:
            ask(client)
        while asked:
            outputs = self.engine.step()
            now = time.perf_counter()
            for output in outputs:
                client, times = asked[output.request_id]
                times.append(now)
                if output.finished:
                    del asked[output.request_id]
                    if waiting[client] < per_client - 1:
                        done.append(times)
                    if waiting[client]:
                        ask(client)
        rate = clients * per_client * output_len / (time.perf_counter() - began)
        settings = self.recorder.settings
        self.recorder.settings = f"one process, no HTTP; {settings}"
        self.recorder.steps(clients, length, output_len, loop_metrics(done, output_len, rate))
        self.recorder.settings = settings

    def step(self) -> tuple[float, int, int]:
        """(the engine's clock in seconds, requests that got a token, tokens) of the engine's next step."""
        core: Any = self.engine.engine_core.get_output()
        known = self.engine.output_processor.request_states
        outputs = [output for output in core.outputs if output.request_id in known]
        self.engine.output_processor.process_outputs(outputs, engine_core_timestamp=core.timestamp)
        return core.timestamp, len(outputs), sum(len(output.new_token_ids) for output in outputs)

    def decode(self, batch: int, context: int, *, steps: int = STEPS, record: bool = True) -> None:
        """Step time with `batch` requests of `context` cached tokens each, over `steps` full steps."""
        room = self.longest - context
        ids = self.submit(batch, context, min(MAX_STEPS, room), cached=True)
        at: list[float] = []
        tokens = 0
        while len(at) < steps + SETTLE and self.engine.has_unfinished_requests():
            now, requests, new_tokens = self.step()
            tokens += new_tokens
            if requests == batch:
                at.append(now)
        self.engine.abort_request(ids)
        gaps = [(later - earlier) * 1e3 for earlier, later in pairwise(at[SETTLE:])]
        if not record or len(gaps) < steps // 2:
            return
        grown = tokens / batch - len(gaps) / 2
        self.recorder.steps(
            batch,
            context,
            len(gaps),
            {
                ("decode_step", "ms"): statistics.fmean(gaps),
                ("decode_step_p50", "ms"): statistics.median(gaps),
                ("decode_context_mean", "tokens"): context + grown,
            },
        )

    def prefill(self, batch: int, length: int) -> None:
        """Seconds from submitting to the last first token; median of REPEATS after one warm-up."""
        seconds = []
        for _ in range(REPEATS + 1):
            self.submit(batch, length, 1, cached=False)
            while self.engine.has_unfinished_requests():
                self.step()
            seconds.append(time.perf_counter() - self.began)
        median = statistics.median(seconds[1:])
        self.recorder.steps(
            batch, length, 1, {("prefill", "s"): median, ("prefill_rate", "tok/s"): batch * length / median}
        )

    def burst(self, batch: int, length: int, output_len: int) -> None:
        """(t_total - t_prefill)/(osl - 1) of a burst with its real prefill, to compare with `decode`.

        The second of two passes: mixed steps have sizes for which kernels are compiled on first use.
        """
        seconds: list[float] = []
        for tokens in (1, output_len, 1, output_len):
            self.submit(batch, length, tokens, cached=False)
            while self.engine.has_unfinished_requests():
                self.step()
            seconds.append(time.perf_counter() - self.began)
        itl = (seconds[3] - seconds[2]) / (output_len - 1) * 1e3
        self.recorder.steps(
            batch,
            length,
            output_len,
            {("burst_prefill", "s"): seconds[2], ("burst_total", "s"): seconds[3], ("burst_itl", "ms"): itl},
        )

    def run(self, case: Case) -> None:
        """Every point that fits the cache, cheapest first, until the time is up."""
        for batch in (1, max(case.batches, default=1)):
            if batch * 256 < self.kv_tokens:
                self.decode(batch, 128, steps=8, record=False)
        for context in case.contexts:
            for batch in case.batches:
                fits = batch * (context + 300) < self.kv_tokens
                if fits and context + 100 < self.longest and time.monotonic() < self.ends_at:
                    self.decode(batch, context)
        for batch, length in case.prompts:
            if length + 1 < self.longest and time.monotonic() < self.ends_at:
                self.prefill(batch, length)
        if len(case.batches) > 3 and time.monotonic() < self.ends_at:
            self.burst(64, 512, 64)
        for clients, length, output_len in case.loops:
            if time.monotonic() < self.ends_at:
                self.closed_loop(clients, length, output_len)


def loop_metrics(done: list[list[float]], output_len: int, rate: float) -> dict[tuple[str, str], float]:
    """Figures of a closed loop, of [asked, first token, ...] seconds for each request; `rate` in tokens/s.

    Outputs that arrived together make fewer times than the `output_len` tokens of a request.
    """
    shares = {
        "ttft": [times[1] - times[0] for times in done],
        "tpot": [(times[-1] - times[1]) / (output_len - 1) for times in done],
        "itl": [later - earlier for times in done for earlier, later in pairwise(times[1:])],
    }
    metrics = {("throughput_out", "tok/s"): rate}
    for name, values in shares.items():
        ordered = sorted(value * 1e3 for value in values)
        metrics[f"closed_loop_{name}_mean", "ms"] = statistics.fmean(ordered)
        metrics[f"closed_loop_{name}_p50", "ms"] = statistics.median(ordered)
        metrics[f"closed_loop_{name}_p99", "ms"] = ordered[int(0.99 * (len(ordered) - 1))]
    return metrics


async def closed_loop(case: Case, arguments: dict[str, Any], recorder: Recorder, per_client: int = 3) -> None:
    """TTFT, time per output token and gap between tokens under `case.clients` clients, 1024 in and 128 out."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    vocabulary = engine.model_config.get_vocab_size()
    params = SamplingParams(
        temperature=0.0, max_tokens=128, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )

    async def client(name: str, requests: int, into: list[list[float]]) -> None:
        for index in range(requests):
            tokens = prompt(vocabulary, 1024)
            times = [time.perf_counter()]
            async for _ in engine.generate(tokens, params, f"{name}-{index}"):
                times.append(time.perf_counter())
            if index:
                into.append(times)

    await client("warm", 2, [])
    for clients in case.clients:
        done: list[list[float]] = []
        began = time.perf_counter()
        await asyncio.gather(*(client(f"c{clients}-{index}", per_client, done) for index in range(clients)))
        wall_s = time.perf_counter() - began
        recorder.steps(clients, 1024, 128, loop_metrics(done, 128, clients * per_client * 128 / wall_s))


def run_case(name: str, case: Case, out: Path, configs: Path | None, accelerator: str, log: Path) -> None:
    """Start the engine of one case, write its memory report, then its speed. Runs in a child process."""
    import vllm
    from vllm import LLM

    ends_at = time.monotonic() + case.limit_s - 15
    os.environ |= case.env
    recorder = Recorder(out, case, accelerator, vllm.__version__)
    arguments = engine_arguments(case, configs)
    if case.clients:
        recorder.settings = "async engine without HTTP; max_num_batched_tokens 8192, prefix caching off"
        arguments.pop("kv_transfer_config")
        asyncio.run(closed_loop(case, arguments, recorder))
        return
    if case.audit:
        audit(arguments, recorder)
        return
    llm = LLM(**arguments)
    config = llm.llm_engine.vllm_config
    sys.stdout.flush()
    text = log.read_text(errors="replace")
    backends = sorted({match.split(":")[-1].strip() for match in _BACKENDS.findall(text)})
    recorder.settings = "; ".join(
        [
            f"utilisation {config.cache_config.gpu_memory_utilization}",
            f"max_model_len {config.model_config.max_model_len}",
            f"max_num_batched_tokens {config.scheduler_config.max_num_batched_tokens}",
            f"max_num_seqs {config.scheduler_config.max_num_seqs}",
            f"cudagraph_mode {config.compilation_config.cudagraph_mode.name}",
            f"layers {config.model_config.hf_text_config.num_hidden_layers}",
            *backends,
            *(f"{key}={value}" for key, value in case.env.items()),
            *([f"one of {case.slices} slices alone"] if case.slices > 1 else []),
            *(["spread weights"] if "SpreadWorker" in case.engine.get("worker_cls", "") else []),
        ]
    )
    memory = {(key, "GiB"): value / 2**30 for key, value in llm.collective_rpc("memory_report")[0].items()}
    for key, pattern in _LOG_PATTERNS.items():
        if found := re.findall(pattern, text):
            memory[key] = float(found[-1].replace(",", ""))
    recorder.write("vllm_memory.csv", 0, 0, 0, memory)
    if "SweepWorker" in case.engine.get("worker_cls", ""):
        for tokens, seqs, peak in llm.collective_rpc("activation_sweep")[0]:
            recorder.settings = (
                f"max_num_batched_tokens {tokens}; max_num_seqs {seqs}; profile repeated after compiling"
            )
            recorder.write("vllm_memory.csv", 0, 0, 0, {("activation_peak", "GiB"): peak / 2**30})
    elif case.batches:
        Bench(llm, recorder, memory.get(("kv_tokens", "tokens"), 1e9), ends_at).run(case)


def audit(arguments: dict[str, Any], recorder: Recorder) -> None:
    """Load the weights only, and write what the allocator holds to `vllm_load.csv`, one row per kind of block."""
    from vllm import LLM
    from vllm_probe import Audited

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    with contextlib.suppress(Audited):
        LLM(**arguments)
    case, path = recorder.case, recorder.out / "vllm_load.csv"
    new = not path.exists()
    with path.open("a", newline="") as sink:
        rows = csv.writer(sink, lineterminator="\n")
        if new:
            rows.writerow(["accelerator", "engine_version", "model", "quantization", "kv_dtype", "layers", "tensor",
                           "where", "blocks", "block_bytes", "requested_bytes"])  # fmt: skip
        about = [recorder.accelerator, recorder.version, case.model.split("/")[-1], case.quantization, case.kv_dtype]
        rows.writerow([*about, case.layers, "(all)", "", "", Audited.consumed_bytes, ""])
        rows.writerows([*about, case.layers, *row] for row in Audited.held)


def preload() -> None:
    """Import what every engine imports, once, before forking; nothing here may touch the GPU."""
    import importlib

    modules = """vllm.entrypoints.llm vllm.v1.engine.core vllm.v1.engine.async_llm vllm.v1.worker.gpu_worker
    vllm.v1.worker.gpu_model_runner vllm.v1.worker.gpu.model_runner vllm.v1.executor.uniproc_executor
    vllm.model_executor.models.llama vllm.model_executor.models.qwen3 vllm.model_executor.models.qwen3_moe
    vllm.model_executor.models.deepseek_v2 vllm.v1.attention.backends.flash_attn torch._inductor.compile_fx
    vllm.compilation.backends vllm_probe"""
    for module in modules.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    import torch

    if torch.cuda.is_initialized():
        raise RuntimeError("importing vLLM has initialised CUDA: a forked engine could not use it")


def gpu(field_name: str) -> str:
    """One field of nvidia-smi for the first GPU."""
    command = ["nvidia-smi", f"--query-gpu={field_name}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()


def supervise(name: str, case: Case, out: Path, configs: Path | None, accelerator: str) -> str:
    """Run one case in a forked session of its own; "ok", "failed" or "timeout"."""
    log = out / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        os.setsid()
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        code = 1
        try:
            run_case(name, case, out, configs, accelerator, log)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    ends_at = time.monotonic() + case.limit_s
    done, status = 0, 0
    while not done and time.monotonic() < ends_at:
        time.sleep(0.1)
        done, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done:
        os.waitpid(child, 0)
        return "timeout"
    return "ok" if os.waitstatus_to_exitcode(status) == 0 else "failed"


def chosen(wanted: Iterable[str]) -> Iterator[tuple[str, Case]]:
    """The cases whose name is asked for, "all" or by prefix ("memory-" for all of them)."""
    for want in wanted:
        for name, case in CASES.items():
            if want in ("all", name) or (want.endswith("-") and name.startswith(want)):
                yield name, case


def main() -> None:
    """Measure the chosen cases in order, until the deadline."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--out", type=Path, default=Path("results"))
    arguments.add_argument("--configs", type=Path)
    arguments.add_argument("--cases", default="all", help=f"comma-separated, of: {', '.join(CASES)}")
    arguments.add_argument("--deadline-s", type=float, default=1e9, help="start no case that could end later")
    options = arguments.parse_args()
    began = time.monotonic()
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    if options.configs:
        os.environ["HF_HUB_OFFLINE"] = "1"
    options.out.mkdir(parents=True, exist_ok=True)
    preload()
    accelerator = gpu("name")
    outcome: dict[str, str] = {}
    for name, case in chosen(options.cases.split(",")):
        if time.monotonic() - began + case.limit_s / 2 > options.deadline_s:
            outcome[name] = "no time"
        elif case.instead_of and outcome.get(case.instead_of) == "ok":
            outcome[name] = "not needed"
        else:
            started = time.monotonic()
            outcome[name] = supervise(name, case, options.out, options.configs, accelerator)
            outcome_line = f"{name}: {outcome[name]} in {time.monotonic() - started:.0f} s"
            with (options.out / "progress.txt").open("a") as sink:
                sink.write(f"{outcome_line} (at {time.monotonic() - began:.0f} s)\n")
            for _ in range(40):
                if float(gpu("memory.used")) < 3000:
                    break
                time.sleep(0.25)
    (options.out / "outcome.json").write_text(json.dumps(outcome, indent=1) + "\n")


if __name__ == "__main__":
    main()
