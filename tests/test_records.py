"""Our frozen dataclasses behave as the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from planner.records import dataclass


@dataclass(frozen=True, slots=True)
class Ours:
    a: int
    b: float = 2.0
    c: list[int] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> float:
        return self.a + self.b


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs:
    a: int
    b: float = 2.0
    c: tuple[int, ...] = ()


def test_a_record_is_built_compared_hashed_and_shown_like_a_standard_one() -> None:
    assert Ours(1) == Ours(1, 2.0, [])
    assert Ours(1) != Ours(2)
    assert Ours(1).__eq__(Theirs(1)) is NotImplemented
    assert Ours(1).total == 3.0
    assert Ours(1).c is not Ours(1).c
    assert repr(Ours(1, b=3.5)) == "Ours(a=1, b=3.5, c=[])"
    assert hash(Frozen(1, "x")) == hash(Frozen(1, "x"))
    assert Ours.__match_args__ == Theirs.__match_args__


@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    name: str


@pytest.mark.parametrize("name", ["a", "new"])
def test_nothing_can_be_assigned_or_deleted(name: str) -> None:
    record: Any = Frozen(1, "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(record, name)
    assert not hasattr(record, "__dict__")


def test_the_standard_library_and_pickle_take_it() -> None:
    assert dataclasses.asdict(Ours(1)) == {"a": 1, "b": 2.0, "c": []}
    assert dataclasses.replace(Ours(1), a=5) == Ours(5)
    assert copy.deepcopy(Ours(1)) == pickle.loads(pickle.dumps(Ours(1))) == Ours(1)


def test_a_missing_or_unknown_argument_is_a_type_error() -> None:
    build: Any = Frozen
    with pytest.raises(TypeError, match="name"):
        build(1)
    with pytest.raises(TypeError, match="other"):
        build(1, "x", other=2)
