"""Models of the Hugging Face Hub: config and headers of one commit, by range request, remembered by commit.

`huggingface_hub` answers what a repository holds (HF_ENDPOINT and tokens are its own business); files are
read through `network`, bounded. Downloads nothing but configs, indexes and headers. Offline, or when the Hub
cannot be reached, a commit seen before is used, else the catalog's model of the same name, and that is said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from planner.errors import FormatError, NetworkError, UnknownNameError, UsageError
from planner.sources import cached, network
from planner.sources.stored import TensorFact
from planner.spec.base import Provenance

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

NAME: Final = re.compile(
    r"(?:https?://huggingface\.co/|hf\.co/|huggingface\.co/)?(?P<repo>[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95})"
    r"(?:@(?P<revision>[\w.\-]{1,100}))?(?::(?P<kind>[\w.\-]{1,100}))?",
    re.ASCII,
)
TIMEOUT_S: Final = 10.0
PARALLEL: Final = 8
MAX_FILES: Final = 4096
PREFERRED_GGUF: Final = "Q4_K_M"
"""What Ollama and llama.cpp take from a repository of several files when nothing is named."""
Resolve = Callable[[str], "ModelSpec"]


def endpoint() -> str:
    """HF_ENDPOINT as it is now, without a slash at the end."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def resolve(catalog: Catalog, name: str, base: Resolve, *, offline: bool = False) -> tuple[ModelSpec, str | None]:
    """The model of `org/name`, `org/name@revision` or `org/name:Q4_K_M`, and what was assumed.

    `base` resolves the base model of an adapter. Raises UnknownNameError for a repository nobody has,
    UsageError for one that is gated, private or holds no weights we can read.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise UsageError(f"{name[:60]!a} is not a Hub id; e.g. org/model, org/model@revision, org/model:Q4_K_M")
    repo, revision, kind = match["repo"], match["revision"], match["kind"]
    if offline or network.offline():
        return _without_network(catalog, repo, revision, kind, base, "offline")
    try:
        facts = repo_facts(repo, revision, kind)
    except network.RefusedError as error:
        if error.status == 404:
            hint = f"the catalog does not have it, nor does {_host()} (private? set HF_TOKEN)"
            raise UnknownNameError("model", repo, catalog.names("model"), hint) from None
        if error.status in (401, 403):
            raise UsageError(_refusal(repo, error.status)) from None
        return _without_network(catalog, repo, revision, kind, base, str(error))
    except NetworkError as error:
        return _without_network(catalog, repo, revision, kind, base, str(error))
    return _with_search(catalog, _model(catalog, facts, base), facts), _said(facts, kind)


def _with_search(catalog: Catalog, model: ModelSpec, facts: dict[str, Any]) -> ModelSpec:
    """`model` with the ready quantized checkpoints that its own Hub lists; a Hub that does not say changes nothing."""
    if "config" not in facts or model.quantization not in ("bf16", "fp16", "fp32"):
        return model
    from planner.sources.hub_search import remembered_checkpoints

    return model.model_copy(update={"checkpoints": (*model.checkpoints, *remembered_checkpoints(catalog, facts))})


def _said(facts: dict[str, Any], kind: str | None) -> str:
    where = f"{facts['repo']} at commit {facts['commit'][:12]} of {_host()}"
    if facts.get("file") and kind is None and facts.get("choices", 1) > 1:
        return f"{where}; of {facts['choices']} GGUF files {facts['file']} taken (name another as {facts['repo']}:TYPE)"
    return where


def _host() -> str:
    return endpoint().partition("://")[2]


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def authorization() -> dict[str, str]:
    """The header that carries the user's token, where there is one."""
    token = _token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refusal(repo: str, status: int) -> str:
    page = f"{endpoint()}/{repo}"
    if not _token():
        return f"{repo} is gated or private: accept its licence at {page} and set HF_TOKEN to a token that may read it"
    asked = f"accept the licence at {page}, or use another token"
    return f"{_host()} refused the token in HF_TOKEN for {repo} ({status}): {asked}"


def _without_network(
    catalog: Catalog, repo: str, revision: str | None, kind: str | None, base: Resolve, why: str
) -> tuple[ModelSpec, str | None]:
    """A commit seen before, else what the catalog knows: the very checkpoint, or the model of the same short name."""
    commit = cached.recall("hub-revision", endpoint(), repo, revision or "main")
    facts = cached.recall("hub-repo", endpoint(), repo, str(commit or revision), kind or "")
    if isinstance(facts, dict):
        model = _with_search(catalog, _model(catalog, facts, base), facts)
        return model, f"{_said(facts, kind)}, as remembered ({why})"
    short = repo.partition("/")[2]
    try:
        model = catalog.model(short)
    except UnknownNameError as error:
        from planner.sources.published import from_checkpoint

        known = from_checkpoint(catalog, repo, kind)
        if known is not None:
            return known
        asked = "was not asked" if why == "offline" else "gave no answer"
        hint = f"it is not in the catalog, and the Hub {asked} ({why})"
        raise UnknownNameError("model", repo, error.suggestions or catalog.names("model"), hint) from None
    return model, f"{repo} planned as the catalog's {model.id}, which has the same name: the Hub was not asked ({why})"


# -- asking ---------------------------------------------------------------------------------------


def repo_facts(repo: str, revision: str | None = None, kind: str | None = None) -> dict[str, Any]:
    """What one commit holds, as plain data: config, tensors, sizes. Remembered by commit.

    Raises RefusedError or NetworkError as `network` does, FormatError for damaged files.
    """
    info = model_info(repo, revision)
    commit = str(info.sha)
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise NetworkError(f"{_host()} names no commit for {repo}")
    cached.remember("hub-revision", endpoint(), repo, revision or "main", value=commit)
    known = cached.recall("hub-repo", endpoint(), repo, commit, kind or "")
    if isinstance(known, dict):
        return known
    sizes = {s.rfilename: s.size for s in info.siblings or ()}
    card = info.card_data.to_dict() if getattr(info, "card_data", None) else {}
    facts: dict[str, Any] = {
        "repo": repo,
        "commit": commit,
        "gated": bool(info.gated),
        "license": card.get("license") if isinstance(card.get("license"), str) else None,
        **_contents(CommitFiles(repo, commit, sizes), kind),
    }
    cached.remember("hub-repo", endpoint(), repo, commit, kind or "", value=facts)
    return facts


def model_info(repo: str, revision: str | None = None) -> Any:
    """`huggingface_hub`'s ModelInfo with file sizes; its errors as ours."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    return asked(lambda: api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S))


def asked(question: Callable[[], Any]) -> Any:
    """The answer of `huggingface_hub`, asked again where that may help. Raises RefusedError or NetworkError."""
    import time

    from huggingface_hub import errors

    transport: tuple[type[Exception], ...] = (OSError, getattr(errors, "HTTPError", OSError))
    for attempt in range(1, network.ATTEMPTS + 1):
        try:
            return question()
        except errors.HfHubHTTPError as error:
            response = getattr(error, "response", None)
            status = int(getattr(response, "status_code", 0) or 0)
            if isinstance(error, errors.GatedRepoError):
                status = status or 403
            elif isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
                status = 404
            last: NetworkError = network.RefusedError(endpoint(), status, _first_line(error))
            if status not in network.RETRIED:
                raise last from None
        except errors.HFValidationError as error:
            raise UsageError(_first_line(error)) from None
        except transport as error:
            last = NetworkError(f"{_host()} cannot be reached: {_first_line(error)}")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NetworkError(f"{_host()} answered something that is not the Hub's protocol") from None
        if attempt < network.ATTEMPTS:
            time.sleep(network.backoff(attempt))
    raise last


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]


class CommitFiles:
    """Files of one commit, read by range."""

    def __init__(self, repo: str, commit: str, sizes: dict[str, int | None]) -> None:
        self.repo, self.commit, self.sizes = repo, commit, sizes
        self._headers = authorization()

    def url(self, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repo, name, revision=self.commit, endpoint=endpoint())

    def read(self, name: str, limit: int) -> bytes:
        """A small file whole."""
        size = self.sizes.get(name)
        if size is not None and size > limit:
            raise FormatError(f"{self.repo}/{name} has {size} bytes; at most {limit} are read")
        return network.get(self.url(name), headers=self._headers, limit=limit).body

    def open(self, name: str, piece: int) -> network.HttpFile:
        """A large file as a range reader."""
        return network.HttpFile(self.url(name), headers=self._headers, piece=piece, size=self.sizes.get(name))


def _contents(files: CommitFiles, kind: str | None) -> dict[str, Any]:
    """Config and tensors of what the repository holds: safetensors, an adapter, or GGUF files."""
    from planner.sources.checkpoint import MAX_CONFIG_BYTES, parse_json

    names = set(files.sizes)
    ggufs = sorted(n for n in names if n.endswith(".gguf") and "mmproj" not in n.casefold())
    if kind is not None or (ggufs and not any(n.endswith(".safetensors") for n in names)):
        return _gguf(files, ggufs, kind)
    if "config.json" in names:
        config = parse_json(files.read("config.json", MAX_CONFIG_BYTES), f"{files.repo}/config.json")
        return {"config": config, **_tensors(files, _weight_names(files))}
    if "adapter_config.json" in names:
        adapter = parse_json(files.read("adapter_config.json", MAX_CONFIG_BYTES), f"{files.repo}/adapter_config.json")
        return {"adapter": adapter, **_tensors(files, [n for n in names if n == "adapter_model.safetensors"])}
    raise UsageError(f"{files.repo} holds neither config.json nor GGUF files: it is no model we can plan for")


def _weight_names(files: CommitFiles) -> list[str]:
    from planner.sources.local import MAX_INDEX_BYTES, index_files

    index = "model.safetensors.index.json"
    if index in files.sizes:
        found = index_files(files.read(index, MAX_INDEX_BYTES))
        missing = [name for name in found if name not in files.sizes]
        if missing:
            raise FormatError(f"{files.repo}: {missing[0]} of the index is not in the repository")
        return found
    found = sorted(n for n in files.sizes if n.endswith(".safetensors") and "/" not in n)
    return [n for n in found if not n.startswith("consolidated")] or found


def _tensors(files: CommitFiles, names: list[str]) -> dict[str, Any]:
    """Headers of `names`, several at a time."""
    from concurrent.futures import ThreadPoolExecutor

    from planner.formats.safetensors import read_header

    if len(names) > MAX_FILES:
        raise FormatError(f"{files.repo} has {len(names)} weight files; at most {MAX_FILES} are read")

    def one(name: str) -> tuple[int, list[list[Any]]]:
        reader = files.open(name, 1 << 18)
        try:
            header = read_header(reader)
        except FormatError as error:
            raise FormatError(f"{files.repo}/{name}: {error}") from None
        return reader.size, [[t.name, t.dtype, list(t.shape), t.n_bytes] for t in header.tensors.values()]

    with ThreadPoolExecutor(max_workers=min(PARALLEL, len(names) or 1)) as pool:
        found = list(pool.map(one, names))
    return {"size_bytes": sum(size for size, _ in found), "tensors": [row for _, rows in found for row in rows]}


def _gguf(files: CommitFiles, ggufs: list[str], kind: str | None) -> dict[str, Any]:
    """The GGUF of type `kind` (all its parts), or the preferred one."""
    from planner.formats.gguf import read_header
    from planner.sources.gguf_model import compact
    from planner.sources.local import SPLIT, check_split

    firsts = [n for n in ggufs if (m := SPLIT.fullmatch(n)) is None or int(m["part"]) == 1]
    if not firsts:
        raise UsageError(f"{files.repo} holds no GGUF files")
    wanted = (kind or PREFERRED_GGUF).casefold()
    pattern = re.compile(rf"(?:^|[-._/]){re.escape(wanted)}(?:[-._/]|$)")
    matching = [n for n in firsts if n.casefold() == wanted or pattern.search(n.casefold())]
    if not matching and kind is not None:
        known = sorted({n.rpartition("/")[2].removesuffix(".gguf") for n in firsts})
        raise UnknownNameError("GGUF type", kind, known, f"{files.repo} holds {', '.join(known[:6])}")
    first = (matching or firsts)[0]
    split = SPLIT.fullmatch(first)
    parts = [first]
    if split is not None:
        parts = [n for n in ggufs if (m := SPLIT.fullmatch(n)) and m["stem"] == split["stem"]]
        if len(parts) != int(split["parts"]):
            raise FormatError(f"{files.repo}: {len(parts)} of {int(split['parts'])} parts of {first} are there")
    metadata: dict[str, Any] = {}
    rows: list[list[Any]] = []
    size = 0
    for i, name in enumerate(parts):
        reader = files.open(name, 1 << 20)
        try:
            header = read_header(reader)
        except FormatError as error:
            raise FormatError(f"{files.repo}/{name}: {error}") from None
        if i == 0:
            metadata = compact(header.metadata)
            check_split(metadata, len(parts), name)
        size += reader.size
        rows += [[t.name, t.type, list(t.shape), t.n_bytes] for t in header.tensors.values()]
    return {"file": first, "choices": len(firsts), "metadata": metadata, "tensors": rows, "size_bytes": size}


# -- the model ------------------------------------------------------------------------------------


def _model(catalog: Catalog, facts: dict[str, Any], base: Resolve) -> ModelSpec:
    from planner.sources import checkpoint
    from planner.sources.gguf_model import model_of_gguf

    repo, commit = facts["repo"], facts["commit"]
    tensors = [TensorFact(name, dtype, tuple(shape), size) for name, dtype, shape, size in facts["tensors"]]
    provenance = Provenance(source=f"https://huggingface.co/{repo}/tree/{commit}", date="1970-01-01", basis="spec")
    if "adapter" in facts:
        model = base(checkpoint.adapter_base(facts["adapter"]))
        return checkpoint.with_adapter(model, facts["adapter"], tensors, repo)
    if "metadata" in facts:
        row = {"repo": repo, "file": facts["file"], "revision": commit, "gated": facts["gated"]}
        return model_of_gguf(
            catalog, facts["metadata"], tensors, id=repo, checkpoint=row, provenance=provenance,
            size_bytes=facts["size_bytes"],
        )  # fmt: skip
    return checkpoint.model_of(
        facts["config"], tensors, id=repo, repo=repo, provenance=provenance, size_bytes=facts["size_bytes"] or None,
        revision=commit, gated=facts["gated"], license=facts["license"],
    )  # fmt: skip
