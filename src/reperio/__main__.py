"""``python -m reperio`` is the command line."""

from reperio.cli.main import main

if __name__ == "__main__":
    main()
