"""What the upkeep of the catalog found, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from planner.upkeep.check import Audit
    from planner.upkeep.refresh import Refresh


def print_audit(console: Console, audit: Audit) -> None:
    """Findings one a row, then how much was looked at."""
    from rich.table import Table
    from rich.text import Text

    if audit.findings:
        table = Table(box=None, pad_edge=False)
        for column in ("file", "entry", "rule", "finding"):
            table.add_column(column, overflow="fold")
        for f in audit.findings:
            table.add_row(*(Text(cell) for cell in (f.file, f.entry, f.rule, f.message)))
        console.print(table)
        console.print()
    n = audit.counts
    console.print(
        f"{n['models']} models ({n['models_exact']} exact, {n['models_explained']} explained, "
        f"{n['models_unpublished']} without a published count), "
        f"{n['checkpoints']} checkpoints ({n['checkpoints_estimated']} named by pattern), "
        f"{n['accelerators']} accelerators ({n['accelerators_plannable']} plannable), {n['cpus']} CPUs, "
        f"{n['instances']} instances of {n['providers']} providers ({n['instances_priced']} priced), "
        f"{n['engine_releases']} engine releases",
        markup=False,
    )
    console.print(f"{len(audit.findings)} findings in {n['entries']} entries", markup=False)


def print_refresh(console: Console, found: Refresh, written: bool) -> None:
    """The diff, then what was refused and why, then remarks and a count."""
    from rich.text import Text

    for line in found.diff.splitlines():
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else ""
        console.print(Text(line, style=style), soft_wrap=True)
    for refused in found.refused:
        console.print(Text(f"refused: {refused.proposal.entry}: {'; '.join(refused.proposal.headline)}"))
        for finding in refused.findings:
            console.print(Text(f"         {finding.rule}: {finding.message}"))
    for remark in found.remarks:
        console.print(Text(f"note: {remark.entry}: {remark.text}"))
    how = "written" if written else "shown; --write changes the files"
    console.print(
        f"{found.asked} entries asked about: {len(found.accepted)} changes {how}, {len(found.refused)} refused, "
        f"{len(found.remarks)} notes",
        markup=False,
    )
