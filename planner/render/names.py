"""Names for containers, objects and files, made of whatever a model is called."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

MAX_LABEL = 40
"""Leaves room for suffixes below the 63 characters of a DNS label."""


def slug(text: str, limit: int = MAX_LABEL) -> str:
    """A DNS-1123 label out of `text`; where characters are lost a short hash keeps names apart."""
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if label == text.lower().replace("/", "-").replace(".", "-").replace("_", "-") and len(label) <= limit:
        return label
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{label[: limit - 9].strip('-') or 'model'}-{digest}"


def has_fixed_tag(reference: str) -> bool:
    """True when `reference` names one image for good: a digest, or a tag other than a floating one."""
    if "@sha256:" in reference:
        return True
    _, colon, tag = PurePosixPath(reference).name.partition(":")
    return bool(colon) and tag not in ("", "latest", "main", "master", "nightly", "edge", "stable", "rocm")


def split_reference(reference: str) -> tuple[str, str, str]:
    """(repository, tag, digest) of an image reference; what it lacks is empty."""
    rest, _, digest = reference.partition("@")
    colon = rest.rfind(":")
    if colon <= rest.rfind("/"):
        return rest, "", digest
    return rest[:colon], rest[colon + 1 :], digest
