"""Keeps a sequence's output inside an automaton: which tokens may come next, and when it is complete.

Tokens are walked byte by byte through a trie of the vocabulary. When the token budget gets short, only ways that
still end in time stay open, so a constrained answer is complete whenever its shortest form fits `max_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from planner.engine.automaton import UNREACHABLE, Expr, Grammar

Ids = npt.NDArray[np.int64]
_END = -1


class TokenTrie:
    """The vocabulary by bytes; tokens without bytes (special ones) are left out."""

    def __init__(self, vocabulary: Sequence[bytes]) -> None:
        self.root: dict[int, object] = {}
        for token, text in enumerate(vocabulary):
            node = self.root
            for byte in text:
                node = node.setdefault(byte, {})  # type: ignore[assignment]
            if text:
                node.setdefault(_END, []).append(token)  # type: ignore[attr-defined]


class Constraint:
    """One sequence's place in its grammar."""

    def __init__(self, grammar: Grammar, start: Expr, trie: TokenTrie, vocabulary: Sequence[bytes]) -> None:
        self._grammar, self._state = grammar, start
        self._trie, self._vocabulary = trie, vocabulary
        self._open: dict[Expr, tuple[Ids, Ids]] = {}

    @property
    def accepts(self) -> bool:
        """The output so far is complete; it may still be allowed to go on."""
        return self._state.accepts

    @property
    def finished(self) -> bool:
        """The output is complete and nothing can follow."""
        return self._state is self._grammar.empty

    def allowed(self, n_left: int) -> Ids:
        """Tokens that may come next, when `n_left` tokens are left including it."""
        tokens, needed = self._tokens(self._state)
        in_time = tokens[needed < n_left]
        return in_time if len(in_time) or self._state.accepts else tokens[needed == needed.min(initial=UNREACHABLE)]

    def advance(self, token: int) -> None:
        """Take a token that was allowed."""
        for byte in self._vocabulary[token]:
            self._state = self._grammar.step(self._state, byte)
        assert self._state is not self._grammar.nothing, "a token outside the grammar was sampled"

    def _tokens(self, state: Expr) -> tuple[Ids, Ids]:
        """Allowed tokens from `state`, and the fewest bytes that must follow each."""
        if state not in self._open:
            tokens: list[int] = []
            needed: list[int] = []
            stack: list[tuple[dict[int, object], Expr]] = [(self._trie.root, state)]
            while stack:
                node, here = stack.pop()
                for byte, below in node.items():
                    if byte == _END:
                        tokens += below  # type: ignore[arg-type]
                        needed += [here.shortest] * len(below)  # type: ignore[arg-type]
                    elif (after := self._grammar.step(here, byte)) is not self._grammar.nothing:
                        stack.append((below, after))  # type: ignore[arg-type]
            self._open[state] = (np.asarray(tokens, np.int64), np.asarray(needed, np.int64))
        return self._open[state]
