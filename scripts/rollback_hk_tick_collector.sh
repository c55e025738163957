#!/usr/bin/env bash
# Puts the service back to an earlier version, by hand.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage:
  sudo ROLLBACK_REF=COMMIT bash scripts/rollback_hk_tick_collector.sh [options]

  --market WHICH  auto (default), open or closed: passed on to the verification

Stops the service, switches to ROLLBACK_REF (a commit, tag or branch that the
checkout knows), starts it and verifies. If that version does not start, the one
that was in use is put back and started. Further recorders and what serves
(hk-tick-api, -live, -redis, -alert) are restarted if they run.

The environment of that version is still there if it ran lately; else it is
built first, while the recorder goes on. .env and day files are not touched. A
day file that a newer version migrated is refused by an older one with a line
that says so; move that file away, or go forward again.

Exit codes: 0 it runs and is verified; 1 it failed, and what was in use records
again, or it runs and is not verified; 2 usage; 3 it failed and so did the way
back: nobody records; 69 something is missing; 75 another update is running; 77
not root.
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib_deploy.sh
. "$here/lib_deploy.sh"
umask 022
cd /

# No function of the library has names like these: the trap runs inside of whichever was interrupted, with its locals.
switched=0 old_commit='' old_release=''

# However the script ends between stop and start, also by a signal: somebody records.
# shellcheck disable=SC2317 # called by the trap
on_exit() {
  local status=$?
  hold_out
  if ((switched)); then
    say "going back to ${old_commit:0:12}, which was in use"
    go_back "$old_commit" "$old_release" || status=3
  fi
  drop_scratch
  exit "$status"
}

main() {
  local market=auto commit built
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --market)
        (($# > 1)) || bad_usage "$1 needs a value"
        market=$2
        shift
        ;;
      *) bad_usage "unknown argument: $1" ;;
    esac
    shift
  done
  [[ $market =~ ^(auto|open|closed)$ ]] || bad_usage "--market is auto, open or closed, not '$market'"
  if [[ -z ${ROLLBACK_REF-} ]]; then
    built=$(other_releases "$RELEASES" "$(current_release)")
    [[ -z $built ]] || printf 'Built, and ready to go back to:\n%s\n' "$built" >&2
    bad_usage "ROLLBACK_REF is not set: name the commit to go back to"
  fi
  need_root
  need_tools git tar systemctl journalctl flock setpriv unshare useradd
  [[ -e $PREFIX/.git ]] || die $EXIT_MISSING "$PREFIX is not a git checkout: install it from one with scripts/install_systemd.sh"
  lock_deployment
  end_by_on_exit
  is_clean || die 1 "$PREFIX has changes of its own: look at 'git -C $PREFIX status', then commit or undo them"
  old_commit=$(current_commit)
  old_release=$(current_release)
  [[ -n $old_release ]] || die $EXIT_MISSING "$PREFIX/venv is missing: run scripts/install_systemd.sh first"
  commit=$(resolve_ref "$ROLLBACK_REF") || die 1 "'$ROLLBACK_REF' is not a commit, tag or branch of $PREFIX"
  make_scratch
  export_tree "$commit" "$scratch/tree"
  build_release "$commit" "$scratch/tree" || die 1 "the environment could not be built (above); the recorder goes on"
  switched=1
  systemctl stop "$UNIT"
  switch_to "$commit" "$commit" || die 1 "${commit:0:12} could not be put in place (above)"
  systemctl reset-failed "$UNIT" 2>/dev/null || true
  if ! systemctl start "$UNIT"; then
    journalctl --sync || true
    journalctl -u "$UNIT" --no-pager -n 10 || true
    die 1 "${commit:0:12} does not start (above)"
  fi
  switched=0
  restart_others || die 1 "the plain recorder runs; the units named above do not"
  say "went back from ${old_commit:0:12} to ${commit:0:12}"
  bash "$PREFIX/scripts/verify_hk_tick_collector.sh" --market "$market" --since "1 minute ago" --env-file "$PREFIX/.env" || exit 1
}

main "$@"
exit
