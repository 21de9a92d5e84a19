"""The Compose files: what they bring up holds together, whichever are given."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploying.compose import (
    COMBINATIONS,
    DEPLOY,
    SECRETS,
    UnsetVariable,
    read_compose,
    read_raw,
    started,
    variables_of,
)

OURS = ("scheduler", "worker-cpu", "worker-gpu", "init", "cli")
FILES = sorted(path.name for path in DEPLOY.glob("compose*.yaml"))

combinations = pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)


def check_schema(project: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "project.json"
    file.write_text(json.dumps(project))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)


def seconds(text: str) -> int:
    match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert match, text
    return 60 * int(match[1] or 0) + int(match[2] or 0)


def test_every_file_is_in_a_combination() -> None:
    assert set(FILES) == {name for names in COMBINATIONS for name in names}


@combinations
def test_the_merged_files_follow_the_published_schema(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    checked = check_schema(read_compose(names), tmp_path)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_schema_refuses_what_compose_does_not_know(tmp_path: Path) -> None:
    project = read_compose(("compose.yaml",))
    project["services"]["scheduler"]["depend_on"] = ["init"]

    checked = check_schema(project, tmp_path)

    assert checked.returncode == 1
    assert "depend_on" in checked.stdout + checked.stderr


@combinations
@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_missing_secret_is_named_with_what_to_do(names: tuple[str, ...], missing: str) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing}

    with pytest.raises(UnsetVariable, match=rf"{missing}: set it in deploy/\.env as .*example"):
        read_compose(names, given)


@pytest.mark.parametrize("name", FILES)
def test_no_secret_stands_in_a_file(name: str) -> None:
    defaults = variables_of(name)

    assert {secret for secret in SECRETS if defaults.get(secret) is not None} == set()
    assert not re.search(r"(?i)(password|secret|pass)\w*: [\"']?\w", (DEPLOY / name).read_text())


@combinations
def test_a_service_waits_only_for_what_can_happen(names: tuple[str, ...]) -> None:
    services = read_compose(names)["services"]

    for service in services.values():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert services[other].get("restart") in ("no", "on-failure:5")


@combinations
def test_the_programs_start_once_everything_is_set_up(names: tuple[str, ...]) -> None:
    services = read_compose(names)["services"]
    broker = "redis" if "compose.redis.yaml" in names else "rabbitmq"

    assert set(services["init"]["depends_on"]) == {"postgres", broker, "bucket"}
    assert "seaweedfs" in services["bucket"]["depends_on"]
    for name in ("scheduler", "worker-cpu", "worker-gpu", "cli"):
        assert services[name]["depends_on"] == {
            "init": {"condition": "service_completed_successfully"}
        }


@combinations
def test_every_url_leads_to_a_service_that_is_started(names: tuple[str, ...]) -> None:
    project = read_compose(names)

    for name in OURS:
        environment = project["services"][name]["environment"]
        urls = [environment[f"RENDERMILL_{what}_URL"] for what in ("DATABASE", "BROKER", "STORAGE")]
        hosts = re.findall(r"(?:@|endpoint=http://)([a-z]+):\d+", " ".join(urls))
        assert len(hosts) == 3
        assert set(hosts) <= set(started(project))


@combinations
def test_the_gpu_worker_runs_only_where_it_is_asked_for(names: tuple[str, ...]) -> None:
    project = read_compose(names)
    asked = "compose.gpu.yaml" in names

    assert ("worker-gpu" in started(project)) == asked
    assert "cli" not in started(project)
    if asked:
        (device,) = project["services"]["worker-gpu"]["deploy"]["resources"]["reservations"][
            "devices"
        ]
        assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_with_redis_nothing_of_rabbitmq_is_left() -> None:
    project = read_compose(("compose.yaml", "compose.redis.yaml"))
    del project["x-rendermill"], project["x-rendermill-environment"]

    assert "rabbitmq" not in json.dumps(project)
    assert "amqp" not in json.dumps(project)


def test_redis_keeps_what_it_is_given() -> None:
    content = read_compose(("compose.yaml", "compose.redis.yaml"))["configs"]["redis"]["content"]
    settings = dict(line.split(maxsplit=1) for line in content.splitlines())

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["requirepass"] == SECRETS["BROKER_PASSWORD"]


def test_rabbitmq_lets_a_consumer_hold_a_ticket_for_hours_here_and_without_docker() -> None:
    container = (DEPLOY / "rabbitmq" / "rendermill.conf").read_text()
    script = (DEPLOY / "debian" / "services.sh").read_text()

    values = {
        int(value)
        for text in (container, script)
        for value in re.findall(r"^consumer_timeout = (\d+)$", text, re.M)
    }

    assert values == {3 * 3600 * 1000}


@combinations
def test_data_lies_in_named_volumes(names: tuple[str, ...]) -> None:
    project = read_compose(names)
    used = {
        volume.split(":")[0]
        for service in project["services"].values()
        for volume in service.get("volumes", [])
        if ":" in volume and not volume.startswith((".", "/"))
    }

    assert used == set(project["volumes"])
    for name in ("postgres", "seaweedfs", "redis", "rabbitmq"):
        for service in filter(None, [project["services"].get(name)]):
            assert service["volumes"][0].split(":")[0] == f"{name}-data"


@combinations
def test_ports_are_open_to_this_host_only_unless_asked(names: tuple[str, ...]) -> None:
    services = read_compose(names)["services"]

    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@combinations
def test_images_of_others_are_pinned(names: tuple[str, ...]) -> None:
    for name, service in read_compose(names)["services"].items():
        if "build" not in service:
            assert re.fullmatch(r"[\w/]+:\d+\.\d+(\.\d+)?(-\w+)?", service["image"]), name


@combinations
@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_more_rights_than_they_need(
    names: tuple[str, ...], name: str
) -> None:
    service = read_compose(names)["services"][name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "user" not in service  # the image's own, which is not root
    assert "privileged" not in service


@combinations
@pytest.mark.parametrize("name", ["worker-cpu", "worker-gpu"])
def test_a_worker_has_time_to_hand_back_what_it_has(names: tuple[str, ...], name: str) -> None:
    service = read_compose(names)["services"][name]
    program, option, grace = service["command"]

    assert (program, option) == ("worker", "--grace")
    assert seconds(service["stop_grace_period"]) >= int(grace) + 15


@combinations
def test_what_runs_on_comes_back_after_a_crash(names: tuple[str, ...]) -> None:
    for name, service in started(read_compose(names)).items():
        if name not in ("init", "bucket"):
            assert service["restart"] == "unless-stopped", name


@pytest.mark.parametrize("name", FILES)
def test_each_file_tells_how_to_use_it(name: str) -> None:
    head = (DEPLOY / name).read_text().split("\n\n")[:3]

    assert f"docker compose -f deploy/compose.yaml{'' if name == 'compose.yaml' else ' -f'}" in (
        "\n".join(head)
    )
    assert read_raw(name)["services"]


@combinations
def test_builds_name_files_that_exist(names: tuple[str, ...]) -> None:
    for service in read_compose(names)["services"].values():
        if build := service.get("build"):
            context = (DEPLOY / build["context"]).resolve()
            assert (context / "pyproject.toml").exists()
            assert (context / build["dockerfile"]).exists()
