"""The smoke model in other formats: `python -m benchmarks.smoke_model.export`, numpy only.

Reads the shipped safetensors and writes beside them their tokenizer (for other engines: ours reads bytes without
one) and what the loaders are tried on: `awq/` (groups of 32) and `smoke-Q8_0.gguf`; then `answers.json`, the greedy
answers of the fp16 model, which every later one is compared with. `gguf(path, kind)` makes further files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from planner.engine.byte_vocabulary import byte_document, byte_metadata, byte_settings
from planner.engine.engine import Engine
from planner.engine.load import Checkpoint, load
from planner.engine.model import Model
from planner.engine.params import SamplingParams
from planner.engine.scheduler import Limits
from planner.engine.smoke_model import FOLDER
from planner.formats.quantize import quantize_awq
from planner.formats.writing import write_safetensors
from planner.validate.small_gguf import write_gguf_of

GROUP = 32
QUESTIONS = (
    "Hello!", "Say hello.", "Who are you?", "What colour is grass?", "What is 7 plus 5?", "What is the KV cache?",
    "Count from one to five, in words.", "What is the capital of France?", "How many legs has a spider?",
    "What is the opposite of hot?", "Explain continuous batching.", "What is a token?",
)  # fmt: skip


def tokenizer(folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json: the vocabulary of bytes."""
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    files = {"tokenizer": byte_document(), "tokenizer_config": byte_settings(config["max_position_embeddings"])}
    for name, document in files.items():
        text = json.dumps(document, indent=None if name == "tokenizer" else 1) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def awq(folder: Path) -> None:
    """A directory as AutoAWQ lays it out: packed linears, the embedding and norms in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    template = (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    tokenizer(folder)
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in load(FOLDER).weights.items():
        if value.ndim == 2 and "_proj" in name:
            parts = quantize_awq(value, GROUP)
            tensors |= {f"{name.removesuffix('.weight')}.{part}": array for part, array in parts.items()}
        else:
            tensors[name] = value.astype(np.float16)
    write_safetensors(folder / "model.safetensors", tensors)


def gguf(path: Path, kind: str) -> Path:
    """The model as one GGUF file, every matrix of type `kind`."""
    found = load(FOLDER)
    template = (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    extra = byte_metadata(found.config.vocab_size) | {"tokenizer.chat_template": template}
    return write_gguf_of(found.config, found.weights, lambda _role, _layer: kind, path, extra)


def answers(checkpoint: Checkpoint, questions: tuple[str, ...] = QUESTIONS) -> dict[str, str]:
    """Question → greedy answer, all in one batch."""
    model = Model(checkpoint.config, checkpoint.weights)
    engine = Engine(model, checkpoint.tokenizer, Limits(max_model_len=512, max_num_seqs=len(questions)))
    ask = [checkpoint.template.render([{"role": "user", "content": q}]) for q in questions]
    outputs = engine.generate([checkpoint.tokenizer.encode(text) for text in ask], SamplingParams(160, 0.0))
    told = (b"".join(checkpoint.tokenizer.token_bytes(t) for t in tokens).decode() for tokens in outputs)
    return dict(zip(questions, told, strict=True))


def main() -> int:
    """Write them all."""
    tokenizer(FOLDER)
    awq(FOLDER / "awq")
    gguf(FOLDER / "smoke-Q8_0.gguf", "Q8_0")
    found = answers(load(FOLDER))
    (FOLDER / "answers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write("".join(f"{question} -> {answer}\n" for question, answer in found.items()))
    for path in (FOLDER / "awq", FOLDER / "smoke-Q8_0.gguf"):
        same = sum(answers(load(path))[q] == a for q, a in found.items())
        sys.stdout.write(f"{path.name}: {same} of {len(found)} answers are those of the fp16 model\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
