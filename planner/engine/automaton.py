"""A byte-level automaton from expressions, by derivatives (Brzozowski 1964; with `Later`, recursive grammars too).

`Grammar` makes expressions and keeps each only once, so that a state is an expression and a step is a cached look-up.
Every expression knows the fewest bytes that complete it, which lets a caller finish within a budget. Knows nothing of
JSON or of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

UNREACHABLE = 1 << 60


class Expr:
    """A state. `shortest` is the fewest bytes to an accepting end, 0 exactly when the state accepts."""

    __slots__ = ("first", "kind", "parts", "shortest")

    def __init__(self, kind: str, parts: tuple[Expr, ...], shortest: int, first: int = 0) -> None:
        self.kind, self.parts, self.shortest, self.first = kind, parts, shortest, first

    @property
    def accepts(self) -> bool:
        return self.shortest == 0


class Grammar:
    """Makes expressions; equal ones are the same object. Not shared between threads."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Expr] = {}
        self._steps: dict[tuple[Expr, int], Expr] = {}
        self._later: dict[Expr, Callable[[], Expr]] = {}
        self.nothing = Expr("nothing", (), UNREACHABLE)
        self.empty = Expr("empty", (), 0)

    def one_of(self, values: Iterable[int]) -> Expr:
        """One byte out of `values`."""
        mask = 0
        for value in values:
            mask |= 1 << value
        return self._keep("byte", (), 1, mask) if mask else self.nothing

    def literal(self, text: bytes) -> Expr:
        return self.sequence(*(self.one_of([byte]) for byte in text))

    def sequence(self, *parts: Expr) -> Expr:
        """All parts in order."""
        result = self.empty
        for part in reversed(parts):
            if part is self.nothing or result is self.nothing:
                result = self.nothing
            elif result is self.empty:
                result = part
            elif part.kind == "sequence":  # lean to the right, so that equal states are found equal
                result = self.sequence(part.parts[0], self.sequence(part.parts[1], result))
            elif part is not self.empty:
                total = min(part.shortest + result.shortest, UNREACHABLE)
                result = self._keep("sequence", (part, result), total)
        return result

    def either(self, *choices: Expr) -> Expr:
        """Any one of the choices."""
        flat: dict[Expr, None] = {}
        for choice in choices:
            for part in choice.parts if choice.kind == "either" else (choice,):
                if part is not self.nothing:
                    flat[part] = None
        if len(flat) <= 1:
            return next(iter(flat), self.nothing)
        ordered = tuple(sorted(flat, key=id))
        return self._keep("either", ordered, min(part.shortest for part in ordered))

    def optional(self, part: Expr) -> Expr:
        return self.either(self.empty, part)

    def repeat(self, part: Expr, least: int = 0, most: int | None = None) -> Expr:
        """`part` from `least` to `most` times (None: any number)."""
        if most == 0 or (most is not None and most < least):
            return self.empty if least == 0 else self.nothing
        key = ("repeat", part, least, most)
        if key not in self._made:
            made = Expr("repeat", (part,), min(part.shortest * least, UNREACHABLE))
            self._made[key] = made
            self._steps_of_repeat(made, least, most)
        return self._made[key]

    def later(self, name: str, make: Callable[[], Expr], shortest: int) -> Expr:
        """A named expression made when it is first entered: for recursion. `shortest` is what `make()` will have."""
        made = self._keep(f"later {name}", (), shortest)
        self._later.setdefault(made, make)
        return made

    def step(self, state: Expr, byte: int) -> Expr:
        """The state after `byte`; `nothing` when it is not allowed."""
        key = (state, byte)
        if key not in self._steps:
            self._steps[key] = self._derive(state, byte)
        return self._steps[key]

    def _keep(self, kind: str, parts: tuple[Expr, ...], shortest: int, first: int = 0) -> Expr:
        key = (kind, parts, first)
        if key not in self._made:
            self._made[key] = Expr(kind, parts, shortest, first)
        return self._made[key]

    def _steps_of_repeat(self, made: Expr, least: int, most: int | None) -> None:
        part = made.parts[0]

        def unfold() -> Expr:
            rest = self.repeat(part, max(least - 1, 0), None if most is None else most - 1)
            return self.sequence(part, rest)

        self._later[made] = unfold

    def _derive(self, state: Expr, byte: int) -> Expr:
        if state.kind == "byte":
            return self.empty if state.first >> byte & 1 else self.nothing
        if state.kind == "either":
            return self.either(*(self.step(part, byte) for part in state.parts))
        if state.kind == "sequence":
            first, rest = state.parts
            after = self.sequence(self.step(first, byte), rest)
            return self.either(after, self.step(rest, byte)) if first.accepts else after
        if state in self._later:
            return self.step(self._later[state](), byte)
        return self.nothing
