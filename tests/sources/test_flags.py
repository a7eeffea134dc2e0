"""Command lines against the flag lists of the releases: what parses there passes, what fails there is named."""

from __future__ import annotations

import json

import pytest

from planner.errors import CatalogError
from planner.resources import folder
from planner.sources.catalog import load
from planner.sources.flags import check_flags, flag_list
from planner.spec.engine import EngineRelease

RELEASES = {f"{r.engine}-{r.version}": r for r in load().releases()}
VLLM, OLD, TGI = RELEASES["vllm-0.33.0"], RELEASES["vllm-0.26.0"], RELEASES["tgi-3.3.7"]


@pytest.mark.parametrize(
    "args",
    [
        "Qwen/Qwen3-8B --max-model-len 32k --tensor-parallel-size 2 --gpu-memory-utilization 0.92",
        "--max-model-len auto --max_num_seqs=64 -tp 4 -pp 2 -O3",
        "--max-model-len -1 --max-num-batched-tokens 8K",
        "--disable-prefix-caching --no-enable-prefix-caching --enable-chunked-prefill --no-async-scheduling",
        "--quantization fp8_per_block --kv-cache-dtype fp8_e5m2 --tool-call-parser llama3_json",
        "-q bitsandbytes --load-format gguf --attention-backend flashinfer",
        "--served-model-name one two --trust-remote-code --api-key k1 k2",
        "--compilation-config.mode 3 --speculative-config {}",
        "--nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --headless",
        "--cpu-offload-gb 8 --max-lora-rank 64",
    ],
)
def test_vllm_command_lines_that_its_parser_takes_pass(args: str) -> None:
    assert check_flags(VLLM, args.split()) == ()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--enable-chunked-prefill=False", "takes no value"),
        ("--swap-space 4", "unknown flag --swap-space (removed in this line)"),
        ("--max-num-seq 4", "nearest: --max-num-seqs"),
        ("--max-model-len", "needs a value"),
        ("--max-model-len long", "needs a number of tokens"),
        ("--max-num-seqs 1.5", "needs a whole number"),
        ("--gpu-memory-utilization high", "needs a number"),
        ("--quantization awq4", "does not know 'awq4'; nearest: "),
        ("--kv-cache-dtype int8", "does not know 'int8'"),
        ("--tool-call-parser llama3", "does not know 'llama3'"),
        ("--load-format safetensor", "nearest: safetensors"),
        ("--attention-backend FLASH", "does not know 'FLASH'"),
        ("--max-lora-rank 48", "does not know '48'"),
        ("--compilation-config {mode", "needs JSON"),
        ("--device cuda", "unknown flag --device"),
    ],
)
def test_vllm_command_lines_that_fail_there_fail_here(args: str, said: str) -> None:
    problems = check_flags(VLLM, args.split())
    assert len(problems) == 1
    assert said in problems[0] and problems[0].startswith("vllm 0.33.0: ")


def test_flags_belong_to_a_version() -> None:
    assert check_flags(OLD, ["--max-num-partial-prefills", "2"]) == ()
    assert check_flags(VLLM, ["--max-num-partial-prefills", "2"])
    assert check_flags(VLLM, ["--max-num-queued-reqs", "64"]) == ()
    assert check_flags(OLD, ["--max-num-queued-reqs", "64"])
    assert check_flags(OLD, ["--no-enable-prefix-caching"]) == ()
    assert check_flags(OLD, ["--disable-prefix-caching"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--model-id x --num-shard 2 --max-input-tokens 4096 --max-total-tokens 8192 --cuda-graphs 0", None),
        ("--cuda-graphs 1,2,4 --sharded true --watermark-gamma 0.5", None),
        ("--num_shard 2", "unknown flag --num_shard"),
        ("--quantize int4", "does not know 'int4'"),
        ("--kv-cache-dtype fp8", "does not know 'fp8'"),
        ("--dtype float16 --quantize awq", "exclude each other"),
        ("--max-input-tokens 1 --max-input-length 1", "exclude each other"),
        ("-p 80", "unknown flag -p"),
    ],
)
def test_tgi_takes_kebab_case_and_its_own_values(args: str, said: str | None) -> None:
    problems = check_flags(TGI, args.split())
    assert problems == () if said is None else len(problems) == 1 and said in problems[0]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--hf-repo a/b:Q4_K_M --alias x -c 8192 --parallel 4 -ngl all --flash-attn on --no-mmap", None),
        ("--ctx_size 8192 --rope-scaling yarn", None),
        ("--ctx-sizes 8192", "nearest: --ctx-size"),
        ("--rope-scaling llama3", "does not know 'llama3'"),
        ("--max-model-len 8192", "unknown flag"),
    ],
)
def test_llama_server_takes_its_own(args: str, said: str | None) -> None:
    problems = check_flags(RELEASES["llamacpp-b10488"], args.split())
    assert problems == () if said is None else len(problems) == 1 and said in problems[0]


@pytest.mark.parametrize(
    "found", [r for r in RELEASES.values() if r.flags_file], ids=lambda r: f"{r.engine}-{r.version}"
)
def test_a_flag_list_is_of_its_release(found: EngineRelease) -> None:
    known = flag_list(found)
    assert known is not None and len(known.options) > 50 and known.source
    assert found.flags_file is not None
    data = json.loads((folder("catalog") / "engines" / found.engine / found.flags_file).read_text(encoding="utf-8"))
    assert (data["engine"], data["version"]) == (found.engine, found.version)
    assert not {row["flag"] for row in data["flags"]} & set(data["stale"])


@pytest.mark.parametrize(
    "found", [r for r in RELEASES.values() if r.flags_file], ids=lambda r: f"{r.engine}-{r.version}"
)
def test_flags_that_a_kernel_needs_are_flags_of_the_release(found: EngineRelease) -> None:
    option = "--quantize" if found.engine == "tgi" else "--quantization"
    for value in {row.flag for row in found.support if row.flag}:
        assert check_flags(found, [option, value]) == ()
    cache = "--cache-type-k" if found.engine == "llamacpp" else "--kv-cache-dtype"
    for value in found.kv_flags.values():
        assert check_flags(found, [cache, value]) == ()


def test_a_release_without_a_list_refuses_nothing() -> None:
    assert check_flags(RELEASES["ollama-0.33.0"], ["--anything"]) == ()


def test_a_missing_list_is_the_catalogs_fault() -> None:
    with pytest.raises(CatalogError, match=r"nowhere\.json"):
        flag_list(VLLM.model_copy(update={"flags_file": "nowhere.json"}))
