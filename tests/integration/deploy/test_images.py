"""What the scheduler's Dockerfile does, done without Docker: its build stage, step by step."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploying.dockerfile import IMAGES, ROOT, Step, copied, read_dockerfile

SCHEDULER = next(path for path in IMAGES if path.name.startswith("scheduler"))
CACHES = shutil.ignore_patterns("__pycache__")


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """A folder that stands for a container's root."""

    root: Path

    def place(self, path: str) -> Path:
        """Where a path of the container is."""
        return self.root / path.lstrip("/")

    def run(self, command: str, *, cwd: str) -> subprocess.CompletedProcess[str]:
        """A shell command, with absolute paths of the image's moved into the folder."""
        moved = re.sub(r"(?<![\w.])/opt/rendermill", str(self.place("/opt/rendermill")), command)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["/bin/sh", "-ec", moved],
            cwd=self.place(cwd),
            env=os.environ | {"PATH": path, "HOME": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )


def take(step: Step, container: Container, workdir: str) -> None:
    """One instruction of the build stage; those that only set something are left to the test."""
    if step.word == "RUN":
        done = container.run(step.without_flags(), cwd=workdir)
        assert done.returncode == 0, f"{step.rest}\n{done.stdout}{done.stderr}"
    elif step.word == "COPY":
        sources, target = copied(step)
        for source in sources:
            place = container.place(f"{workdir}/{target}")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=CACHES)
            else:
                shutil.copy(ROOT / source, place)
    else:
        assert step.word in {"ENV", "ARG", "WORKDIR"}, f"{step.word} is not known here"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """The build stage's outcome: the program in an environment of its own."""
    build = read_dockerfile(SCHEDULER)[0]
    workdir = build.last("WORKDIR").rest
    container = Container(root=tmp_path_factory.mktemp("container"))
    container.place(workdir).mkdir(parents=True)
    for step in build.steps:
        take(step, container, workdir)
    # As in the image, where the second stage has only what was installed.
    shutil.rmtree(container.place(workdir))
    yield container
    shutil.rmtree(container.root)


def modules_found(container: Container, *names: str) -> set[str]:
    program = "import importlib.util as u, sys; print(*filter(u.find_spec, sys.argv[1:]))"
    command = f"/opt/rendermill/bin/python -P -c '{program}' {' '.join(names)}"
    done = container.run(command, cwd="/")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_program_answers(built: Container) -> None:
    done = built.run("/opt/rendermill/bin/rendermill --version", cwd="/")

    assert done.returncode == 0, done.stderr
    assert "rendermill" in done.stdout


def test_it_is_installed_from_the_wheel_and_not_linked_to_sources(built: Container) -> None:
    program = "import scheduler, storage, workers; print(scheduler.__file__)"
    done = built.run(f"/opt/rendermill/bin/python -P -c '{program}'", cwd="/")

    assert done.stdout.startswith(str(built.place("/opt/rendermill/lib")))


def test_no_torch_but_everything_of_a_farm(built: Container) -> None:
    farm = {"boto3", "celery", "huggingface_hub", "kombu", "psycopg", "pyarrow", "redis"}

    assert modules_found(built, "torch", "diffusers", "transformers", *farm) == farm


def test_nothing_installed_contradicts_anything_else(built: Container) -> None:
    done = built.run("/opt/rendermill/bin/python -m pip check", cwd="/")

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", ["health", "init", "scheduler", "submit", "status"])
def test_the_commands_need_no_torch(built: Container, command: str) -> None:
    done = built.run(f"/opt/rendermill/bin/rendermill {command} --help", cwd="/")

    assert done.returncode == 0, done.stderr


def test_the_health_check_fails_and_says_why_where_nothing_was_set_up(built: Container) -> None:
    (health,) = re.findall(r"CMD (\[.*\])", read_dockerfile(SCHEDULER)[-1].last("HEALTHCHECK").rest)
    words = " ".join(Step(word="CMD", rest=health).exec_form())

    done = built.run(f"RENDERMILL_HOME=$HOME/home /opt/rendermill/bin/{words}", cwd="/")

    assert done.returncode != 0
    assert done.stderr.startswith("error: there is no catalog"), done.stderr
