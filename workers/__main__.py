"""Worker processes: ``python -m workers run`` is one, ``supervise`` keeps several alive."""

from workers.cli import main

if __name__ == "__main__":
    main()
