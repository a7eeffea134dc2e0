"""What newer sources say, applied to the data files: shown as a diff, checked by every rule, then written.

A change that makes a finding which was not there (a parameter count that no longer is the published one, a
peak below the smaller part's, a price far from everybody's) is refused with that finding; the others go on.
Files are written whole, under a temporary name, only when asked.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from planner.errors import OutputError
from planner.records import dataclass
from planner.sources.entries import entries
from planner.upkeep.check import folders
from planner.upkeep.edit import edit
from planner.upkeep.proposal import Proposal, Remark, Survey
from planner.upkeep.rules import RULES
from planner.upkeep.shelf import Finding, Shelf, shown

Source = Callable[[Shelf], Survey]


@dataclass(frozen=True, slots=True)
class Refused:
    """A proposal that stays out, and the findings it would make."""

    proposal: Proposal
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Refresh:
    """What changes, what was refused, what was only remarked; `texts` are the new files."""

    accepted: tuple[Proposal, ...]
    refused: tuple[Refused, ...]
    remarks: tuple[Remark, ...]
    asked: int
    texts: dict[Path, str]
    diff: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `planner catalog refresh -o json` prints."""
        return {
            "asked": self.asked,
            "changes": [
                {"file": shown(p.path), "entry": p.entry, "what": list(p.headline), "set": dict(p.changes)}
                for p in self.accepted
            ],
            "refused": [
                {
                    "entry": r.proposal.entry,
                    "what": list(r.proposal.headline),
                    "because": [f.message for f in r.findings],
                }
                for r in self.refused
            ],
            "remarks": [{"entry": r.entry, "text": r.text} for r in self.remarks],
            "diff": self.diff,
        }


def refresh(root: Path | None, source: Source, *, today: date | None = None) -> Refresh:
    """Ask `source` about the data files under `root` (None: this installation's) and check what it proposes."""
    hardware, catalog = folders(root)
    day = today or datetime.now(UTC).date()
    shelf = Shelf(tuple(entries(hardware, catalog)), day)
    survey = source(shelf)
    before = {(f.file, f.entry, f.rule) for rule in RULES for f in rule(shelf)}
    accepted, refused = list(survey.proposals), []
    texts = _applied(accepted)
    while accepted and (made := _new(_findings(hardware, catalog, texts, day), before)):
        guilty = [p for p in accepted if any(_about(f, p) for f in made)]
        if not guilty:  # a rule that compares entries blames one that did not change
            guilty = [p for p in accepted if any(f.file == shown(p.path) for f in made)] or list(accepted)
        refused += [Refused(p, _because(p, made, guilty)) for p in guilty]
        accepted = [p for p in accepted if p not in guilty]
        texts = _applied(accepted)
    return Refresh(tuple(accepted), tuple(refused), survey.remarks, survey.asked, texts, _diff(texts))


def _new(findings: frozenset[Finding], before: set[tuple[str, str, str]]) -> tuple[Finding, ...]:
    """Those about an entry and rule that had none; a figure that was out of range may stay so."""
    return tuple(f for f in findings if (f.file, f.entry, f.rule) not in before)


def _because(proposal: Proposal, made: tuple[Finding, ...], guilty: Sequence[Proposal]) -> tuple[Finding, ...]:
    """The findings about `proposal`, and those of its file about nobody who changed (variants of its entry)."""
    file = shown(proposal.path)
    found = (
        f for f in made if _about(f, proposal) or (f.file == file and not any(_about(f, other) for other in guilty))
    )
    return tuple(sorted(found, key=lambda f: f.message))


def _about(finding: Finding, proposal: Proposal) -> bool:
    own = finding.entry == proposal.entry or finding.entry.endswith(f"/{proposal.entry}")
    return own and finding.file == shown(proposal.path)


def _applied(proposals: Sequence[Proposal]) -> dict[Path, str]:
    texts: dict[Path, str] = {}
    for p in proposals:
        text = texts.get(p.path) or p.path.read_text(encoding="utf-8")
        texts[p.path] = edit(text, p.path.name, p.key, p.entry, p.changes)
    return texts


def _findings(hardware: Path, catalog: Path, texts: dict[Path, str], today: date) -> frozenset[Finding]:
    """Every finding over the files as they would be: laid out in a scratch folder, the same names."""
    import shutil

    with tempfile.TemporaryDirectory(prefix="planner-refresh-") as scratch:
        for folder, name in ((hardware, "hardware"), (catalog, "catalog")):
            if folder.is_dir():
                shutil.copytree(folder, Path(scratch, name))
            for path, text in texts.items():
                if path.is_relative_to(folder):
                    Path(scratch, name, path.relative_to(folder)).write_text(text, encoding="utf-8")
        shelf = Shelf(tuple(entries(Path(scratch, "hardware"), Path(scratch, "catalog"))), today)
        return frozenset(f for rule in RULES for f in rule(shelf))


def _diff(texts: dict[Path, str]) -> str:
    parts: list[str] = []
    for path, text in sorted(texts.items()):
        old = path.read_text(encoding="utf-8").splitlines(keepends=True)
        name = shown(path)
        parts += difflib.unified_diff(old, text.splitlines(keepends=True), f"a/{name}", f"b/{name}", n=1)
    return "".join(parts)


def write(found: Refresh) -> tuple[Path, ...]:
    """Put the new texts in place, each file in one step. Raises OutputError when one cannot be written."""
    staged: list[tuple[Path, Path]] = []
    try:
        for path, text in sorted(found.texts.items()):
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".tmp")
            staged.append((Path(name), path))
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).chmod(path.stat().st_mode & 0o777)
        for temporary, path in staged:
            temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{shown(path)} cannot be written: {error.strerror or type(error).__name__}") from None
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
    return tuple(path for _, path in staged)
