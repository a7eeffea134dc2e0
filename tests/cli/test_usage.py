"""What the command line refuses is one line that names the nearest valid thing; help is whole and its examples run."""

from __future__ import annotations

import gc
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from planner.cli import main as cli

REFUSED = {
    "unknown option": (["recommend", "--modell", "x"], "--model"),
    "unknown option of a foreign tool": (["recommend", "--tensor-paralel-size", "2"], "--tensor-parallel-size"),
    "unknown short option": (["recommend", "-z"], "-z"),
    "unknown verb": (["recommand"], "recommend"),
    "unknown verb of a group": (["models", "lst"], "list"),
    "no value": (["estimate", "--model"], "--model needs a value"),
    "surplus value": (["recommend", "--offline=yes"], "--offline"),
    "missing argument": (["explain"], "PLAN is missing"),
    "missing option": (["probe"], "--url is missing"),
    "not a number": (["recommend", "--concurrency", "many"], "whole number"),
    "not a number, joined": (["fit", "--ttft=soon"], "'soon'"),
    "out of range": (["simulate", "out", "--duration", "0"], "--duration"),
    "no such form": (["recommend", "-o", "xml"], "'json'"),
    "no such kind": (["catalog", "refresh", "foo"], "'prices'"),
    "words without an option": (["recommend", "--model", "a", "b"], "'b'"),
    "escape sequence": (["accuracy", "\x1b[31mred"], "accuracy"),
    "line break": (["recommend", "--foo\nbar"], "recommend"),
}


def _run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["planner", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.run()
    gc.enable()  # a run of the command goes without
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(("arguments", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_one_line_with_what_is_nearest(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(arguments, monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+; see `planner[^\n`]* --help`\n", err), err
    assert says in err
    assert err.removesuffix("\n").isprintable()


def _commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(cli.application())
    found = {}
    for name, command in group.commands.items():
        for inner, sub in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = sub
        if not hasattr(command, "commands"):
            found[name] = command
    return found


COMMANDS = _commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_and_cuts_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert _run([*name.split(), "--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    assert f"\n  planner {name}" in text
    shown = re.split(r"\nExamples:\n(?:  .*\n)+", text)
    assert all(len(line) <= 80 for part in shown for line in part.splitlines())
    for parameter in COMMANDS[name].params:
        for option in parameter.opts:
            assert parameter.param_type_name == "argument" or option in text


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, command in COMMANDS.items() for line in command.epilog.splitlines()]
)
def test_the_examples_of_a_help_are_accepted(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_OFFLINE", "1")  # what --offline sets is undone with it
    words = shlex.split(line)
    assert words[: 1 + len(name.split())] == ["planner", *name.split()]
    with COMMANDS[name].make_context(name, words[1 + len(name.split()) :]) as context:
        assert context.params


def test_the_list_of_verbs_is_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["--help"], monkeypatch) == 0
    text = capsys.readouterr().out
    assert "..." not in text.replace("[ARGS]...", "")
    for verb in (*cli.VERBS, *cli.GROUPS):
        assert re.search(rf"^  {verb} ", text, re.MULTILINE)


def test_every_verb_brings_examples() -> None:
    for verb in cli.VERBS:
        assert import_module(f"planner.cli.{verb}").EXAMPLES


def test_a_misfit_folder_for_files_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    place = str(tmp_path / "file")
    assert _run(["recommend", "-m", "llama3-8b", "--gpus", "1xH100", "--save-dir", place], monkeypatch) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("concurrency: true", "concurrency: must be a number, not True"),
        ('ttft_ms: "500"', "ttft_ms: must be a number, not '500'"),
        ("require: openai", "require: must be a list, such as [openai]"),
        ("gpus: 2xH100", "line 3: 'gpus' stands there twice"),
    ],
)
def test_a_request_file_means_what_it_says(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "request.yaml"
    path.write_text(f"model: llama3-8b\ngpus: 1xA100\n{line}\n")
    assert _run(["recommend", "-f", str(path)], monkeypatch) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_an_empty_folder_is_not_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run(["recommend", "--model", "llama3-8b", "--gpus", "1xA100", "--save-dir", ""], monkeypatch) == 2
    assert "--save-dir: needs a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
