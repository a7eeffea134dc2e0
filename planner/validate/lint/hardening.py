"""The security pass: every object, pod, container and Compose service against catalog/hardening.yaml.

One small predicate per rule, True when it holds. What does not hold is waived with a reason from the data file, or
a failure. Knows nothing of how files come about; equals checkov's Kubernetes checks without installing it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.render.names import has_fixed_tag
from planner.sources.hardening import hardening
from planner.validate import custom
from planner.validate.lint.documents import documents
from planner.validate.verdict import Check, from_problems, guarded, skipped

if TYPE_CHECKING:
    from planner.spec.hardening import HardeningRule, Waiver
    from planner.spec.plan import Plan

_SECRET_NAME = re.compile(r"TOKEN|PASSWORD|SECRET|API_KEY|CREDENTIAL", re.IGNORECASE)
_POLICED = ("Deployment", "StatefulSet", "LeaderWorkerSet", "InferenceService", "LLMInferenceService", "RayService")
_RIGHTS = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
_EXPOSED = ("LoadBalancer", "NodePort")
_MIN_USER = 10000


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule looks at: a container, pod, object, file or service, and where it stands."""

    on: str
    file: str
    kind: str
    name: str
    body: Mapping[str, Any]
    pod: Mapping[str, Any]
    """The pod around a container; empty for others."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that does not hold somewhere; `because` is the waiver's reason, empty for a failure."""

    rule: HardeningRule
    subject: Subject
    because: str = ""

    def __str__(self) -> str:
        at = self.subject
        return f"{at.file}: {at.kind} {at.name}: {self.rule.id} ({self.rule.statement})"


@dataclass(frozen=True, slots=True)
class Review:
    """`checked` rules looked at, each on one subject; those that do not hold are waived or failed."""

    checked: int
    waived: tuple[Finding, ...]
    failed: tuple[Finding, ...]


def check(files: Mapping[str, str], plan: Plan) -> Check:
    """The pass as one check of the lint: counts, and the first failures."""
    name = "hardening"

    def reviewed() -> Check:
        found = review(files, plan)
        if not found.checked:
            return skipped(name, "no manifest and no Compose file in these files")
        reasons = len({(finding.rule.id, finding.because) for finding in found.waived})
        held = found.checked - len(found.waived) - len(found.failed)
        good = (
            f"{held} of {found.checked} hold; {len(found.waived)} waived for {reasons} reasons (catalog/hardening.yaml)"
        )
        return from_problems(name, [str(finding) for finding in found.failed], good, checked=found.checked)

    return guarded(name, reviewed)


def review(files: Mapping[str, str], plan: Plan) -> Review:
    """Every rule on every subject of `files` (path → text; a rendered chart under any name that ends in .yaml)."""
    book = hardening()
    by_subject: dict[str, list[HardeningRule]] = {}
    for rule in book.rules:
        by_subject.setdefault(rule.subject, []).append(rule)
    checked, waived, failed = 0, list[Finding](), list[Finding]()
    for subject in subjects(files):
        for rule in by_subject.get(subject.on, ()):
            checked += 1
            if _holds(rule, subject):
                continue
            waiver = next((w for w in book.waivers if w.rule == rule.id and _covers(w, subject, plan)), None)
            if waiver is None:
                failed.append(Finding(rule, subject))
            else:
                waived.append(Finding(rule, subject, waiver.because))
    return Review(checked, tuple(waived), tuple(failed))


def _holds(rule: HardeningRule, subject: Subject) -> bool:
    """A body of another shape than its kind has holds nothing; the schema check says what is wrong with it."""
    try:
        return _HOLDS[rule.id](subject)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def subjects(files: Mapping[str, str]) -> Iterator[Subject]:
    """Files with pods, objects, pods, containers and Compose services, in the order of the files."""
    for path, text in files.items():
        name = path.rsplit("/", 1)[-1]
        if name == "compose.yaml":
            for document in documents(text, path):
                services = document.get("services")
                for service, body in services.items() if isinstance(services, dict) else ():
                    yield Subject("service", name, "service", str(service), body, {})
        elif name.endswith(".yaml") and not path.startswith(("helm/", "monitoring/")) and name != "plan.yaml":
            yield from _in_manifest(name, [d for d in documents(text, path) if "kind" in d and "apiVersion" in d])


def _in_manifest(file: str, found: list[dict[str, Any]]) -> Iterator[Subject]:
    kinds = [document["kind"] for document in found]
    if any(kind in _POLICED for kind in kinds):
        yield Subject("file", file, "file", file, {"kinds": kinds}, {})
    for document in found:
        kind, name = document["kind"], _name(document)
        if kind == "Kustomization":
            continue
        yield Subject("object", file, kind, name, document, {})
        for pod in custom.pods(document):
            yield Subject("pod", file, kind, name, pod, {})
            for container in pod["containers"]:
                yield Subject("container", file, kind, str(container["name"]), container, pod)


def _name(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _covers(waiver: Waiver, subject: Subject, plan: Plan) -> bool:
    engine = plan.best.engine
    for allowed, value in (
        (waiver.kinds, subject.kind),
        (waiver.engines, engine.name),
        (waiver.platforms, engine.platform),
        (waiver.files, subject.file),
        (waiver.services, re.sub(r"-\d+$", "", subject.name)),
    ):
        if allowed and value not in allowed:
            return False
    return True


# --- the rules: True when it holds -----------------------------------------------------------------


def _security(at: Subject) -> Mapping[str, Any]:
    found: Mapping[str, Any] = at.body.get("securityContext") or {}
    return found


def _capabilities(at: Subject, what: str) -> list[str]:
    return list((_security(at).get("capabilities") or {}).get(what) or ())


def _resources(at: Subject, what: str) -> Mapping[str, Any]:
    return (at.body.get("resources") or {}).get(what) or {}


def _serves(at: Subject) -> bool:
    return at.kind not in ("Pod", "Job")


def _plain_secrets(at: Subject) -> list[str]:
    return [e["name"] for e in at.body.get("env") or () if _SECRET_NAME.search(e["name"]) and e.get("value")]


def _referred_secrets(at: Subject) -> bool:
    return any("secretKeyRef" in (e.get("valueFrom") or {}) for e in at.body.get("env") or ())


def _user_is_high(at: Subject) -> bool:
    user = _security(at).get("runAsUser")
    return user is not None and int(user) >= _MIN_USER


def _published_here(at: Subject) -> bool:
    ports = at.body.get("ports") or ()
    return all(str(port).startswith("127.0.0.1:") for port in ports) and at.body.get("network_mode") != "host"


def _mounts_socket(at: Subject) -> bool:
    return any("docker.sock" in str(volume) for volume in at.body.get("volumes") or ())


_HOLDS: dict[str, Callable[[Subject], bool]] = {
    "no-privileged-container": lambda at: not _security(at).get("privileged"),
    "no-privilege-escalation": lambda at: _security(at).get("allowPrivilegeEscalation") is False,
    "all-capabilities-dropped": lambda at: "ALL" in _capabilities(at, "drop"),
    "no-capability-added": lambda at: not _capabilities(at, "add"),
    "read-only-root": lambda at: _security(at).get("readOnlyRootFilesystem") is True,
    "requests-and-memory-limit": lambda at: (
        {"cpu", "memory"} <= _resources(at, "requests").keys() and "memory" in _resources(at, "limits")
    ),
    "cpu-limit": lambda at: "cpu" in _resources(at, "limits"),
    "pinned-tag": lambda at: has_fixed_tag(str(at.body.get("image", ""))),
    "image-digest": lambda at: "@sha256:" in str(at.body.get("image", "")),
    "always-pulled": lambda at: at.body.get("imagePullPolicy") == "Always",
    "probes": lambda at: not _serves(at) or {"readinessProbe", "livenessProbe"} <= at.body.keys(),
    "no-host-port": lambda at: not any("hostPort" in port for port in at.body.get("ports") or ()),
    "no-secret-in-environment": lambda at: not _plain_secrets(at),
    "secret-as-file": lambda at: not _referred_secrets(at),
    "non-root": lambda at: _security(at).get("runAsNonRoot") is True,
    "high-user": _user_is_high,
    "seccomp": lambda at: (_security(at).get("seccompProfile") or {}).get("type") == "RuntimeDefault",
    "no-token-mounted": lambda at: at.body.get("automountServiceAccountToken") is False,
    "own-service-account": lambda at: not _serves(at) or at.body.get("serviceAccountName", "default") != "default",
    "no-host-namespace": lambda at: not any(at.body.get(key) for key in ("hostPID", "hostIPC", "hostNetwork")),
    "no-host-path": lambda at: not any("hostPath" in volume for volume in at.body.get("volumes") or ()),
    "no-secret-data": lambda at: at.kind != "Secret" or not (at.body.get("data") or at.body.get("stringData")),
    "no-rights-granted": lambda at: at.kind not in _RIGHTS,
    "not-exposed": lambda at: at.kind != "Service" or at.body["spec"].get("type", "ClusterIP") not in _EXPOSED,
    "own-namespace": lambda at: at.body.get("metadata", {}).get("namespace", "default") != "default",
    "network-policy": lambda at: "NetworkPolicy" in at.body["kinds"],
    "compose-not-privileged": lambda at: not at.body.get("privileged") and not _mounts_socket(at),
    "compose-no-new-privileges": lambda at: "no-new-privileges:true" in (at.body.get("security_opt") or ()),
    "compose-loopback": _published_here,
}
