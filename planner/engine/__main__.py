"""`python -m planner.engine --model DIR_OR_GGUF --port 0`: load a checkpoint and serve it until interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from planner.errors import PlannerError


def main(arguments: list[str] | None = None) -> int:
    """Parse, load, serve. The exit code of the error tree."""
    options = _parser().parse_args(arguments)
    try:
        return _serve(options)
    except PlannerError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m planner.engine", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="directory with config.json, or a .gguf file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free port")
    parser.add_argument("--served-model-name", help="default: the directory's or file's name")
    parser.add_argument("--max-model-len", type=int, help="tokens; default: the model's, at most 4096")
    parser.add_argument("--max-num-seqs", type=int, default=16)
    parser.add_argument("--max-num-batched-tokens", type=int, default=512)
    parser.add_argument("--max-queue", type=int, default=256, help="requests that may wait; beyond it a 503")
    parser.add_argument("--block-size", type=int, default=16, help="tokens per KV block")
    parser.add_argument("--num-blocks", type=int, help="KV blocks; default: max-num-seqs sequences of max-model-len")
    parser.add_argument("--no-prefix-caching", action="store_true")
    return parser


def _serve(options: argparse.Namespace) -> int:
    from planner.engine.engine import Engine
    from planner.engine.load import load
    from planner.engine.model import Model
    from planner.engine.scheduler import Limits
    from planner.engine.server import ApiServer

    checkpoint = load(options.model)
    model = Model(checkpoint.config, checkpoint.weights)
    checkpoint.weights.clear()  # the model holds its own arrangement of them
    limits = Limits(
        max_model_len=options.max_model_len or min(checkpoint.config.max_position, 4096),
        max_num_seqs=options.max_num_seqs,
        max_num_batched_tokens=options.max_num_batched_tokens,
        queue=options.max_queue,
    )
    engine = Engine(
        model,
        checkpoint.tokenizer,
        limits,
        n_blocks=options.num_blocks,
        block_size=options.block_size,
        prefix_caching=not options.no_prefix_caching,
    )
    name = options.served_model_name or checkpoint.name
    server = ApiServer(engine, name, checkpoint.template, host=options.host, port=options.port)
    done = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: done.set())
    server.start()
    sys.stdout.write(
        f"{name}: weights {engine.allocated_weight_bytes} bytes, KV cache {engine.allocated_kv_bytes} bytes"
        f" ({engine.pool.n_blocks * engine.pool.block_size} tokens)\nserving on {server.url}\n"
    )
    sys.stdout.flush()
    done.wait()
    return 0 if server.stop() else 1


if __name__ == "__main__":
    sys.exit(main())
