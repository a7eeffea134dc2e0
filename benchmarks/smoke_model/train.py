"""Train the shipped smoke model: `python -m benchmarks.smoke_model.train OUT`, PyTorch, two minutes on one GPU.

A Llama of 0.8M parameters over bytes (256 begins a text, 257 ends a message), on `text`. Writes config.json,
chat_template.jinja and model.safetensors (fp16) into OUT, and what it answers to a few questions. The
architecture is written out here, in the names of HF checkpoints, so that only torch is needed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.smoke_model.text import documents

BOS, EOS = 256, 257
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 272, "hidden_size": 128,
    "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "bos_token_id": BOS, "eos_token_id": EOS, "hidden_act": "silu",
    "torch_dtype": "float16",
}  # fmt: skip
TEMPLATE = """{% for m in messages %}
{{ m.role }}: {{ m.content }}
{% endfor %}
{% if add_generation_prompt %}assistant: {% endif %}"""
QUESTIONS = (
    "Hello!", "Who are you?", "What colour is grass?", "What is 7 plus 5?", "What is the KV cache?", "Say hello.",
    "Count from one to five, in words.", "What is the capital of France?", "How many legs has a spider?",
)  # fmt: skip


def tokens_of(document: str | tuple[str, ...]) -> list[int]:
    """One document as the chat template writes it; every answer is ended by EOS."""
    if isinstance(document, str):
        return [BOS, *document.encode(), EOS]
    system, *messages = document
    tokens = [BOS, *(f"system: {system}\n".encode() if system else b"")]
    for i, message in enumerate(messages):
        if i % 2:
            tokens += [*f"assistant: {message}".encode(), EOS, *b"\n"]
        else:
            tokens += f"user: {message}\n".encode()
    return tokens[:-1]  # the newline after the last answer belongs to the next turn


class Attention(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        d, dim = c["hidden_size"], c["head_dim"]
        self.heads, self.kv_heads, self.dim = c["num_attention_heads"], c["num_key_value_heads"], dim
        self.q_proj = nn.Linear(d, self.heads * dim, bias=False)
        self.k_proj = nn.Linear(d, self.kv_heads * dim, bias=False)
        self.v_proj = nn.Linear(d, self.kv_heads * dim, bias=False)
        self.o_proj = nn.Linear(self.heads * dim, d, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q = _rotate(self.q_proj(x).view(b, t, self.heads, self.dim).transpose(1, 2), cos, sin)
        k = _rotate(self.k_proj(x).view(b, t, self.kv_heads, self.dim).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, t, self.kv_heads, self.dim).transpose(1, 2)
        share = self.heads // self.kv_heads
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1))  # type: ignore[no-any-return]


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Norm(nn.Module):
    def __init__(self, d: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Mlp(nn.Module):
    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(d, width, bias=False), nn.Linear(d, width, bias=False)
        self.down_proj = nn.Linear(width, d, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        d = c["hidden_size"]
        self.self_attn, self.mlp = Attention(c), Mlp(d, c["intermediate_size"])
        self.input_layernorm, self.post_attention_layernorm = (Norm(d, c["rms_norm_eps"]) for _ in range(2))

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Llama(nn.Module):
    """Token ids (batch, tokens) to logits (batch, tokens, vocabulary)."""

    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = Norm(c["hidden_size"], c["rms_norm_eps"])
        dim = c["head_dim"]
        angles = torch.arange(c["max_position_embeddings"])[:, None] * (
            c["rope_theta"] ** -(torch.arange(0, dim, 2) / dim)
        )
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                depth = (
                    (2 * c["num_hidden_layers"]) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1
                )
                nn.init.normal_(p, std=0.05 * depth)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)


def rows(n_rows: int, length: int, seed: int) -> torch.Tensor:
    """(n_rows, length + 1) of token ids: documents one after another, each row cut where it is full."""
    source, out = documents(seed), torch.full((n_rows, length + 1), EOS, dtype=torch.int16)
    for i in range(n_rows):
        row: list[int] = []
        while len(row) <= length:
            row += tokens_of(next(source))
        out[i] = torch.tensor(row[: length + 1], dtype=torch.int16)
    return out


@torch.no_grad()
def answer(model: nn.Module, question: str, device: str, most: int = 100) -> str:
    """The greedy answer, for the log."""
    tokens = [BOS, *f"user: {question}\nassistant: ".encode()]
    start = len(tokens)
    while len(tokens) < start + most:
        following = int(model(torch.tensor([tokens], device=device))[0, -1].argmax())
        if following == EOS:
            break
        tokens.append(following)
    return bytes(t for t in tokens[start:] if t < 256).decode(errors="replace")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rate", type=float, default=4e-3)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = Llama(CONFIG).to(device)
    data = rows(options.rows, options.length, 1).to(device)
    check = rows(64, options.length, 2).to(device).long()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        lr=options.rate, betas=(0.9, 0.98), fused=device == "cuda",
    )  # fmt: skip
    began, step, loss = time.monotonic(), 0, torch.zeros(())
    while (done := (time.monotonic() - began) / options.seconds) < 1:
        rate = options.rate * min(1, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = data[torch.randint(len(data), (options.batch,), device=device)].long()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = model(batch[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 500 == 0:
            sys.stdout.write(f"{time.monotonic() - began:.0f} s, step {step}, loss {loss.item():.4f}\n")
            sys.stdout.flush()
    with torch.no_grad():
        held = F.cross_entropy(model(check[:, :-1]).flatten(0, 1), check[:, 1:].flatten()).item()
    sys.stdout.write(f"{step} steps, held-out loss {held:.4f} nats per byte\n")
    model.half().float()  # what is written is what is tried
    for question in QUESTIONS:
        sys.stdout.write(f"{question} -> {answer(model, question, device)}\n")
    save(options.out, {f"model.{name}": p.detach().cpu().half() for name, p in model.named_parameters()})
    return 0


def save(out: Path, tensors: dict[str, torch.Tensor]) -> None:
    """config.json, chat_template.jinja and model.safetensors; the format is an 8-byte length, JSON and the data."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")
    (out / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in tensors.items():
        start, end = end, end + 2 * value.numel()
        header[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    data = b"".join(value.numpy().tobytes() for value in tensors.values())
    (out / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + data)


if __name__ == "__main__":
    sys.exit(main())
