"""`python -m monitor` is `driftd`."""

from monitor.cli import main

if __name__ == "__main__":
    main()
