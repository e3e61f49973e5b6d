"""`python -m clutr` is the command `clutr`, where that is not on the path."""

import sys

from clutr.experiments.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
