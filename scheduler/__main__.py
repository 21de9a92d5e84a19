"""``python -m scheduler`` is the program `rendermill`."""

from scheduler.cli.main import main

if __name__ == "__main__":
    main()
