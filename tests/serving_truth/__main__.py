"""Readers against the truth, from the command line.

python -m tests.serving_truth                 as every night: each line cut 100 times, some five minutes
python -m tests.serving_truth --seed 17 --short
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.serving_truth.run import LONG, SHORT, run


def main() -> int:
    """Exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.serving_truth", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="as in every check")
    parser.add_argument("--keep", type=Path, help="leave day files and truth here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = (arguments.keep or Path(scratch)) / str(arguments.seed)
        broken, summary = run(directory, SHORT if arguments.short else LONG, arguments.seed)
    print(f"seed {arguments.seed}: {summary}")
    for text in broken:
        print(f"  BROKEN {text}")
    return 1 if broken else 0


sys.exit(main())
