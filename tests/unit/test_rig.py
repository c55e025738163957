"""What the benchmarks run commands with."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import rig

SAYING = """
import sys
print('{"rows": 1}')
print("an unsafe directory", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


def test_what_a_command_says_to_people_is_not_among_what_it_tells_a_program() -> None:
    assert json.loads(rig.run_command([sys.executable, "-c", SAYING, "0"]).told) == {"rows": 1}


def test_what_a_command_says_is_told_when_it_fails() -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with 3:.*rows.*an unsafe directory"):
        rig.run_command([sys.executable, "-c", SAYING, "3"])
