"""The Dockerfiles: small, not root, signals arrive. tests/integration/deploy runs their steps."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploying.dockerfile import IMAGES, ROOT, copied, read_dockerfile

SCHEDULER, WORKER_CPU, WORKER_CUDA = (
    next(path for path in IMAGES if path.name.startswith(name))
    for name in ("scheduler", "worker-cpu", "worker-cuda")
)

images = pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)


def extras_of(image: Path) -> set[str]:
    (named,) = re.findall(r'"\$\{wheel\}\[([\w,]+)\]"', image.read_text())
    return set(named.split(","))


@images
def test_hadolint_finds_nothing(image: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")

    linted = subprocess.run([hadolint, image], capture_output=True, text=True, check=False)

    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp && sudo ls\nCMD ls\n")
    hadolint = Path(sys.executable).with_name("hadolint")

    linted = subprocess.run(
        [hadolint, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False
    )

    assert linted.returncode == 1
    assert "DL3006" in linted.stdout


@images
def test_bases_are_pinned_and_one_for_all_stages(image: Path) -> None:
    bases = {stage.base for stage in read_dockerfile(image)}

    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases.pop())


def test_all_images_stand_on_the_same_base() -> None:
    assert len({stage.base for image in IMAGES for stage in read_dockerfile(image)}) == 1


@images
def test_a_container_does_not_run_as_root(image: Path) -> None:
    final = read_dockerfile(image)[-1]
    user, group = final.last("USER").rest.split(":")

    assert int(user) > 0
    assert int(group) > 0
    assert f"useradd --uid {user} --gid {group}" in " ".join(s.rest for s in final.all("RUN"))


@images
def test_signals_reach_the_program(image: Path) -> None:
    final = read_dockerfile(image)[-1]

    assert final.last("STOPSIGNAL").rest == "SIGTERM"
    assert final.last("ENTRYPOINT").exec_form() == ["/usr/bin/tini", "--", "rendermill"]
    assert re.search(r"apt-get install\b.*\btini\b", " ".join(s.rest for s in final.all("RUN")))


@images
def test_the_health_check_is_of_the_program_that_runs(image: Path) -> None:
    final = read_dockerfile(image)[-1]
    (program,) = final.last("CMD").exec_form()
    flags, _, check = final.last("HEALTHCHECK").rest.partition("CMD ")

    assert check == f'["rendermill", "health", "{program}"]'
    for flag in ("--interval=", "--timeout=", "--start-period=", "--retries="):
        assert flag in flags


@images
def test_the_build_stage_stays_behind(image: Path) -> None:
    build, final = read_dockerfile(image)

    assert build.name == "build"
    assert [step.rest for step in final.all("COPY")] == [
        "--from=build /opt/rendermill /opt/rendermill"
    ]
    assert "pip" not in " ".join(step.rest for step in final.all("RUN"))


@images
def test_every_pip_install_keeps_to_the_tested_versions(image: Path) -> None:
    runs = [step.rest for step in read_dockerfile(image)[0].all("RUN")]
    installs = [part for run in runs for part in run.split("&&") if "pip install" in part]

    assert installs
    assert all("--constraint constraints.txt" in install for install in installs)


@images
def test_extras_named_exist(image: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert extras_of(image) <= set(project["optional-dependencies"])


def test_torch_is_in_the_workers_only() -> None:
    assert "worker" not in extras_of(SCHEDULER)
    assert not re.search(r"(?m)^[^#]*\btorch\b", SCHEDULER.read_text())
    for image in (WORKER_CPU, WORKER_CUDA):
        assert "worker" in extras_of(image)


def test_the_cpu_worker_takes_the_cpu_build_of_torch_and_of_nothing_else() -> None:
    build = read_dockerfile(WORKER_CPU)[0]
    (index,) = (step.rest for step in build.all("ARG"))
    runs = [step.rest for step in build.all("RUN") if "TORCH_INDEX" in step.rest]

    assert index.endswith("/whl/cpu")
    (run,) = runs
    assert run.endswith('--index-url "${TORCH_INDEX}" torch')


def test_the_cuda_worker_asks_for_cards() -> None:
    final = read_dockerfile(WORKER_CUDA)[-1]
    environment = " ".join(step.rest for step in final.all("ENV"))

    assert "NVIDIA_VISIBLE_DEVICES=all" in environment
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in environment


@pytest.mark.parametrize("image", [WORKER_CPU, WORKER_CUDA], ids=lambda path: path.stem)
def test_models_lie_in_a_volume(image: Path) -> None:
    final = read_dockerfile(image)[-1]
    environment = " ".join(step.rest for step in final.all("ENV"))
    (cache,) = re.findall(r"HF_HOME=(\S+)", environment)

    assert cache.startswith(final.last("VOLUME").rest + "/")


@images
def test_what_is_copied_is_there_and_gets_through_the_ignore_file(image: Path) -> None:
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:].rstrip("/") for line in patterns if line.startswith("!")}
    sources = [
        source for step in read_dockerfile(image)[0].all("COPY") for source in copied(step)[0]
    ]

    assert set(sources) == let_through
    for source in sources:
        assert (ROOT / source).exists() or not (ROOT / ".git").exists()


def test_nothing_else_reaches_a_build() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]

    assert lines[0] == "*"
    assert [line for line in lines[1:] if not line.startswith("!")] == ["**/__pycache__/"]
