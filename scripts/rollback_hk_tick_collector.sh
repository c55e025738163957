#!/usr/bin/env bash
# Puts the service back to an earlier version, by hand.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: sudo ROLLBACK_REF=COMMIT bash scripts/rollback_hk_tick_collector.sh [--market auto|open|closed]

Stops the service, switches to ROLLBACK_REF (a commit, tag or branch that the checkout knows), starts it and verifies.
Further recorders and what serves (hk-tick-api, -live, -redis, -alert) are restarted if they run.
The environment of that version is still there if it ran lately; else it is built first, while the recorder goes on.
.env and day files are not touched. A day file that a newer version migrated is refused by an older one with a line that
says so; move that file away, or go forward again.

Exit codes: 0 it runs and is verified, 1 it failed (the service may be stopped), 2 usage, 69 something is missing,
75 another update is running, 77 not root.
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib_deploy.sh
. "$here/lib_deploy.sh"
umask 022
cd /

main() {
  local market=auto commit from
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
  [[ -n ${ROLLBACK_REF-} ]] || bad_usage "ROLLBACK_REF is not set: name the commit to go back to"
  need_root
  need_tools git tar systemctl flock setpriv unshare useradd
  [[ -e $PREFIX/.git ]] || die $EXIT_MISSING "$PREFIX is not a git checkout: install it from one with scripts/install_systemd.sh"
  lock_deployment
  trap drop_scratch EXIT
  is_clean || die 1 "$PREFIX has changes of its own: look at 'git -C $PREFIX status', then commit or undo them"
  from=$(current_commit)
  commit=$(resolve_ref "$ROLLBACK_REF") || die 1 "'$ROLLBACK_REF' is not a commit, tag or branch of $PREFIX"
  make_scratch
  export_tree "$commit" "$scratch/tree"
  build_release "$commit" "$scratch/tree" || die 1 "the environment could not be built (above); the recorder goes on"
  systemctl stop "$UNIT"
  check_out "$commit"
  use_release "$commit"
  install_units
  install_command
  systemctl reset-failed "$UNIT" 2>/dev/null || true
  systemctl start "$UNIT" || die 1 "${commit:0:12} does not start: systemctl status $UNIT"
  restart_others || die 1 "the plain recorder runs; the units named above do not"
  say "went back from ${from:0:12} to ${commit:0:12}"
  bash "$PREFIX/scripts/verify_hk_tick_collector.sh" --market "$market" --since "1 minute ago" --env-file "$PREFIX/.env" || exit 1
}

main "$@"
exit
