"""deploy/debian/services.sh: really started, used, stopped. In a folder and on ports of its own."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import kombu
import psutil
import psycopg
import pytest
import redis
from botocore.config import Config

from tests.services.postgres import missing

SCRIPT = Path(__file__).parents[3] / "deploy" / "debian" / "services.sh"
SERVICES = ("postgres", "rabbitmq", "redis", "seaweedfs")
BESIDE_PYTHON = str(Path(sys.executable).parent)


def free_ports() -> int:
    """The first of nine free ports in a row, whose 10000th neighbours are free too."""
    while True:
        # Below the ports that outgoing connections are given.
        first = random.randrange(11000, 21000, 10)
        if all(is_free(first + i + shift) for i in range(9) for shift in (0, 10000)):
            return first


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def lives(process: psutil.Process) -> bool:
    """Not so a zombie, which waits only for whoever inherited it to look."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Farm:
    """What one folder of services is worked with."""

    folder: Path
    as_account: tuple[str, ...] = ()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.as_account, SCRIPT, words[0], "--dir", self.folder, *words[1:]],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ
            | {"PATH": f"{BESIDE_PYTHON}:{os.environ['PATH']}", "HOME": str(self.folder.parent)},
        )

    def pids(self) -> dict[str, int]:
        shown = re.findall(r"(\w+)\s+runs \(pid (\d+)\)", self.run("status").stdout)
        return {service: int(pid) for service, pid in shown}

    def settings(self) -> dict[str, str]:
        done = self.run("env")
        assert done.returncode == 0, done.stderr
        return dict(re.findall(r"export (\w+)='(.*)'", done.stdout))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that an unprivileged account reaches, as pytest's own are for root only."""
    folder = Path(tempfile.mkdtemp(prefix="rendermill-services-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def farm(place: Path) -> Iterator[Farm]:
    """All four services, started."""
    for program in ("rabbitmq-server", "redis-server", "setpriv"):
        if shutil.which(program) is None:
            missing(program, "see services.sh --help for what to install")
    if not Path("/usr/lib/postgresql").exists():
        missing("PostgreSQL", "apt-get install postgresql")
    farm = Farm(folder=place / "farm")
    done = farm.run("start", "--port", str(free_ports()))
    try:
        assert done.returncode == 0, done.stderr
        yield farm
    finally:
        stopped = farm.run("stop")
        assert stopped.returncode == 0, stopped.stderr


def count_rows(url: str) -> int:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("create table if not exists kept (id int)")
        connection.execute("insert into kept values (1)")
        row = connection.execute("select count(*) from kept").fetchone()
    assert row is not None
    return int(row[0])


def test_every_service_takes_the_credentials_it_prints(farm: Farm) -> None:
    settings = farm.settings()
    bucket, query = settings["RENDERMILL_STORAGE_URL"].removeprefix("s3://").split("?")
    endpoint = query.split("&")[0].removeprefix("endpoint=")
    store = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}),
    )

    store.put_object(Bucket=bucket, Key="a/b.png", Body=b"picture")

    assert store.get_object(Bucket=bucket, Key="a/b.png")["Body"].read() == b"picture"
    assert count_rows(settings["RENDERMILL_DATABASE_URL"]) >= 1
    with kombu.Connection(settings["RENDERMILL_BROKER_URL"], connect_timeout=10) as connection:
        connection.connect()
        queue = connection.SimpleQueue("kept")
        queue.put({"ticket": 1})
        assert queue.get(timeout=10).payload == {"ticket": 1}


def test_redis_is_the_broker_when_asked(farm: Farm) -> None:
    url = re.findall(r"BROKER_URL='(redis://.*)'", farm.run("env", "--redis").stdout)[0]

    with redis.Redis.from_url(url) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_nobody_gets_in_without_a_password(farm: Farm) -> None:
    settings = farm.settings()
    port = settings["RENDERMILL_DATABASE_URL"].rsplit(":", 1)[1].split("/")[0]

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://rendermill:guess@127.0.0.1:{port}/rendermill")
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=int(port) + 4) as client:
        client.ping()


def test_services_listen_on_this_host_only_and_not_as_root(farm: Farm) -> None:
    for service, pid in farm.pids().items():
        process = psutil.Process(pid)
        addresses = {
            connection.laddr.ip
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}, service
        assert process.uids().real != 0, service


def test_starting_again_changes_nothing(farm: Farm) -> None:
    before = farm.pids()

    done = farm.run("start")

    assert done.returncode == 0
    assert done.stdout.count("runs already") == len(SERVICES)
    assert farm.pids() == before
    assert set(before) == set(SERVICES)


def test_another_port_is_refused_once_there_is_data(farm: Farm) -> None:
    done = farm.run("start", "--port", "1234")

    assert done.returncode == 1
    assert "since its first start" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands services to another account")
def test_another_account_is_refused_once_there_is_data(farm: Farm) -> None:
    done = farm.run("start", "--user", "nobody")

    assert done.returncode == 1
    assert "is postgres's since its first start" in done.stderr


def test_a_second_farm_on_the_same_ports_is_refused(farm: Farm, place: Path) -> None:
    port = farm.settings()["RENDERMILL_DATABASE_URL"].rsplit(":", 1)[1].split("/")[0]

    done = Farm(folder=place / "other").run("start", "--port", port)

    assert done.returncode == 1
    assert f"postgres: port {port} is taken" in done.stderr


def test_what_crashed_is_shown_and_started_again_with_its_data(farm: Farm) -> None:
    rows = count_rows(farm.settings()["RENDERMILL_DATABASE_URL"])
    victim = psutil.Process(farm.pids()["postgres"])
    victim.kill()
    psutil.wait_procs([victim], timeout=10)

    shown = farm.run("status")
    again = farm.run("start")

    assert shown.returncode == 3
    assert "postgres   is gone; see" in shown.stdout
    assert again.returncode == 0, again.stderr
    assert count_rows(farm.settings()["RENDERMILL_DATABASE_URL"]) == rows + 1


def test_a_process_that_got_the_same_number_later_is_left_alone(farm: Farm) -> None:
    farm.run("stop", "redis")
    with subprocess.Popen(["sleep", "600"]) as stranger:
        # The number is right; the moment it started is not.
        pid_file = farm.folder / "redis.pid"
        pid_file.write_text(f"{stranger.pid} 1 00000000-0000-0000-0000-000000000000\n")

        stopped = farm.run("stop", "redis")
        spared = stranger.poll() is None
        stranger.kill()

    assert spared
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert not pid_file.exists()
    assert farm.run("start", "redis").stdout == "redis      started\n"


def test_stopping_leaves_no_process_and_starting_finds_the_data(farm: Farm) -> None:
    url = farm.settings()["RENDERMILL_DATABASE_URL"]
    rows = count_rows(url)
    processes = [psutil.Process(pid) for pid in farm.pids().values()]
    everyone = [child for parent in processes for child in (parent, *parent.children(True))]

    stopped = farm.run("stop")

    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.count("stopped") == len(SERVICES)
    assert "is killed" not in stopped.stderr
    assert not [process for process in everyone if lives(process)]
    assert not list(farm.folder.glob("*.pid"))  # epmd's among them
    assert farm.run("status").returncode == 0
    assert farm.run("start", "postgres").returncode == 0
    assert count_rows(url) == rows + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="shows what the tests above did not: not being root")
def test_it_works_for_an_account_without_rights(place: Path) -> None:
    home = place / "home"
    home.mkdir()
    shutil.chown(home, "nobody", "nogroup")
    drop = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    farm = Farm(folder=home / "farm", as_account=drop)

    started = farm.run("start", "--port", str(free_ports()), "postgres", "rabbitmq", "redis")
    try:
        assert started.returncode == 0, started.stderr
        assert count_rows(farm.settings()["RENDERMILL_DATABASE_URL"]) == 1
        assert {psutil.Process(pid).username() for pid in farm.pids().values()} == {"nobody"}
    finally:
        stopped = farm.run("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert farm.pids() == {}
