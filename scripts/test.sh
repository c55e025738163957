#!/usr/bin/env bash
# Runs the test suite in a virtual environment of its own. Needs python3 (3.11 or newer), venv and git; what else
# the tests need is installed or named.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/test.sh [pytest arguments]

Makes .venv in the project's directory, installs the project with its
development tools into it, and runs pytest. The environment is used again until
pyproject.toml or the Python version changes. As root on Debian or Ubuntu it
also installs the packages that tests need (scripts/lib_needs.sh has the list);
otherwise it says which ones are missing.

  bash scripts/test.sh
      what a check runs
  TESTS=all bash scripts/test.sh
      everything: also what a check leaves to the nights (docs/testing.md)
  bash scripts/test.sh tests/unit -k config
      a part; all arguments go to pytest
  bash scripts/test.sh -n 0
      one process, for a debugger
  PYTHON=python3.12 bash scripts/test.sh
      another interpreter than the system's; .venv is made anew

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
# A thousand processes are started: what they import is compiled once, not by each of them, also where
# PYTHONDONTWRITEBYTECODE is set, as images of containers do. pytest makes its own of test modules.
.venv/bin/python -I -m compileall -q -x '/test_[^/]*\.py$' hk_tick_collector tests benchmarks || true
# Tests wait two thirds of their time: two processes for one core, four for more. No more of them: a container shows cores
# that it may not use.
processes=$(($(nproc) < 2 ? 2 : 4))
# What a script starts in the background ignores Ctrl-C, with all that it starts: tests send it, and a machine that was
# booted must hear it.
pytest=(env '--default-signal=INT,QUIT' .venv/bin/python -m pytest)
many=("${pytest[@]}" --dist worksteal -n "$processes")
if (($#)); then
  exec "${many[@]}" "$@"
fi

# Four runs. The systemd suite has one machine for all its tests, so it is one process, which mostly waits; so do the faults,
# each for a market, with a third of a core for its processes. The rest gives way to both (nice): they have the tightest
# times, and the machine takes the longest. What mostly computes has the place of the faults when they are over, with more
# processes: it ends last, and alone, and waits for the disk half of the time. On a single core one comes after the other.
logs=$(mktemp -d)
preparing=()
running=()
status=0

begin() { # begin NAME COMMAND...: what it says is kept for later, and so are its failures: two write no cache together
  "${@:2}" -o cache_dir=".pytest_cache/$1" >"$logs/$1" 2>&1 &
  running+=("$1=$!")
  ((processes > 2)) || finish "$1"
}

finish() { # finish NAME: it has ended, and its exit code is noted
  local i code=0
  for i in "${!running[@]}"; do
    [[ ${running[i]%=*} == "$1" ]] || continue
    wait "${running[i]#*=}" || code=$?
    unset "running[i]"
    note "$code"
  done
}

note() { # note CODE: 1, that tests failed, hides no other one, which .ci/run gives no second chance
  ((status > 1)) || ((status == 1 && $1 == 0)) || status=$1
}

# shellcheck disable=SC2317 # called by the trap
end_all() {
  local pid
  for pid in "${preparing[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
  done
  for pid in "${running[@]#*=}"; do
    kill -INT "$pid" 2>/dev/null || true
  done
  wait
  rm -rf "$logs"
}
trap end_all EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

for script in backtest_venv vendors; do
  PYTHON=$python bash "scripts/$script.sh" &
  preparing+=("$!")
done
# What pytest makes of test modules is made once, not by each of its processes.
.venv/bin/python -I tests/rewritten.py || true
begin systemd "${pytest[@]}" tests/systemd
begin faults "${many[@]}" -n "$((processes / 2))" tests/faults
wait "${preparing[0]}" || echo "$me: tests with HftBacktest and NautilusTrader are left out" >&2
wait "${preparing[1]}" || echo "$me: tests with code of vendors are left out" >&2
preparing=()

nice -n 5 "${many[@]}" --ignore=tests/systemd --ignore=tests/faults --ignore=tests/docs --ignore=tests/unit &
running+=("rest=$!")
((processes > 2)) || finish rest
finish faults
begin quick nice -n 5 "${many[@]}" tests/docs tests/unit
finish rest
for part in faults quick systemd; do
  finish "$part"
  cat "$logs/$part"
done
exit "$status"
