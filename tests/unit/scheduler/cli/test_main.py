"""The program: its commands, and how errors leave it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scheduler.cli import main as main_module
from scheduler.cli import reading
from scheduler.cli.main import app
from storage.contract.errors import InputError, LedgerUnavailable, RendermillError

Program = Callable[..., Any]
COMMANDS = ("render", "resume", "jobs", "job", "images", "image", "contact-sheet")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_command(program: Program, option: str) -> None:
    printed = program(option, at=None)
    assert printed.code == 0
    assert all(f" {command} " in printed.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_names_the_home(program: Program, command: str) -> None:
    printed = program(command, "--help", at=None)
    assert printed.code == 0
    assert "RENDERMILL_HOME" in printed.out


def test_the_version_is_told(program: Program) -> None:
    printed = program("--version", at=None)
    assert (printed.code, printed.out.split()[0]) == (0, "rendermill")


def test_without_a_command_help_is_shown(program: Program) -> None:
    assert "images" in program(at=None).out


@pytest.mark.parametrize(
    ("error", "code"),
    [(RendermillError("bad"), 1), (InputError("bad"), 2), (LedgerUnavailable("bad"), 1)],
)
def test_an_error_is_one_message_a_hint_and_its_exit_code(
    program: Program, monkeypatch: pytest.MonkeyPatch, error: RendermillError, code: int
) -> None:
    error.message, error.hint = "[/b] is \\[bad]", "try C:\\"

    def fail(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(reading, "open_home", fail)
    printed = program("jobs")
    assert printed.code == code
    assert printed.out == ""
    assert printed.err == "error: [/b] is \\[bad]\n→ try C:\\\n"


def test_an_error_without_a_hint_is_one_line(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise InputError("bad")

    monkeypatch.setattr(reading, "open_home", fail)
    assert program("jobs").err == "error: bad\n"


def test_ctrl_c_ends_with_its_usual_exit_code(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: Any, **_options: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(reading, "open_home", interrupted)
    printed = program("jobs")
    assert printed.code == 130
    assert "Traceback" not in printed.err


def test_the_home_is_taken_from_the_environment(
    program: Program, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("RENDERMILL_HOME", str(home))
    printed = program("jobs", at=None)
    assert printed.code == 0
    assert "shapes" in printed.out


def run_in_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -P -m scheduler"
    return subprocess.run(
        ["/bin/bash", "-c", command.replace("rendermill", program)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_program_itself_ends_with_the_exit_code_of_the_error(tmp_path: Path) -> None:
    done = run_in_shell("rendermill jobs", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no catalog in rendermill-home\n→ ")
    assert done.stdout == ""


def test_a_reader_that_has_seen_enough_is_no_error(home: Path) -> None:
    done = run_in_shell(
        f"rendermill images --json --home '{home}' | head -c 10; echo ${{PIPESTATUS[0]}}",
        home,
    )
    assert done.stdout.endswith("\n0\n") or done.stdout.endswith("0\n")
    assert done.stderr == ""


def test_the_entry_point_of_the_package_is_this_program() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="rendermill")
    assert script.load() is main_module.main


@pytest.mark.parametrize(
    "command",
    [
        *("jobs", "job", "images", "image", "status", "workers", "why", "events", "doctor"),
        *("init", "submit", "worker", "pause", "resume", "cancel", "retry", "priority"),
        *("render", "contact-sheet", "simulate"),
    ],
)
def test_every_command_that_tells_something_tells_it_to_programs_too(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})

    assert ("--json" in shown.output) == (command != "contact-sheet")
