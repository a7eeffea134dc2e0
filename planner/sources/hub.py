"""Models of the Hugging Face Hub: config and headers of one commit, by range request, remembered by commit.

`huggingface_hub` answers what a repository holds (HF_ENDPOINT and tokens are its own business); files are
read through `network`, bounded. Downloads nothing but configs, indexes and headers. Offline, or when the Hub
cannot be reached, a commit seen before is used, else the catalog's model of the same name, and that is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from planner.errors import FormatError, NetworkError, UnknownNameError, UsageError
from planner.sources import cached, network
from planner.sources.hub_files import CommitFiles, authorization, contents, endpoint, hub_token
from planner.sources.stored import TensorFact
from planner.spec.base import Provenance

if TYPE_CHECKING:
    from planner.sources.catalog import Catalog
    from planner.spec.model import ModelSpec

NAME: Final = re.compile(
    r"(?:https?://huggingface\.co/|hf\.co/|huggingface\.co/)?(?P<repo>[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95})"
    r"(?:@(?P<revision>[\w][\w.\-]{0,99}(?:/[\w][\w.\-]{0,99}){0,3}))?(?::(?P<kind>[\w.\-]{1,100}))?",
    re.ASCII,
)
TIMEOUT_S: Final = 10.0
MAX_REFS_BYTES: Final = 4 << 20
Resolve = Callable[[str], "ModelSpec"]


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
    except UnknownRevisionError as error:
        known = _branches(repo)
        hint = f"{repo} has no such branch, tag or commit" + (f"; it has {', '.join(known[:4])}" if known else "")
        raise UnknownNameError("revision", error.revision, known, hint) from None
    except network.RefusedError as error:
        if error.status == 404:
            token = "the token in HF_TOKEN may not read it" if hub_token() else "set HF_TOKEN"
            hint = f"the catalog does not have it, nor does {_host()} (private? {token})"
            raise UnknownNameError("model", repo, catalog.names("model"), hint) from None
        if error.status in (401, 403):
            offline_hint = ", or leave the revision out: the catalog has it" if _catalogued(catalog, repo) else ""
            raise UsageError(_refusal(repo, error.status) + offline_hint) from None
        return _without_network(catalog, repo, revision, kind, base, str(error))
    except NetworkError as error:
        return _without_network(catalog, repo, revision, kind, base, str(error))
    return _with_search(catalog, _with_catalog(catalog, _model(catalog, facts, base)), facts), _said(facts, kind)


class UnknownRevisionError(network.RefusedError):
    """The repository is there, the `revision` is not."""

    def __init__(self, repo: str, revision: str) -> None:
        super().__init__(endpoint(), 404, f"{repo} has no revision {revision}")
        self.revision = revision


def _branches(repo: str) -> tuple[str, ...]:
    """Branches and tags to suggest from; none where the Hub does not tell."""
    try:
        raw = network.get(f"{endpoint()}/api/models/{repo}/refs", headers=authorization(), limit=MAX_REFS_BYTES).body
        refs = json.loads(raw)
        return tuple(str(ref["name"]) for kind in ("branches", "tags") for ref in refs[kind])
    except (NetworkError, FormatError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def _catalogued(catalog: Catalog, repo: str) -> ModelSpec | None:
    """The catalog's own entry of `repo`."""
    try:
        known = catalog.model(repo)
    except UnknownNameError:
        return None
    return known if known.id.casefold() == repo.casefold() else None


def _with_catalog(catalog: Catalog, model: ModelSpec) -> ModelSpec:
    """`model`, as the Hub has it, with what only the catalog knows: names, family, other checkpoints."""
    known = _catalogued(catalog, model.id)
    if known is None:
        return model
    own = {(c.repo, c.quantization) for c in model.checkpoints}
    others = tuple(c for c in known.checkpoints if (c.repo, c.quantization) not in own)
    kept = {name: getattr(known, name) for name in ("family", "aliases", "chat_stop", "instruct")}
    return model.model_copy(update={**kept, "checkpoints": (*model.checkpoints, *others)})


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


def _refusal(repo: str, status: int) -> str:
    page = f"{endpoint()}/{repo}"
    if not hub_token():
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
        model = _with_search(catalog, _with_catalog(catalog, _model(catalog, facts, base)), facts)
        return model, f"{_said(facts, kind)}, as remembered ({why})"
    unchecked = f"; revision {revision} is not checked" if revision else ""
    if (same := _catalogued(catalog, repo)) is not None:
        return same, f"{repo} as the catalog has it: the Hub was not asked ({why}){unchecked}"
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
    named = f"{repo} planned as the catalog's {model.id}, which has the same name"
    return model, f"{named}: the Hub was not asked ({why}){unchecked}"


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
        **contents(CommitFiles(repo, commit, sizes), kind),
    }
    cached.remember("hub-repo", endpoint(), repo, commit, kind or "", value=facts)
    return facts


def model_info(repo: str, revision: str | None = None) -> Any:
    """`huggingface_hub`'s ModelInfo with file sizes; its errors as ours."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    try:
        return asked(lambda: api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S))
    except network.RefusedError as error:
        if revision is not None and error.headers.get("x-error-code") == "RevisionNotFound":
            raise UnknownRevisionError(repo, revision) from None
        raise


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
            code = {"x-error-code": "RevisionNotFound"} if isinstance(error, errors.RevisionNotFoundError) else {}
            last: NetworkError = network.RefusedError(endpoint(), status, _first_line(error), code)
            if status not in network.RETRIED:
                raise last from None
        except errors.HFValidationError as error:
            raise UsageError(_first_line(error)) from None
        except transport as error:
            last = NetworkError(f"{_host()} cannot be reached: {_first_line(error)}")
            if "timeout" in type(error).__name__.casefold():
                raise last from None  # silence for TIMEOUT_S: whoever waits for a plan is not kept for three times that
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NetworkError(f"{_host()} answered something that is not the Hub's protocol") from None
        if attempt < network.ATTEMPTS:
            time.sleep(network.backoff(attempt))
    raise last


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]


# -- the model ------------------------------------------------------------------------------------


def _model(catalog: Catalog, facts: dict[str, Any], base: Resolve) -> ModelSpec:
    from planner.sources import checkpoint
    from planner.sources.gguf_model import model_of_gguf

    repo, commit = facts["repo"], facts["commit"]
    tensors = [TensorFact(name, dtype, tuple(shape), size) for name, dtype, shape, size in facts["tensors"]]
    provenance = Provenance(source=f"https://huggingface.co/{repo}/tree/{commit}", date="1970-01-01", basis="spec")
    if "adapter" in facts:
        model = checkpoint.adapted(facts["adapter"], repo, base)
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
