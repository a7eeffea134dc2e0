"""The place where a plan will run: mirror, proxy, certificates, weights at hand, the network between its nodes.

Every field is a name or an address that a file can carry; none is a secret (a pull secret is named, not given).
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from planner.spec.base import Spec

WeightsKind = Literal["pvc", "oci", "s3", "dir"]
_LABEL = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_REGISTRY = rf"{_LABEL}(?::[0-9]{{1,5}})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
_PROXY = re.compile(rf"https?://{_LABEL}(?::[0-9]{{1,5}})?/?", re.ASCII)
_A_PROXY = "http://HOST:PORT without a user or a password, which no file may hold"
_KEY = r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_PLAIN = {
    "registry": (re.compile(_REGISTRY, re.ASCII), "HOST[:PORT][/PATH]"),
    "pull_secret": (re.compile(_LABEL, re.ASCII), "the name of a Secret"),
    "ca_bundle": (re.compile(r"[^\0\r\n]+"), "the path of a PEM file"),
    "http_proxy": (_PROXY, _A_PROXY),
    "https_proxy": (_PROXY, _A_PROXY),
    "rdma": (
        re.compile(rf"{_KEY}(?:=[1-9][0-9]?)?", re.ASCII),
        "RESOURCE[=COUNT], such as rdma/hca_shared_devices_a=1",
    ),
    "topology_key": (re.compile(_KEY, re.ASCII), "a label of nodes, such as cloud.google.com/gke-nodepool"),
    "no_proxy": (re.compile(r"[A-Za-z0-9.:/*_-]+(?:,[A-Za-z0-9.:/*_-]+)*", re.ASCII), "hosts with commas between"),
}
_PATTERNS: dict[WeightsKind, re.Pattern[str]] = {
    "pvc": re.compile(rf"{_LABEL}(?:/[A-Za-z0-9][\w.-]*)*", re.ASCII),
    "oci": re.compile(rf"{_REGISTRY}(?::[A-Za-z0-9_][\w.-]{{0,127}}|@sha256:[0-9a-f]{{64}})", re.ASCII),
    "s3": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9][\w.-]*)*", re.ASCII),
    "dir": re.compile(r"/[^\0\r\n]*"),
}
_EXAMPLES = "pvc:CLAIM/path, oci:registry/name:tag, s3://bucket/prefix or dir:/absolute/path"


class Site(Spec):
    """`hub` False: nothing is fetched from the Hub at run time; the weights are at hand, or in the cache beforehand."""

    registry: str | None = Field(default=None, max_length=255)
    """Prefix of a mirror: docker.io/org/name:tag is pulled as PREFIX/org/name:tag."""
    pull_secret: str | None = Field(default=None, max_length=253)
    weights: str | None = Field(default=None, max_length=1024)
    ca_bundle: str | None = Field(default=None, max_length=1024)
    """PEM file of this machine; in a cluster the ConfigMap that is made of it."""
    http_proxy: str | None = Field(default=None, max_length=300)
    https_proxy: str | None = Field(default=None, max_length=300)
    no_proxy: str | None = Field(default=None, max_length=2000)
    hub: bool = True
    rdma: str | None = Field(default=None, max_length=320)
    """What a pod asks for to reach the network between nodes without TCP: `resource[=count]` of its device plugin."""
    topology_key: str | None = Field(default=None, max_length=320)
    """Label of nodes whose value is one network domain: each group of pods gets a domain of its own."""

    @field_validator(
        "registry", "pull_secret", "ca_bundle", "http_proxy", "https_proxy", "no_proxy", "rdma", "topology_key"
    )
    @classmethod
    def _plain(cls, text: str | None, info: ValidationInfo) -> str | None:
        pattern, meant = _PLAIN[str(info.field_name)]
        if text is not None and not pattern.fullmatch(text):
            raise ValueError(f"a {str(info.field_name).replace('_', ' ')} is {meant}")
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights is not None:
            kind, place = self.source
            if kind not in _PATTERNS or not _PATTERNS[kind].fullmatch(place):
                raise ValueError(f"weights are {_EXAMPLES}")
            if "/../" in f"/{place}/":
                raise ValueError("the place of the weights climbs out of itself (..)")
        return self

    @property
    def source(self) -> tuple[WeightsKind, str]:
        """(kind, place) of `weights`, which must be given."""
        kind, _, place = (self.weights or "").partition(":")
        return kind, place.removeprefix("//") if kind in ("s3", "oci") else place  # type: ignore[return-value]

    @property
    def rdma_devices(self) -> dict[str, int]:
        """Resource → how many a pod asks for; empty where the nodes talk by TCP."""
        if self.rdma is None:
            return {}
        resource, _, count = self.rdma.partition("=")
        return {resource: int(count or 1)}

    @property
    def reaches_hub(self) -> bool:
        """False when the container must not ask the Hub for anything."""
        return self.hub and self.weights is None
