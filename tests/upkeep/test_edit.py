"""Changes to one entry of a YAML file leave the rest of its text alone."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import CatalogError
from planner.upkeep.edit import edit

TEXT = """\
# top
things:
  - id: a
    size: 10  # ten
    rate: 1.0e+12
    field_provenance:
      rate: &law {source: a law, date: "2026-01-01", basis: derived}
      size: *law
    aliases: []

  # between
  - {id: b, size: 20, note: old, tag: 'x: y'}
  - id: c
    size: 30
"""


@pytest.mark.parametrize(
    ("identifier", "changes", "old", "new"),
    [
        ("a", {"size": 11}, "    size: 10  # ten\n", "    size: 11  # ten\n"),
        ("a", {"rate": 4.89e12}, "rate: 1.0e+12", "rate: 4.89e+12"),
        ("a", {"field_provenance.size": {"source": "s"}}, "      size: *law\n", "      size: {source: s}\n"),
        ("a", {"aliases": ["x", "y z"]}, "aliases: []", "aliases: [x, y z]"),
        ("a", {"size": None}, "    size: 10  # ten\n", ""),
        ("b", {"size": 21}, "size: 20", "size: 21"),
        ("b", {"tag": "a, b"}, "tag: 'x: y'", "tag: 'a, b'"),
        ("b", {"note": None}, ", note: old", ""),
        ("b", {"date": "2026-02-03"}, "tag: 'x: y'}", "tag: 'x: y', date: '2026-02-03'}"),
        ("c", {"kind": "k"}, "    size: 30\n", "    size: 30\n    kind: k\n"),
        ("c", {"field_provenance.size": {"a": 1}}, "    size: 30\n",
         "    size: 30\n    field_provenance:\n      size: {a: 1}\n"),
        ("a", {"aliases": [{"k": "v"}]}, "    aliases: []\n", "    aliases:\n    - {k: v}\n"),
        ("c", {"rows": [{"a": 1}, {"b": "x: y"}]}, "    size: 30\n",
         "    size: 30\n    rows:\n    - {a: 1}\n    - {b: 'x: y'}\n"),
    ],
)  # fmt: skip
def test_only_the_place_of_the_change_changes(identifier: str, changes: dict[str, Any], old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert edit(TEXT, "t.yaml", "things", identifier, changes) == TEXT.replace(old, new)


def test_a_key_after_a_block_stays_above_the_comment_on_the_next_entry() -> None:
    text = "things:\n  - id: a\n    why:\n      size: {source: s}\n\n  # on b\n  # and more\n  - id: b\n"
    found = edit(text, "t.yaml", "things", "a", {"units": 7})
    assert found == text.replace("{source: s}\n", "{source: s}\n    units: 7\n")


def test_an_anchor_that_others_use_is_not_pulled_away() -> None:
    with pytest.raises(CatalogError, match=r"t\.yaml"):
        edit(TEXT, "t.yaml", "things", "a", {"field_provenance.rate": {"source": "s"}})


def test_an_entry_that_is_not_there_is_named() -> None:
    with pytest.raises(CatalogError, match="no entry 'z' under 'things'"):
        edit(TEXT, "t.yaml", "things", "z", {"size": 1})
