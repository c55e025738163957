#!/usr/bin/env bash
# Brings the installed service to another version, and back to the former one when that does not work.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: sudo bash scripts/redeploy_hk_tick_collector.sh [options] [REF]

Brings the service to REF, a branch, tag or commit of the checkout's origin
(default: origin's main branch).

While the recorder goes on recording: fetch, build an environment for REF, run
tests from it. If that fails, nothing has changed. Then: stop, switch, repair
times in the future (repair_future_ts_ms.py --apply), start, show the first log
lines, verify (verify_hk_tick_collector.sh), restart what else runs from the
release: further recorders (hk-tick-collector@NAME) and what serves
(hk-tick-api, -live, -redis, -alert). If one of these fails, the former version
is put back and started.

  --tests WHICH       quick (default: settings, store and start, some seconds),
                      full (all of tests/unit, minutes), none, or arguments for
                      pytest ("-q tests"); full and arguments bring all
                      development tools along
  --skip-tests        the same as --tests none
  --no-rollback       leave the new version in place when it fails after the
                      switch
  --no-fetch          take REF from the checkout as it is
  --market WHICH      auto (default), open or closed: passed on to the
                      verification
  --acceptance-sec N  wait this long for the first heartbeat and health lines
                      (default: 90)

REF is built by the user hk-tick-build; root installs the finished wheels and
runs nothing of REF before the switch.

Also from the environment: DEPLOY_REF, DEPLOY_TESTS, AUTO_ROLLBACK=0, PYTHON and
all that pip reads. The way back by hand:
  sudo ROLLBACK_REF=COMMIT bash scripts/rollback_hk_tick_collector.sh

Exit codes: 0 the new version runs and is verified; 1 it failed and the former
version runs (or, with --no-rollback, the new one was left as it is); 2 usage; 3
it failed and so did the way back: nobody records; 69 something is missing; 75
another update is running; 77 not root.
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib_deploy.sh
. "$here/lib_deploy.sh"
umask 022
cd /

ref=${DEPLOY_REF-}
tests=${DEPLOY_TESTS:-quick}
readonly QUICK_TESTS='test_config.py test_main.py test_start.py test_store_connect.py test_worker.py'
rollback=${AUTO_ROLLBACK:-1}
fetch=1 run_tests=1 market=auto acceptance_sec=90
switched=0 arguments='' old_commit='' old_release='' new_commit='' since=''

parse() {
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --skip-tests) tests=none ;;
      --no-rollback) rollback=0 ;;
      --no-fetch) fetch=0 ;;
      --tests | --market | --acceptance-sec)
        (($# > 1)) || bad_usage "$1 needs a value"
        case $1 in
          --tests) tests=$2 ;;
          --market) market=$2 ;;
          --acceptance-sec) acceptance_sec=$2 ;;
        esac
        shift
        ;;
      -*) bad_usage "unknown option: $1" ;;
      *) ref=$1 ;;
    esac
    shift
  done
  [[ $tests != none ]] || run_tests=0
  [[ $market =~ ^(auto|open|closed)$ ]] || bad_usage "--market is auto, open or closed, not '$market'"
  [[ $acceptance_sec =~ ^[0-9]{1,5}$ ]] || bad_usage "--acceptance-sec needs a whole number, not '$acceptance_sec'"
  [[ $rollback =~ ^[01]$ ]] || bad_usage "AUTO_ROLLBACK is 0 or 1, not '$rollback'"
}

step() { printf '== %s\n' "$1" || true; }

sync_to_ref() {
  step "sync"
  is_clean || die 1 "$PREFIX has changes of its own: look at 'git -C $PREFIX status', then commit or undo them"
  if ((fetch)); then
    in_prefix fetch --quiet --tags --prune origin || die 1 "git could not fetch from origin (above); --no-fetch goes on without"
  fi
  [[ -n $ref ]] || ref=$(default_branch)
  new_commit=$(resolve_ref "$ref") || die 1 "'$ref' is not a branch, tag or commit of origin"
  say "from ${old_commit:0:12} to ${new_commit:0:12} ($ref)"
}

default_branch() {
  local head
  head=$(in_prefix ls-remote --symref origin HEAD 2>/dev/null | sed -n 's#^ref: refs/heads/\(.*\)\tHEAD$#\1#p')
  printf '%s' "${head:-main}"
}

build_and_test() {
  local needed=dev # full, or arguments for pytest
  case $tests in none) needed=service ;; quick) needed=quick ;; esac
  step "install"
  make_scratch
  export_tree "$new_commit" "$scratch/tree" || die 1 "the files of ${new_commit:0:12} could not be read"
  build_release "$new_commit" "$scratch/tree" "$needed" ||
    die 1 "the environment could not be built (above); nothing was changed, the recorder goes on"
  ((run_tests)) || return 0
  step "tests: $tests"
  pytest_arguments
  # As the service user, in a directory of its own, and with less right to the processor than the recorder.
  install -d -o "$SERVICE_USER" -g "$SERVICE_USER" "$scratch/home"
  # shellcheck disable=SC2086 # several arguments
  (cd "$scratch/tree" && as_service_user env HOME="$scratch/home" HYPOTHESIS_STORAGE_DIRECTORY="$scratch/home" \
    PYTHONDONTWRITEBYTECODE=1 nice -n 10 "$RELEASES/$new_commit/bin/python" -m pytest -p no:cacheprovider \
    --basetemp="$scratch/home/tmp" $arguments) ||
    die 1 "the tests of ${new_commit:0:12} failed; nothing was changed, the recorder goes on"
}

# Sets "arguments" to those of pytest. Of the quick ones those that the version has: an earlier one may lack some.
pytest_arguments() {
  local name
  case $tests in
    full) arguments='-q tests/unit' ;;
    quick)
      arguments='-q -x'
      for name in $QUICK_TESTS; do
        [[ ! -e $scratch/tree/tests/unit/$name ]] || arguments+=" tests/unit/$name"
      done
      ;;
    *) arguments=$tests ;;
  esac
}

repair_times() {
  step "repair"
  "$PREFIX/venv/bin/python" -I "$PREFIX/scripts/repair_future_ts_ms.py" --apply --env-file "$PREFIX/.env"
}

# The first lines of a healthy run: the persist loop's pulse and the health line.
show_acceptance() {
  local deadline=$((SECONDS + acceptance_sec)) log
  step "acceptance"
  while :; do
    log=$(journalctl -u "$UNIT" --since "$since" --no-pager -o cat)
    if grep -q '^persist_loop_heartbeat' <<<"$log" && grep -q '^health' <<<"$log"; then
      break
    fi
    ((SECONDS < deadline)) || break
    systemctl is-active --quiet "$UNIT" || break
    sleep 1
  done
  grep -E '^(recorder_started|health|persist_summary|persist_loop_heartbeat|WATCHDOG)|ERROR|Traceback' <<<"$log" |
    head -n 20 | sed 's/^/  /' || true
  grep -q '^persist_loop_heartbeat' <<<"$log" || say "no persist_loop_heartbeat within $acceptance_sec s"
  grep -q '^persist_loop_heartbeat' <<<"$log"
}

start_and_verify() {
  step "start"
  since=$(date '+%Y-%m-%d %H:%M:%S')
  systemctl reset-failed "$UNIT" 2>/dev/null || true
  systemctl start "$UNIT" || return 1
  show_acceptance || return 1
  step "verify"
  bash "$PREFIX/scripts/verify_hk_tick_collector.sh" --since "$since" --market "$market" --lines 0 --env-file "$PREFIX/.env" || return 1
}

restart_the_others() {
  [[ -n $(other_units) ]] || return 0
  step "others"
  restart_others
}

# However the script ends between stop and success, also by a signal: somebody records.
# shellcheck disable=SC2317 # called by the trap
on_exit() {
  local status=$?
  hold_out
  if ((switched)); then
    if ((rollback)); then
      step "rollback to ${old_commit:0:12}"
      go_back "$old_commit" "$old_release" || status=3
    else
      say "left as it is (--no-rollback); the way back: sudo ROLLBACK_REF=$old_commit bash $PREFIX/scripts/rollback_hk_tick_collector.sh"
    fi
  fi
  drop_scratch
  exit "$status"
}

main() {
  parse "$@"
  need_root
  need_tools git tar systemctl journalctl runuser flock setpriv unshare useradd
  [[ -e $PREFIX/.git ]] || die $EXIT_MISSING "$PREFIX is not a git checkout: install it from one with scripts/install_systemd.sh"
  lock_deployment
  old_commit=$(current_commit) || die $EXIT_MISSING "$PREFIX has no commit checked out"
  old_release=$(current_release)
  [[ -n $old_release ]] || die $EXIT_MISSING "$PREFIX/venv is missing: run scripts/install_systemd.sh first"
  end_by_on_exit
  sync_to_ref
  build_and_test
  step "stop"
  switched=1
  systemctl stop "$UNIT"
  if switch_to "$new_commit" "$new_commit" && repair_times && start_and_verify && restart_the_others; then
    switched=0
    prune_releases "$new_commit" "$old_release"
    say "deployed ${new_commit:0:12}; the way back: sudo ROLLBACK_REF=$old_commit bash $PREFIX/scripts/rollback_hk_tick_collector.sh"
    return 0
  fi
  say "${new_commit:0:12} does not work"
  systemctl status "$UNIT" --no-pager --lines=0 || true
  journalctl --sync || true
  [[ -z $since ]] || journalctl -u "$UNIT" --since "$since" --no-pager -n 30 || true
  exit 1
}

main "$@"
exit
