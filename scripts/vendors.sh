#!/usr/bin/env bash
# Installs the code of vendors that tests hold ours against: SinoPac's package with its classes of ticks (.venv/shioaji),
# and dxFeed's client in JavaScript (.venv/dxlink). Both by hash: a check may run as root. SinoPac's index keeps only the
# newest releases of a line, so its lock is apart from those that a release needs.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/vendors.sh

Installs requirements/shioaji.txt into .venv/shioaji, and requirements/dxlink
with npm into .venv/dxlink, unless they are there already. As root, or where
XDG_CACHE_HOME is set, the first one is kept there (/var/cache) for all clones,
and .venv/shioaji is a link. scripts/test.sh calls this. Without npm the second
one is not asked for.

Exit codes: 0 all is there, 2 usage, 69 something cannot be installed here (the
reason is printed; its tests are then left out). A release that its index has no
more: bash scripts/lock_requirements.sh --upgrade
USAGE
}

case ${1-} in
  '') ;;
  --help | -h) usage && exit 0 ;;
  *)
    echo "vendors.sh: unknown argument: $1; --help shows the usage" >&2
    exit 2
    ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib_venv.sh
. scripts/lib_venv.sh
trap 'interrupt_install 130' INT
trap 'interrupt_install 143' TERM
trap 'interrupt_install 129' HUP

failed=0

leave_out() { # leave_out REASON: the other one may be there to be had
  printf '%s: %s\n' "$me" "$1" >&2
  failed=69
}

lock=requirements/dxlink/package-lock.json

install_dxlink() { # only what is complete has the mark that tests look for
  rm -rf .venv/dxlink
  mkdir -p .venv/dxlink
  cp requirements/dxlink/package.json "$lock" .venv/dxlink/
  quietly npm ci --prefix .venv/dxlink --ignore-scripts --no-audit --no-fund || return
  cp "$lock" .venv/dxlink/.wanted
}

if command -v npm >/dev/null && ! cmp -s "$lock" .venv/dxlink/.wanted; then
  if node --experimental-websocket -e WebSocket 2>/dev/null; then
    install_dxlink || leave_out "dxFeed's client could not be installed; the reason is above."
  else
    leave_out "dxFeed's client needs a Node with WebSocket, 20.10 or newer; this one is $(node --version || true)."
  fi
fi

check_python
ensure_beside shioaji || leave_out "shioaji could not be installed; the reason is above."
exit "$failed"
