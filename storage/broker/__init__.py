"""The broker, which only wakes: the Celery application, its queues, and the tickets on them."""
