"""The one Celery application of the project, made from a broker's URL.

Every setting differs from Celery's default for a reason that is written beside it. There is no
result backend: what became of work stands in SQL.
"""

from __future__ import annotations

from typing import Any, Final

from celery import Celery

from storage.broker.queues import HOLD_SECONDS, all_queues

WORK: Final = "rendermill.work"
"""The only Celery task: claim what there is for you. Its message carries nothing else."""

SOFT_STOP_SECONDS: Final = 20


def is_redis(url: str) -> bool:
    """Whether the broker is Redis."""
    return url.startswith(("redis://", "rediss://"))


def make_app(url: str, *, imports: tuple[str, ...] = ()) -> Celery:
    """The application; `imports` are modules that hold the code of its task."""
    app = Celery("rendermill", broker=url, set_as_current=False, autofinalize=True)
    app.conf.update(_settings(url), imports=imports)
    return app


def _settings(url: str) -> dict[str, Any]:
    redis = is_redis(url)
    return {
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_queues": all_queues(redis=redis),
        "task_create_missing_queues": False,
        # A ticket is given back when its worker dies; a spare one finds nothing and ends.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": 1,
        "worker_pool": "prefork",
        # CUDA and psycopg do not survive a fork; the parent loads neither torch nor a ledger.
        "worker_pool_start_method": "spawn",
        "worker_proc_alive_timeout": 60.0,  # a new process on a busy machine takes seconds
        "worker_soft_shutdown_timeout": SOFT_STOP_SECONDS,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Chatter between workers costs a broker more than all tickets.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 5.0,
        "broker_transport_options": _redis_options() if redis else {"confirm_publish": True},
    }


def _redis_options() -> dict[str, Any]:
    return {
        # Not extended while a ticket is held: shorter than a task, and every task runs twice.
        "visibility_timeout": HOLD_SECONDS,
        "socket_keepalive": True,
        "socket_connect_timeout": 5.0,
        "health_check_interval": 25,
        "retry_on_timeout": True,
    }
