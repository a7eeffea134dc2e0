"""Saving: everything or nothing, and never over something that is not ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner.errors import OutputError
from planner.render.write import RECORD, save

FILES = {"plan.yaml": "a: 1\n", "docker-run.sh": "#!/bin/sh\n", "helm/templates/x.yaml": "b: é\n"}


def tree(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != RECORD
    }


@pytest.mark.parametrize("existing", [False, True])
def test_files_arrive_and_nothing_else_does(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "deep" / "out"
    if existing:
        out.mkdir(parents=True)
    paths = save(FILES, out)
    assert tree(out) == FILES
    assert paths == tuple(sorted(out / path for path in FILES))
    assert sorted(p.name for p in out.iterdir()) == sorted([RECORD, "docker-run.sh", "helm", "plan.yaml"])
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_scripts_can_be_run_and_other_files_cannot(tmp_path: Path) -> None:
    save(FILES, tmp_path / "out")
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "out").glob("*.*")}
    assert modes["docker-run.sh"] == 0o755 and modes["plan.yaml"] == 0o644


def test_saving_twice_is_saving_once(tmp_path: Path) -> None:
    save(FILES, tmp_path)
    before = (tmp_path / RECORD).read_bytes()
    save(FILES, tmp_path)
    assert tree(tmp_path) == FILES and (tmp_path / RECORD).read_bytes() == before


def test_what_we_wrote_is_replaced_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    save(FILES, tmp_path)
    save({"plan.yaml": "a: 2\n"}, tmp_path)
    assert tree(tmp_path) == {"plan.yaml": "a: 2\n"}
    assert not (tmp_path / "helm").exists()


def test_a_users_file_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    save(FILES, tmp_path)
    (tmp_path / "helm" / "mine.yaml").write_text("mine")
    save({"plan.yaml": "a: 2\n"}, tmp_path)
    assert tree(tmp_path) == {"notes.txt": "mine", "helm/mine.yaml": "mine", "plan.yaml": "a: 2\n"}


def test_a_file_that_we_did_not_write_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("mine")
    with pytest.raises(OutputError, match="was not written by planner"):
        save(FILES, tmp_path)
    assert tree(tmp_path) == {"plan.yaml": "mine"}


def test_an_edited_file_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    save(FILES, tmp_path)
    (tmp_path / "docker-run.sh").write_text("edited")
    changed = FILES | {"docker-run.sh": "new", "plan.yaml": "new"}
    with pytest.raises(OutputError, match="was changed since"):
        save(changed, tmp_path)
    assert tree(tmp_path) == FILES | {"docker-run.sh": "edited"}
    save(changed, tmp_path, overwrite=True)
    assert tree(tmp_path) == changed


def test_an_edited_file_that_is_no_longer_part_stays(tmp_path: Path) -> None:
    save(FILES, tmp_path)
    (tmp_path / "docker-run.sh").write_text("edited")
    save({"plan.yaml": "a: 1\n"}, tmp_path)
    assert tree(tmp_path) == {"plan.yaml": "a: 1\n", "docker-run.sh": "edited"}


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a\\..\\b", "C:/x", "./a", "a\nb", RECORD, "a/"]
)
def test_a_path_never_leaves_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutputError, match="stays inside"):
        save({"plan.yaml": "x", path: "x"}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "helm").symlink_to(outside)
    with pytest.raises(OutputError, match="is a link"):
        save(FILES, out)
    (out / "helm").unlink()
    (out / "plan.yaml").symlink_to(outside / "target")
    with pytest.raises(OutputError, match="no plain file"):
        save(FILES, out, overwrite=True)
    assert list(outside.iterdir()) == []


def test_a_forged_record_removes_nothing_outside(tmp_path: Path) -> None:
    import hashlib
    import json

    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("keep")
    out.mkdir()
    (out / RECORD).write_text(json.dumps({"../victim": hashlib.sha256(b"keep").hexdigest(), "x": 3}))
    save(FILES, out)
    assert victim.read_text() == "keep"


def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(FILES, tmp_path)
    rename, moved = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        moved.append(self)
        if len(moved) == 4:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="No space left"):
        save({path: text + "changed\n" for path, text in FILES.items()}, tmp_path)
    monkeypatch.undo()
    assert tree(tmp_path) == FILES
    assert save({path: text + "changed\n" for path, text in FILES.items()}, tmp_path)


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="is a file; name a folder"):
        save(FILES, tmp_path / "out")
    with pytest.raises(OutputError, match="cannot write to"):
        save(FILES, tmp_path / "out" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot write to") as caught:
            save(FILES, tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)
    assert "\n" not in str(caught.value)


def test_a_folder_of_which_several_files_are_gone_goes_too(tmp_path: Path) -> None:
    save({"a.txt": "1", "deep/er/b.txt": "2", "deep/er/c.txt": "3", "deep/d.txt": "4"}, tmp_path)
    save({"a.txt": "1"}, tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
    save({"a.txt": "1", "deep/b.txt": "2", "deep/c.txt": "3"}, tmp_path)
    (tmp_path / "deep" / "mine.txt").write_text("kept")
    save({"a.txt": "1"}, tmp_path)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["mine.txt"]
