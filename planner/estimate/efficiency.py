"""Which fitted coefficients and bands apply to a device and an engine, most specific scope first.

Knows the order of inheritance (device, architecture/class, architecture, platform; engine, then its relatives); the
numbers are `catalog/calibration/`.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Final

from planner.estimate.ops import UNCALIBRATED
from planner.records import dataclass
from planner.spec.base import FigureBasis
from planner.spec.calibration import Calibration, Efficiency
from planner.spec.hardware import Machine

RELATIVES: Final[dict[str, tuple[str, ...]]] = {
    "vllm": ("vllm", "tensorrt_llm", "nim"),
    "tgi": ("tgi", "vllm", "tensorrt_llm", "nim"),
    "nim": ("nim", "tensorrt_llm", "vllm"),
    "tensorrt_llm": ("tensorrt_llm", "nim", "vllm"),
    "ollama": ("ollama", "llamacpp"),
    "llamacpp": ("llamacpp", "ollama"),
}
"""Engines whose fits may stand in for an engine that nobody measured, nearest first."""
EXTRAPOLATED: Final = 2.0
"""Times the largest batch or the longest context of the fitted rows from which on a figure is extrapolated."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients to use, and how good they are. `scope` and `engine` are of the deepest match."""

    values: dict[str, float]
    basis: FigureBasis
    engine: str
    scope: str
    lines: tuple[str, ...] = ()
    """Engines whose fits were asked, in order; the first is the engine's own."""
    most_sequences: float | None = None
    longest_tokens: float | None = None
    """Largest batch and longest context of its rows, where it has any."""

    def reaching(self, sequences: float, tokens: float) -> Fit:
        """The same, but only borrowed for a load that lies far beyond what its rows had: EXTRAPOLATED times."""
        far = any(
            most is not None and wanted > EXTRAPOLATED * most
            for wanted, most in ((sequences, self.most_sequences), (tokens, self.longest_tokens))
        )
        return replace(self, basis="inherited") if far and self.basis == "fitted" else self


@dataclass(slots=True)
class _Held:
    """The calibration that was asked for last, indexed, and the fits looked up in it."""

    calibration: Calibration | None = None
    table: dict[tuple[str, str], Efficiency] = field(default_factory=dict)
    fits: dict[tuple[tuple[str, ...], tuple[str, ...]], Fit] = field(default_factory=dict)


_held = _Held()


def scopes(machine: Machine) -> tuple[str, ...]:
    """Names a calibration may use for this machine's device, most specific first."""
    if machine.accelerator is not None:
        a = machine.accelerator
        return (a.id, f"{a.architecture}/{a.device_class}", a.architecture, a.platform)
    if machine.cpu is not None:
        return (machine.cpu.id, machine.cpu.architecture, "cpu")
    return ("cpu",)


def efficiency(calibration: Calibration, engine: str, machine: Machine, lines: tuple[str, ...] = ()) -> Fit:
    """The coefficients for `engine` on `machine`; what no entry says comes from UNCALIBRATED.

    `lines` names the fits to ask, nearest first, where a release says so (an old release has a line
    of its own); otherwise the engine's and those of its relatives.
    """
    lines = lines or RELATIVES.get(engine, (engine,))
    if _held.calibration is not calibration:
        _held.calibration, _held.fits = calibration, {}
        _held.table = {(e.engine, e.scope): e for e in calibration.efficiencies}
    names = scopes(machine)
    found = _held.fits.get((lines, names))
    if found is None:
        found = _held.fits[lines, names] = _lookup(_held.table, lines, names)
    return found


def _lookup(table: dict[tuple[str, str], Efficiency], lines: tuple[str, ...], names: tuple[str, ...]) -> Fit:
    """Scope counts before engine: a relative's fit of this very device beats one of the platform."""
    engine = lines[0]
    values = dict(UNCALIBRATED)
    best: tuple[FigureBasis, str, str] = ("uncalibrated", engine, "")
    reach: tuple[float | None, float | None] = (None, None)
    for depth in range(len(names) - 1, -1, -1):
        for relative in lines:
            entry = table.get((relative, names[depth]))
            if entry is not None:
                values.update(entry.coefficients)
                own = relative == engine and (entry.scope == names[0] or names[0] in entry.devices)
                basis: FigureBasis = entry.basis if own or entry.basis == "uncalibrated" else "inherited"
                best = (basis, relative, names[depth])
                reach = (entry.most_sequences, entry.longest_tokens)
                break
    return Fit(values, *best, lines, *reach)
