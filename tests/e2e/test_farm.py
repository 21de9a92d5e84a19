from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.brokers import Server
from tests.services.farm import Farm, farm_of
from tests.services.s3 import ENVIRONMENT

pytestmark = pytest.mark.slow


@pytest.fixture(params=["rabbitmq", "redis_server"])
def farm(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str, s3_url: str
) -> Iterator[Farm]:
    broker: Server = request.getfixturevalue(request.param)
    environment = dict(ENVIRONMENT) | {
        "RENDERMILL_DATABASE_URL": postgres_url,
        "RENDERMILL_BROKER_URL": broker.url,
        "RENDERMILL_STORAGE_URL": s3_url,
    }
    with farm_of(tmp_path / "farm", environment) as made:
        yield made


def manifest(farm: Farm, items: int) -> Path:
    file = farm.folder / "prompts.txt"
    file.write_text("".join(f"a picture of number {n}\n" for n in range(items)))
    return file


def test_a_farm_renders_a_manifest_and_can_be_steered(farm: Farm) -> None:
    farm.start("scheduler", "scheduler")
    farm.run("submit", manifest(farm, 300), "--name", "sweep", "--priority", "5")
    assert "no worker is live" in farm.run("why", "sweep")
    for name, size in (("small", 8.0), ("large", 24.0), ("plain", None)):
        farm.start_worker(name, size, seconds=0.02)
    farm.wait_until(lambda: farm.outcomes("sweep") == 300, "all outcomes")
    farm.check("sweep", items=300)
    assert farm.run("health", "scheduler")
    assert farm.run("health", "worker")
    workers = {one["name"]: one["capability"]["vram_bytes"] for one in farm.json("workers")}
    assert workers.keys() == {"small/cpu", "large/cpu", "plain/cpu"}
    status = farm.json("status")
    assert (status["jobs"], status["items_left"]) == ({"finished": 1}, 0)
    assert status["classes"].keys() == {"gpu8", "gpu24", "cpu"}
    assert all(farm.stop(name) == 0 for name in ("small", "large", "plain", "scheduler"))
    assert farm.query("SELECT 1 FROM workers WHERE state <> 'gone'") == []


def test_pausing_and_priority_act_within_a_task(farm: Farm) -> None:
    farm.start("scheduler", "scheduler")
    farm.start_worker("one", 8.0, seconds=0.05)
    farm.run("submit", manifest(farm, 400), "--name", "long")
    farm.wait_until(lambda: farm.outcomes("long") > 0, "the first outcomes")
    farm.run("pause", "long")
    farm.wait_until(
        lambda: farm.query("SELECT 1 FROM tasks WHERE state = 'leased'") == [], "the task's end"
    )
    stopped_at = farm.outcomes("long")
    assert 0 < stopped_at < 400
    farm.run("submit", manifest(farm, 40), "--name", "short")
    farm.wait_until(lambda: farm.outcomes("short") == 40, "the short job")
    assert farm.outcomes("long") == stopped_at
    farm.run("resume", "long")
    farm.run("cancel", "long")
    assert farm.json("job", "long")["state"] == "cancelled"


def test_a_drained_worker_takes_nothing_until_it_is_woken(farm: Farm) -> None:
    farm.start("scheduler", "scheduler")
    farm.start_worker("one", 8.0)
    farm.wait_until(lambda: len(farm.json("workers")) == 1, "the worker")
    farm.run("worker", "one/cpu", "drain")
    farm.run("submit", manifest(farm, 20), "--name", "waits")
    farm.wait_until(lambda: "no worker is live" in farm.run("why", "waits"), "the reason")
    assert farm.outcomes("waits") == 0
    farm.run("worker", "one/cpu", "resume")
    farm.wait_until(lambda: farm.outcomes("waits") == 20, "the job")


def test_losing_every_ticket_delays_a_job_by_seconds_only(farm: Farm) -> None:
    from storage.broker.tickets import Tickets

    farm.start("scheduler", "scheduler")
    farm.start_worker("one", 8.0)
    farm.wait_until(lambda: len(farm.json("workers")) == 1, "the worker")
    tickets = Tickets(farm.environment("desk")["RENDERMILL_BROKER_URL"])
    farm.run("submit", manifest(farm, 50), "--name", "sweep")
    tickets.purge()
    farm.wait_until(lambda: farm.outcomes("sweep") == 50, "the job", seconds=5.0 + 5.0)
    tickets.close()


@pytest.mark.parametrize("place", ["child", "parent", "all"])
def test_a_killed_worker_loses_nothing(farm: Farm, place: str) -> None:
    farm.start("scheduler", "scheduler")
    farm.start_worker("one", 8.0, seconds=0.02)
    farm.run("submit", manifest(farm, 300), "--name", "sweep")
    farm.wait_until(lambda: farm.outcomes("sweep") > 20, "some outcomes")
    tree = farm.tree("one")  # the command, its supervisor, Celery's parent, its child
    assert len(tree) >= 4
    if place == "all":
        farm.kill("one")
        farm.start_worker("one", 8.0)
    else:
        victim = next(p for p in tree if ("consume" in p.cmdline()) == (place == "parent"))
        if place == "child":
            victim = tree[-1]
        victim.send_signal(signal.SIGKILL)
    farm.wait_until(lambda: farm.outcomes("sweep") == 300, "all outcomes")
    farm.check("sweep", items=300)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_told_to_end_hands_back_what_it_has_and_signs_off(
    farm: Farm, number: signal.Signals
) -> None:
    farm.start("scheduler", "scheduler")
    farm.start_worker("one", 8.0, seconds=0.3)
    farm.run("submit", manifest(farm, 400), "--name", "long")
    farm.wait_until(lambda: farm.outcomes("long") > 0, "the first outcomes")
    farm.kill("scheduler")  # so that nobody rescues what would be left behind
    farm.programs["one"].send_signal(number)
    farm.programs["one"].wait(30)
    ended = farm.query("SELECT state, count(*) FROM tasks GROUP BY state")
    assert {row.state for row in ended} <= {"finished", "returned"}
    assert [row.state for row in farm.query("SELECT state FROM workers")] == ["gone"]


def test_a_second_scheduler_takes_over_from_one_that_was_killed(farm: Farm) -> None:
    farm.start("first", "scheduler")
    farm.wait_until(lambda: "leads" in farm.run("health", "scheduler", code=None), "a leader")
    farm.start("second", "scheduler")
    farm.kill("first")
    farm.start_worker("one", 8.0)
    farm.run("submit", manifest(farm, 30), "--name", "sweep")
    farm.wait_until(lambda: farm.outcomes("sweep") == 30, "the job")


def test_an_unready_farm_says_what_to_do(tmp_path: Path, postgres_url: str) -> None:
    farm = Farm(tmp_path / "farm", {"RENDERMILL_DATABASE_URL": postgres_url})
    said = farm.run("status", code=1)
    assert "has no tables of rendermill" in said
    assert "rendermill init" in said
    farm.close()
