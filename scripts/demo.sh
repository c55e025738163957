#!/usr/bin/env bash
# Shows the recorder at work on a simulated market. Needs python3 (3.11 or newer), venv and git; no OpenD, no account.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/demo.sh [--seconds N] [--plain]

Makes .venv in the project's directory and installs the project into it (once),
then starts the simulated OpenD and the recorder on a scratch directory, waits
until OpenD has told the earlier ticks of each symbol, and shows what happens
for N seconds (default 30). At the end it stops both, asks the file that was
written how fresh it is, and compares it with every tick that the simulated
market made.

Ctrl-C ends the show early, with the same ending; a second Ctrl-C ends at once.
On a terminal it is the live screen (hk-tickctl screen; q ends it), with --plain
a simpler picture; otherwise there is one line a second.

Exit codes: 0 every tick is stored, 1 something failed, 2 usage, 69 the
environment cannot be made, 130 (or 143, 129) stopped by a signal before there
was anything to show.
USAGE
}

bad_usage() {
  printf 'demo.sh: %s\n' "$1" >&2
  usage >&2
  exit 2
}

seconds=30
options=()
while (($#)); do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --seconds) seconds=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    --plain) options+=(--plain) && shift ;;
    --seconds=*) seconds=${1#*=} && shift ;;
    *) bad_usage "unknown argument: $1" ;;
  esac
done
[[ $seconds =~ ^[1-9][0-9]{0,4}$ ]] || bad_usage "--seconds needs a whole number from 1 to 99999, not '$seconds'"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib_venv.sh
. scripts/lib_venv.sh
ensure_venv run

# A background process of a script ignores SIGINT: Ctrl-C comes here alone and goes on as SIGTERM, also while Python is
# still starting and would answer Ctrl-C with a traceback.
demo=
signal_code=
signals=0
# shellcheck disable=SC2317 # called by the traps
pass_on() { # pass_on EXIT_CODE: what to return if Python had not begun to listen
  signal_code=$1
  signals=$((signals + 1))
  [[ -z $demo ]] || kill -TERM "$demo" 2>/dev/null || true
}
trap 'pass_on 130' INT
trap 'pass_on 143' TERM
trap 'pass_on 129' HUP
.venv/bin/python -I scripts/demo.py --seconds "$seconds" ${options[@]+"${options[@]}"} &
demo=$!
((signals == 0)) || kill -TERM "$demo" 2>/dev/null || true
status=0
while :; do
  seen=$signals
  waited=0
  wait "$demo" || waited=$?
  ((waited == 127)) || status=$waited # 127: the wait before this one got its code already
  ((seen != signals)) || break        # a signal ends only the wait
done
((status != 143)) || status=${signal_code:-143}
exit "$status"
