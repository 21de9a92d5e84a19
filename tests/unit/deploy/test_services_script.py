"""deploy/debian/services.sh as far as it goes without starting anything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "deploy" / "debian" / "services.sh"
SCRIPTS = sorted([*ROOT.glob("deploy/**/*.sh"), *filter(Path.is_file, ROOT.glob(".ci/*"))])


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short name: the services' sockets lie below it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": str(home)},
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")

    checked = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "say start, stop, status or env"),
        (["begin"], "no command or service begin"),
        (["start", "stop"], "one command at a time, not start and stop"),
        (["start", "--fast"], "no option --fast"),
        (["start", "--port"], "--port needs a value"),
        (["start", "--port", "eighty"], "--port must be from 1024 to 55000, not eighty"),
        (["start", "--port", "60000"], "--port must be from 1024 to 55000, not 60000"),
    ],
)
def test_a_misused_option_is_named(words: list[str], complaint: str, tmp_path: Path) -> None:
    done = run(*words, home=tmp_path)

    assert done.returncode == 2
    assert done.stderr == f"services.sh: {complaint}; see services.sh --help\n"
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_service(tmp_path: Path) -> None:
    done = run("--help", home=tmp_path)

    assert done.returncode == 0
    assert "services: postgres rabbitmq redis seaweedfs" in done.stdout


def test_before_the_first_start_there_is_nothing_to_print(tmp_path: Path) -> None:
    done = run("env", "--dir", str(tmp_path / "farm"), home=tmp_path)

    assert done.returncode == 1
    assert "nothing was started in" in done.stderr
    assert "run services.sh start" in done.stderr
    assert done.stdout == ""


def test_before_the_first_start_the_status_is_that_nothing_runs(tmp_path: Path) -> None:
    done = run("status", "--dir", str(tmp_path / "farm"), home=tmp_path)

    assert done.returncode == 3


def test_before_the_first_start_there_is_nothing_to_stop(tmp_path: Path) -> None:
    done = run("stop", "--dir", str(tmp_path / "farm"), home=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_the_services_cannot_take_is_refused(tmp_path: Path) -> None:
    blank = run("start", "--dir", str(tmp_path / "two words"), home=tmp_path)
    deep = run("start", "--dir", "/tmp/" + "x" * 80, home=tmp_path)

    assert (blank.returncode, deep.returncode) == (1, 1)
    assert "choose another with --dir" in blank.stderr
    assert "choose another with --dir" in deep.stderr


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir(mode=0o755)
    (folder / "cat.png").touch()

    done = run("start", "--dir", str(folder), home=tmp_path)

    assert done.returncode == 1
    assert "holds something else; choose a folder of its own with --dir" in done.stderr
    assert folder.stat().st_mode & 0o777 == 0o755
