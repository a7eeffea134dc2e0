"""What the request's site changes of a launch: where images and weights come from, proxies, certificates.

Knows names, mounts and variables; nothing of file formats. A plan without a site is left as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.records import dataclass
from planner.render.arguments import MODEL_MOUNT

if TYPE_CHECKING:
    from planner.spec.plan import Configuration, Plan
    from planner.spec.site import Site

CA_FOLDER = "/etc/planner-ca"
CA_FILE = f"{CA_FOLDER}/ca.crt"
CA_CONFIG_MAP = "planner-ca"
MOUNTED_MODEL = str(MODEL_MOUNT / "model")
_REGISTRY_HOSTS = ("localhost",)
_DIRECT = ("localhost", "127.0.0.1", "::1")
"""Health checks inside a container must never go through a proxy."""
_CLUSTER_DIRECT = (".svc", ".cluster.local")
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that a cluster has at hand. `kind` is pvc or oci; `path` is inside the claim (empty: its root)."""

    kind: str
    source: str
    path: str


def mirrored(plan: Plan, reference: str) -> str:
    """`reference` at the site's mirror: its own registry's host gives way to the prefix."""
    site = plan.request.site
    if site is None or site.registry is None:
        return reference
    host, slash, rest = reference.partition("/")
    is_host = bool(slash) and ("." in host or ":" in host or host in _REGISTRY_HOSTS)
    return f"{site.registry}/{rest if is_host else reference}"


def placed(plan: Plan) -> Configuration:
    """The plan's configuration, with the model's name given way to the place of weights that are at hand."""
    site, best = plan.request.site, plan.best
    if site is None or site.weights is None:
        return best
    kind, place = site.source
    checkpoint = place if kind == "dir" else MOUNTED_MODEL
    return best.model_copy(
        update={"model": best.model.model_copy(update={"checkpoint": checkpoint, "revision": None, "gated": False})}
    )


def cluster_weights(plan: Plan) -> Weights | None:
    """What a pod mounts at `MOUNTED_MODEL`; None when the weights come from elsewhere."""
    site = plan.request.site
    if site is None or site.weights is None:
        return None
    kind, place = site.source
    if kind == "pvc":
        claim, _, path = place.partition("/")
        return Weights(kind, claim, path)
    return Weights(kind, place, "") if kind == "oci" else None


def in_cluster(site: Site | None) -> bool:
    """True when a cluster brings the weights into the container."""
    return site is not None and site.weights is not None and site.source[0] != "dir"


def environment(site: Site | None, ca_file: str = CA_FILE) -> dict[str, str]:
    """Variables of proxies, certificates and of a Hub that must not be asked."""
    if site is None:
        return {}
    values: dict[str, str] = {}
    for name, value in (("HTTP_PROXY", site.http_proxy), ("HTTPS_PROXY", site.https_proxy)):
        if value is not None:
            values[name] = value
    if values:
        named = site.no_proxy.split(",") if site.no_proxy else []
        values["NO_PROXY"] = ",".join(dict.fromkeys((*named, *_DIRECT, *_CLUSTER_DIRECT)))
    if site.ca_bundle is not None:
        values |= dict.fromkeys(_CA_VARIABLES, ca_file)
    if not site.reaches_hub:
        values |= {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
        }
    return values


def egress_ports(site: Site | None) -> tuple[int, ...]:
    """Ports beside DNS that the server has to reach: the Hub's, a proxy's, or none."""
    if site is None:
        return (HTTPS_PORT,)
    proxies = [url for url in (site.http_proxy, site.https_proxy) if url is not None]
    if proxies:
        return tuple(sorted({_port(url) for url in proxies}))
    return (HTTPS_PORT,) if site.reaches_hub else ()


def _port(url: str) -> int:
    scheme, _, rest = url.rstrip("/").partition("://")
    _, colon, port = rest.partition(":")
    return int(port) if colon else {"http": 80}.get(scheme, HTTPS_PORT)


def why_no_weights(plan: Plan) -> str | None:
    """Why the engine cannot load the weights of this site; None when it can, or when none are named."""
    site, best = plan.request.site, plan.best
    if site is None:
        return None
    adapters = best.features is not None and (best.features.lora_adapters or best.features.draft_model)
    if site.weights is not None and adapters:
        return (
            "adapters and draft models come from the Hub, and this site has the model's weights alone: "
            "leave --weights out, ask for --no-hub and fill the cache beforehand"
        )
    if site.weights is None:
        return None
    if best.engine.name not in ("vllm", "tgi"):
        return f"{best.engine.name} loads a .gguf file: give it as the model instead of --weights"
    if best.quantization.startswith("gguf:"):
        return "a GGUF file is given as the model itself, not as --weights, which is a folder"
    return None


def why_not_on_docker(plan: Plan) -> str | None:
    """Why a container beside its user cannot have the site's weights."""
    site = plan.request.site
    if site is None or site.weights is None or site.source[0] == "dir":
        return None
    return f"weights at {site.source[0]}: are in a cluster; on one host give a folder, --weights dir:/absolute/path"


def why_not_in_cluster(plan: Plan, *, fetches_s3: bool = False) -> str | None:
    """Why a pod cannot have the site's weights."""
    site = plan.request.site
    if site is None or site.weights is None:
        return None
    kind = site.source[0]
    if kind == "dir":
        return (
            "the weights are a folder of this machine, which a pod cannot read; copy it to a claim, --weights pvc:CLAIM"
        )
    if kind == "s3" and not fetches_s3:
        return "a pod does not read S3 by itself: use target kserve, or copy the bucket to a claim, --weights pvc:CLAIM"
    return None


def why_only_hub(plan: Plan, what: str) -> str | None:
    """Why a target that brings its weights from the Hub itself cannot serve this site."""
    site = plan.request.site
    return (
        None if site is None or site.reaches_hub else f"{what} fetches its weights from the Hub, and this site has none"
    )
