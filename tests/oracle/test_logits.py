"""Our logits beside those of transformers and torch (CPU, fp32), on the same files, for every family.

Needs torch and transformers. `python -m tests.oracle.test_logits` rewrites the golden files under tests/engine/golden.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.checkpoints import CASES, LLAMA, prompt, random_weights, save_checkpoint, save_gguf

GOLDEN = Path(__file__).resolve().parent.parent / "engine" / "golden"
TOLERANCE = 1e-4
N_TOKENS = 96
KEPT_ROWS = (0, 1, 7, 13, 31, 64, 95)


def oracle_logits(directory: Path, tokens: list[int], **options: Any) -> np.ndarray:
    import torch  # type: ignore[import-not-found, unused-ignore]
    import transformers  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **options
    )
    assert not any(report.values()), f"transformers did not take every tensor: {report}"
    with torch.no_grad():
        return np.asarray(model.eval()(torch.tensor([tokens])).logits[0].numpy())


def our_logits(path: Path, tokens: list[int]) -> np.ndarray:
    from planner.engine.load import load
    from planner.engine.model import Model

    checkpoint = load(path)
    return np.asarray(Model(checkpoint.config, checkpoint.weights).logits(tokens))


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the oracle needs torch")
    pytest.importorskip("transformers", reason="the oracle needs transformers")
    directory = save_checkpoint(tmp_path, CASES[case], random_weights(CASES[case]))
    tokens = prompt(N_TOKENS)
    assert error(our_logits(directory, tokens), oracle_logits(directory, tokens)) < TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_gguf_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    for package in ("torch", "transformers", "gguf", "accelerate"):
        pytest.importorskip(package, reason=f"the oracle needs {package}")
    config = LLAMA | {"rope_theta": 5000.0, "head_dim": 12}  # transformers derives it from the hidden size
    path = save_gguf(tmp_path / "tiny.gguf", config, random_weights(config), kind)
    tokens = prompt(N_TOKENS)
    assert error(our_logits(path, tokens), oracle_logits(tmp_path, tokens, gguf_file=path.name)) < TOLERANCE


def main() -> None:
    """Write a golden file per case, and print our error beside it."""
    import tempfile

    GOLDEN.mkdir(exist_ok=True)
    for case, config in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            directory = save_checkpoint(Path(folder), config, random_weights(config))
            tokens = prompt(N_TOKENS)
            theirs = oracle_logits(directory, tokens)
            ours = our_logits(directory, tokens)
        sys.stdout.write(f"{case}: {error(ours, theirs):.1e} of the logit scale {np.abs(theirs).max():.2f}\n")
        np.savez_compressed(
            GOLDEN / f"{case}.npz",
            config=np.array(json.dumps(config)),
            tokens=np.array(tokens, np.int32),
            rows=np.array(KEPT_ROWS, np.int32),
            logits=theirs[list(KEPT_ROWS)].astype(np.float32),
            scale=np.array(np.abs(theirs).max(), np.float32),
        )


if __name__ == "__main__":
    main()
