#!/usr/bin/env bash
# Makes the recorder's service wait longer before each restart that follows a short, failed run.
# systemd can do it from version 254 on (RestartSteps=); Debian 12 has 252.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/restart_delay.sh wait|record

Called by hk-tick-collector.service as the service user, not by hand.

  wait    (ExecStartPre) sleep 0, 2, 4, 8 ... 60 seconds: nothing after the
          first failure in a row, more after each other
  record  (ExecStopPost) count the run that ended: a failure raises the count; a
          stop that was asked for, a wrong configuration (exit code 78) and ten
          minutes of work set it back to none

The count lives in RUNTIME_DIRECTORY, so a reboot forgets it.

Exit codes: 0 done, 2 usage. A count that cannot be read or kept is taken for
none: the recorder must start.
USAGE
}

readonly MAX_DELAY_SEC=60
readonly GOOD_RUN_SEC=600

stored_number() { # stored_number FILE: 0 when there is none
  local text=
  [[ ! -r $1 ]] || read -r text <"$1" || true
  [[ $text =~ ^[0-9]{1,12}$ ]] || text=0
  printf '%s' "$text"
}

wait_before_start() {
  local failures delay_sec=0
  failures=$(stored_number "$state/failures")
  if ((failures > 1)); then
    delay_sec=$((failures > 6 ? MAX_DELAY_SEC : 1 << (failures - 1)))
    ((delay_sec <= MAX_DELAY_SEC)) || delay_sec=$MAX_DELAY_SEC
    echo "restart_delay failures=$failures delay_sec=$delay_sec"
  fi
  printf '%s\n' $((EPOCHSECONDS + delay_sec)) >"$state/started" || true
  exec sleep "$delay_sec"
}

record_end() {
  local failures started
  failures=$(stored_number "$state/failures")
  started=$(stored_number "$state/started")
  if [[ ${SERVICE_RESULT-} == success || ${EXIT_STATUS-} == 78 ]]; then
    failures=0
  elif ((EPOCHSECONDS - started >= GOOD_RUN_SEC)); then
    failures=1
  else
    failures=$((failures + 1))
  fi
  printf '%s\n' "$failures" >"$state/failures" || true
}

state=${RUNTIME_DIRECTORY:-/run/hk-tick-collector}
case ${1-} in
  wait) wait_before_start ;;
  record) record_end ;;
  --help | -h) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
