"""Checkpoints as files that are mostly holes, and a local server that speaks the Hub's and a registry's protocol."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import prod
from pathlib import Path
from typing import Any

import pytest

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_BITS = {"BF16": 16, "F16": 16, "F32": 32, "I32": 32, "U32": 32, "U8": 8, "F8_E4M3": 8, "I64": 64}
_GGUF_TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "Q6_K": (14, 256, 210),
               "MXFP4": (39, 32, 17)}  # fmt: skip


def safetensors_header(tensors: Tensors) -> tuple[bytes, int]:
    """(length and header, bytes of data after them)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * _BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw, offset


def write_safetensors(path: Path, tensors: Tensors) -> int:
    """Write `tensors` without data (a sparse file); bytes of tensor data."""
    head, size = safetensors_header(tensors)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    return size


def _gguf_text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _gguf_value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _gguf_text(value)
    kind = 8 if value and isinstance(value[0], str) else 4
    items = b"".join(_gguf_text(v) if kind == 8 else struct.pack("<I", v) for v in value)
    return struct.pack("<IIQ", 9, kind, len(value)) + items


def gguf_header(metadata: Mapping[str, Any], tensors: Tensors) -> tuple[bytes, int]:
    """(header up to the data, bytes of tensor data); shapes are given outermost first."""
    rows, offset, total = [], 0, 0
    for name, (kind, shape) in tensors.items():
        number, block, size = _GGUF_TYPES[kind]
        n_bytes = prod(shape) // block * size
        dims = b"".join(struct.pack("<Q", n) for n in reversed(shape))
        rows.append(_gguf_text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", number, offset))
        total += n_bytes
        offset += -(-n_bytes // 32) * 32
    pairs = b"".join(_gguf_text(key) + _gguf_value(value) for key, value in metadata.items())
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + pairs + b"".join(rows)
    return head + b"\0" * (-len(head) % 32), offset


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Tensors) -> int:
    """Write a GGUF without data (a sparse file); bytes of tensors, padding not counted."""
    head, padded = gguf_header(metadata, tensors)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + padded)
    return sum(prod(s) // _GGUF_TYPES[k][1] * _GGUF_TYPES[k][2] for k, s in tensors.values())


def llama_tensors(layers: int = 2, h: int = 64, ffn: int = 128, vocab: int = 96, kv: int = 32) -> dict[str, Any]:
    """A small Llama as transformers stores it, head included; 4 heads of 16, 2 KV heads."""
    found: dict[str, Any] = {"model.embed_tokens.weight": ("BF16", (vocab, h))}
    for i in range(layers):
        p = f"model.layers.{i}."
        shapes = {
            "self_attn.q_proj": (h, h), "self_attn.k_proj": (kv, h), "self_attn.v_proj": (kv, h),
            "self_attn.o_proj": (h, h), "mlp.gate_proj": (ffn, h), "mlp.up_proj": (ffn, h), "mlp.down_proj": (h, ffn),
        }  # fmt: skip
        found |= {f"{p}{name}.weight": ("BF16", shape) for name, shape in shapes.items()}
        found |= {f"{p}{n}.weight": ("BF16", (h,)) for n in ("input_layernorm", "post_attention_layernorm")}
    return found | {"model.norm.weight": ("BF16", (h,)), "lm_head.weight": ("BF16", (vocab, h))}


def llama_gguf(vocab: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and tensors of a GGUF file: a Llama of one layer in Q8_0, output norm and embedding included."""
    metadata = {
        "general.architecture": "llama", "general.file_type": 7, "llama.block_count": 1, "llama.context_length": 2048,
        "llama.embedding_length": 64, "llama.feed_forward_length": 96, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
    }  # fmt: skip
    shapes = {
        "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64), "ffn_gate": (96, 64),
        "ffn_up": (96, 64), "ffn_down": (64, 96),
    }  # fmt: skip
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {f"blk.0.{n}.weight": ("Q8_0", s) for n, s in shapes.items()}
    tensors |= {f"blk.0.{n}.weight": ("F32", (64,)) for n in ("attn_norm", "ffn_norm")}
    return metadata, tensors | {"token_embd.weight": ("Q8_0", (vocab, 64)), "output_norm.weight": ("F32", (64,))}


LLAMA_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 96,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip


@dataclass
class Workshop:
    """What tests build checkpoints with."""

    llama_config: dict[str, Any]
    llama_tensors = staticmethod(llama_tensors)
    llama_gguf = staticmethod(llama_gguf)
    safetensors = staticmethod(write_safetensors)
    gguf = staticmethod(write_gguf)
    safetensors_header = staticmethod(safetensors_header)
    gguf_header = staticmethod(gguf_header)

    @staticmethod
    def repo(files: dict[str, bytes | Path], **about: Any) -> Repo:
        """A Hub repository of `files`."""
        return Repo(files, **about)

    @staticmethod
    def fault(where: str, kind: str, times: int = 10**6, headers: dict[str, str] | None = None) -> Fault:
        """What the server does wrong, for paths that hold `where`."""
        return Fault(where, kind, times, headers or {})

    def folder(self, path: Path, config: Mapping[str, Any], tensors: Tensors) -> int:
        """config.json and one model.safetensors in `path`; bytes of tensor data."""
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(json.dumps(config))
        return write_safetensors(path / "model.safetensors", tensors)


@pytest.fixture
def workshop() -> Workshop:
    return Workshop(dict(LLAMA_CONFIG))


# -- the server -----------------------------------------------------------------------------------


@dataclass
class Repo:
    """A Hub repository. `files` hold bytes, or paths of sparse files."""

    files: dict[str, bytes | Path]
    commit: str = COMMIT
    branches: tuple[str, ...] = ("main",)
    gated: bool | str = False
    private: bool = False
    tags: tuple[str, ...] = ()
    downloads: int = 0
    license: str = "apache-2.0"
    parameters: int | None = None
    """What the Hub counts in its safetensors files; None: it says nothing."""


@dataclass
class Fault:
    """`kind`: a status, or cut, drip, gzip, wrong_range, no_range, new_etag; for paths with `where`, `times` times."""

    where: str
    kind: str
    times: int = 10**6
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Site:
    """What the server serves and what it saw."""

    url: str = ""
    token: str = "hf_right"
    repos: dict[str, Repo] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes | Path] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    log: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.where in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def add_blob(self, content: bytes | Path) -> str:
        raw = content if isinstance(content, bytes) else content.read_bytes()
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        self.blobs[digest] = content
        return digest

    def seen(self, part: str) -> list[dict[str, str]]:
        return [headers for path, headers in self.log if part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: object) -> None:
        return

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.parse.unquote(self.path)
        self.site.log.append((path, {k.lower(): v for k, v in self.headers.items()}))
        fault = self.site.fault(path)
        try:
            if fault is not None and fault.kind.isdecimal():
                self._error(int(fault.kind), "a fault", fault.headers)
            elif path.startswith("/api/models"):
                self._api(path, fault)
            elif path.startswith("/v2/"):
                self._registry(path, fault)
            elif path.startswith("/cdn/"):
                self._cdn(path, fault)
            else:
                self._resolve(path, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # -- the Hub

    def _api(self, path: str, fault: Fault | None) -> None:
        url, _, query = path.partition("?")
        if url == "/api/models":
            wanted = urllib.parse.parse_qs(query).get("filter", [])
            rows = [self._about(n, r) for n, r in self.site.repos.items() if set(wanted) <= set(r.tags)]
            return self._json(rows)
        if url.endswith("/refs") and (listed := self.site.repos.get(url[len("/api/models/") : -len("/refs")])):
            rows = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": listed.commit} for n in listed.branches]
            return self._json({"branches": rows, "tags": [], "converts": []})
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", url)
        repo = self.site.repos.get(match[1]) if match else None
        if match is None or repo is None or (repo.private and not self._authorised()):
            # the Hub answers 401 to strangers, so that private names do not leak
            return self._error(401 if not self._authorised() else 404, "Invalid username or password.",
                               {"X-Error-Code": "RepoNotFound"})  # fmt: skip
        if match[2] not in (None, *repo.branches, repo.commit):
            return self._error(404, "Invalid rev id", {"X-Error-Code": "RevisionNotFound"})
        return self._json(self._about(match[1], repo), fault.kind if fault else "")

    def _about(self, name: str, repo: Repo) -> dict[str, Any]:
        sizes = {n: len(c) if isinstance(c, bytes) else c.stat().st_size for n, c in repo.files.items()}
        total = repo.parameters
        counted = {} if total is None else {"safetensors": {"parameters": {"BF16": total}, "total": total}}
        return {
            "_id": "0", "id": name, "modelId": name, "sha": repo.commit, "private": repo.private, "gated": repo.gated,
            "tags": list(repo.tags), "downloads": repo.downloads, "likes": 0, "cardData": {"license": repo.license},
            "siblings": [{"rfilename": n, "size": s, "blobId": "0" * 40} for n, s in sizes.items()], **counted,
        }  # fmt: skip

    def _resolve(self, path: str, fault: Fault | None) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo = self.site.repos.get(match[1]) if match else None
        if match is None or repo is None or match[3] not in repo.files:
            return self._error(404, "Entry not found", {"X-Error-Code": "EntryNotFound"})
        if (repo.gated or repo.private) and not self._authorised():
            status = 403 if "authorization" in {k.lower() for k in self.headers} else 401
            return self._error(status, "Access to this model is restricted.", {"X-Error-Code": "GatedRepo"})
        content = repo.files[match[3]]
        etag = f'"{hashlib.sha256(match[3].encode()).hexdigest()}"'
        common = {"ETag": etag, "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if match[3].endswith((".safetensors", ".gguf")):
            port = self.site.url.rpartition(":")[2]
            target = f"http://localhost:{port}/cdn/{match[1]}/{match[3]}"  # another host name: tokens stay here
            return self._send(302, b"", {**common, "Location": target, "X-Linked-Etag": etag})
        return self._ranged(content, common, fault)

    def _cdn(self, path: str, fault: Fault | None) -> None:
        _, _, org, name, file = path.split("/", 4)
        content = self.site.blobs[file] if name == "blob" else self.site.repos[f"{org}/{name}"].files[file]
        etag = '"cdn"' if fault is None or fault.kind != "new_etag" else f'"{time.monotonic_ns()}"'
        self._ranged(content, {"ETag": etag, "Accept-Ranges": "bytes"}, fault)

    # -- a registry

    def _registry(self, path: str, fault: Fault | None) -> None:
        match = re.fullmatch(r"/v2/([^/]+/[^/]+)/(manifests|blobs)/(.+)", path)
        if match and match[2] == "manifests" and f"{match[1]}:{match[3]}" in self.site.manifests:
            raw = self.site.manifests[f"{match[1]}:{match[3]}"]
            return self._send(200, raw, {"Content-Type": "application/vnd.docker.distribution.manifest.v2+json"})
        if match and match[2] == "blobs" and match[3] in self.site.blobs:
            if isinstance(self.site.blobs[match[3]], Path):
                port = self.site.url.rpartition(":")[2]
                return self._send(307, b"", {"Location": f"http://localhost:{port}/cdn/x/blob/{match[3]}"})
            return self._ranged(self.site.blobs[match[3]], {}, fault)
        body = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
        return self._send(404, json.dumps(body).encode(), {})

    # -- bytes

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.site.token}"

    def _ranged(self, content: bytes | Path, headers: dict[str, str], fault: Fault | None) -> None:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        kind = fault.kind if fault else ""
        if match is None or kind == "no_range":
            return (
                self._send_whole(content, size, headers)
                if kind == "no_range"
                else self._send(200, self._bytes(content, 0, size), headers, kind)
            )
        begin, end = int(match[1]), min(int(match[2]), size - 1)
        if begin >= size:
            return self._send(416, b"", {"Content-Range": f"bytes */{size}"})
        body = self._bytes(content, begin, end - begin + 1)
        shown = f"bytes {begin + 1}-{end + 1}/{size}" if kind == "wrong_range" else f"bytes {begin}-{end}/{size}"
        return self._send(206, body, {**headers, "Content-Range": shown}, kind)

    @staticmethod
    def _bytes(content: bytes | Path, offset: int, length: int) -> bytes:
        if isinstance(content, bytes):
            return content[offset : offset + length]
        with content.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def _send_whole(self, content: bytes | Path, size: int, headers: dict[str, str]) -> None:
        """All of a file of any size, as far as the other side reads."""
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()
        for offset in range(0, size, 1 << 16):
            self.wfile.write(self._bytes(content, offset, 1 << 16))

    def _json(self, data: Any, kind: str = "") -> None:
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"}, kind)

    def _error(self, status: int, message: str, headers: dict[str, str]) -> None:
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {"Content-Type": "application/json", "X-Error-Message": message, **headers})

    def _send(self, status: int, body: bytes, headers: dict[str, str], kind: str = "") -> None:
        self.send_response(status)
        for name, value in ({**headers, "Content-Encoding": "gzip"} if kind == "gzip" else headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
        elif kind == "drip":
            for i in range(min(len(body), 200)):
                self.wfile.write(body[i : i + 1])
                self.wfile.flush()
                time.sleep(0.02)
            self.close_connection = True
        else:
            self.wfile.write(body)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: object) -> Iterator[Site]:
    """A server on 127.0.0.1; HF_ENDPOINT and the registry point to it, the cache is the test's own."""
    found = Site()
    handler = type("Handler", (_Handler,), {"site": found})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setenv("PLANNER_OLLAMA_REGISTRY", found.url)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "no-ollama"))
    monkeypatch.setenv("PLANNER_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("PLANNER_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("planner.sources.network.backoff", lambda attempt: 0.0)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
