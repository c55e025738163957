#!/usr/bin/env bash
# Runs the whole test suite in a virtual environment of its own. Needs python3 (3.11 or newer), venv and git; what else
# the tests need is installed or named.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/test.sh [pytest arguments]

Makes .venv in the project's directory, installs the project with its development tools into it, and runs pytest.
The environment is used again until pyproject.toml or the Python version changes. As root on Debian or Ubuntu it also
installs the packages that tests need (scripts/lib_needs.sh has the list); otherwise it says which ones are missing.

  bash scripts/test.sh                          everything
  bash scripts/test.sh tests/unit -k config     a part; all arguments go to pytest
  bash scripts/test.sh -n 0                     one process, for a debugger
  PYTHON=python3.12 bash scripts/test.sh        another interpreter; .venv is made anew

Exit codes are pytest's; 69 when something is missing, before any test.
USAGE
}

if [[ ${1-} == --help || ${1-} == -h ]]; then
  usage
  exit 0
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib_venv.sh
. scripts/lib_venv.sh
# shellcheck source=scripts/lib_needs.sh
. scripts/lib_needs.sh
check_python_version
ensure_needs
ensure_venv dev
if (($#)); then
  exec .venv/bin/python -m pytest -n 2 --dist worksteal "$@"
fi
# The systemd suite has one machine for all its tests: one process.
status=0
.venv/bin/python -m pytest -n 2 --dist worksteal --ignore=tests/systemd || status=$?
.venv/bin/python -m pytest tests/systemd || status=$?
exit "$status"
