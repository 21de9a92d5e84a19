"""Settings of Celery by which tickets are kept, given back and never hoarded."""

from __future__ import annotations

import pytest

from storage.broker.app import is_redis, make_app
from storage.broker.queues import HOLD_SECONDS

BROKERS = ["amqp://host//", "redis://host/0"]


@pytest.mark.parametrize("url", BROKERS)
def test_a_ticket_is_given_back_when_its_worker_dies_and_none_is_hoarded(url: str) -> None:
    settings = make_app(url).conf

    assert settings.task_acks_late
    assert settings.task_reject_on_worker_lost
    assert settings.worker_prefetch_multiplier == 1
    assert settings.worker_concurrency == 1


@pytest.mark.parametrize("url", BROKERS)
def test_messages_are_json_and_results_are_not_kept(url: str) -> None:
    settings = make_app(url).conf

    assert settings.accept_content == ["json"]
    assert settings.task_serializer == "json"
    assert settings.task_ignore_result
    assert settings.result_backend is None


@pytest.mark.parametrize("url", BROKERS)
def test_the_renderer_is_born_and_not_forked(url: str) -> None:
    settings = make_app(url).conf

    assert settings.worker_pool == "prefork"
    assert settings.worker_pool_start_method == "spawn"


@pytest.mark.parametrize("url", BROKERS)
def test_a_broker_that_is_away_is_waited_for_without_end(url: str) -> None:
    settings = make_app(url).conf

    assert settings.broker_connection_retry_on_startup
    assert settings.broker_connection_max_retries is None


def test_redis_hands_a_ticket_out_again_no_sooner_than_rabbitmq() -> None:
    assert make_app("redis://host").conf.broker_transport_options["visibility_timeout"] == (
        HOLD_SECONDS
    )


def test_rabbitmq_confirms_what_is_published() -> None:
    assert make_app("amqp://host").conf.broker_transport_options["confirm_publish"]


def test_making_an_app_leaves_celerys_current_one_alone() -> None:
    from celery import current_app

    made = make_app("amqp://host")

    assert current_app._get_current_object() is not made


def test_redis_is_told_by_the_scheme() -> None:
    assert is_redis("redis://h")
    assert is_redis("rediss://h")
    assert not is_redis("amqp://redis")
