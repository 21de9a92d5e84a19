from __future__ import annotations

from pathlib import Path

import pytest

from storage.contract.errors import SettingError
from storage.settings import (
    BROKER_URL,
    DATABASE_URL,
    STORAGE_URL,
    Connections,
    read_connections,
    shown,
)

HOME = Path("home")
POSTGRES = "postgresql+psycopg://mill:secret@db/mill"


def read(**environment: str) -> Connections:
    return read_connections({f"RENDERMILL_{n}": v for n, v in environment.items()}, HOME)


def test_without_settings_everything_is_in_the_home() -> None:
    assert read() == Connections(home=HOME)
    assert not read().is_farm


def test_an_empty_setting_is_none() -> None:
    assert read(DATABASE_URL="", BROKER_URL=" ", STORAGE_URL="") == Connections(home=HOME)


@pytest.mark.parametrize(
    "broker", ["amqp://a:b@host//", "amqps://host", "redis://host:6379/0", "rediss://host"]
)
def test_a_farm_has_a_database_and_any_of_the_brokers(broker: str) -> None:
    found = read(DATABASE_URL=POSTGRES, BROKER_URL=f" {broker} ")

    assert found.is_farm
    assert (found.database_url, found.broker_url) == (POSTGRES, broker)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://b/a@b?endpoint=http://h:1", "file:///srv/a"])
def test_a_store_is_a_bucket_or_a_folder(url: str) -> None:
    assert read(STORAGE_URL=url).storage_url == url


@pytest.mark.parametrize(
    ("environment", "variable", "hint"),
    [
        ({"DATABASE_URL": "mysql://u:secret@h/d"}, DATABASE_URL, "postgresql+psycopg://"),
        ({"DATABASE_URL": "/srv/catalog.db"}, DATABASE_URL, "postgresql+psycopg://"),
        ({"DATABASE_URL": POSTGRES, "BROKER_URL": "kafka://u:secret@h"}, BROKER_URL, "amqp://"),
        ({"DATABASE_URL": POSTGRES, "BROKER_URL": "localhost"}, BROKER_URL, "redis://"),
        ({"BROKER_URL": "amqp://u:secret@h"}, DATABASE_URL, "set both, or neither"),
        ({"STORAGE_URL": "gs://bucket"}, STORAGE_URL, "s3://"),
        ({"STORAGE_URL": "/srv/pictures"}, STORAGE_URL, "file:///"),
        ({"STORAGE_URL": "file://srv/pictures"}, STORAGE_URL, "three slashes"),
        ({"DATABASE_URL": POSTGRES, "BROKER_URL": "amqp://u:secret@h:port"}, BROKER_URL, "port"),
        ({"DATABASE_URL": "postgresql://u:secret/more@h/d"}, DATABASE_URL, "%2F"),
        ({"DATABASE_URL": "postgresql://u:12/secret@h/d"}, DATABASE_URL, "%2F"),
        ({"DATABASE_URL": POSTGRES, "BROKER_URL": "amqp://u:12#secret@h"}, BROKER_URL, "%23"),
        ({"DATABASE_URL": POSTGRES, "BROKER_URL": "amqp://u:12?secret@h"}, BROKER_URL, "%3F"),
        ({"DATABASE_URL": POSTGRES, "BROKER_URL": "redis://[::1/secret"}, BROKER_URL, "port"),
    ],
)
def test_a_setting_that_cannot_work_is_named_with_what_to_do_and_without_its_secret(
    environment: dict[str, str], variable: str, hint: str
) -> None:
    with pytest.raises(SettingError) as refused:
        read(**environment)

    assert variable in refused.value.message
    assert hint in (refused.value.hint or "")
    assert "secret" not in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("amqp://user:secret@host:5672//", "amqp://host:5672//"),
        ("s3://bucket/prefix?endpoint=http://host&key=secret", "s3://bucket/prefix"),
        ("redis://:secret@host/0", "redis://host/0"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_user_password_and_parameters(url: str, told: str) -> None:
    assert shown(url) == told
