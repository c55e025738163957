#!/usr/bin/env bash
# Installs the code of vendors that tests hold ours against: SinoPac's package with its classes of ticks (.venv/shioaji),
# and dxFeed's client in JavaScript (.venv/dxlink). None of it is locked with the development packages: SinoPac's index
# keeps only the newest releases of a line, so no lock file can name one for long, and the other one is npm's.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/vendors.sh

Installs the newest shioaji 1.7 with msgpack into .venv/shioaji, and
@dxfeed/dxlink-api into .venv/dxlink, unless they are there already.
scripts/test.sh calls it. Without npm the second one is not asked for.

Exit codes: 0 all is there, 2 usage, 69 something cannot be installed here (the
reason is printed; its tests are then left out).
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

is_there() { # is_there PLACE WANTED
  [[ "$(cat "$1/.wanted" 2>/dev/null)" == "$2" ]]
}

failed=0

leave_out() { # leave_out REASON: the other one may be there to be had
  printf '%s: %s\n' "$me" "$1" >&2
  failed=69
}

install_dxlink() { # only what is complete has the mark that tests look for
  rm -rf .venv/dxlink
  mkdir -p .venv/dxlink
  quietly npm install --prefix .venv/dxlink --ignore-scripts --no-audit --no-fund --no-package-lock "$dxlink" || return
  echo "$dxlink" >.venv/dxlink/.wanted
}

dxlink=@dxfeed/dxlink-api@0.3.0
if command -v npm >/dev/null && ! is_there .venv/dxlink "$dxlink"; then
  if node --experimental-websocket -e WebSocket 2>/dev/null; then
    install_dxlink || leave_out "$dxlink could not be installed; the reason is above."
  else
    leave_out "$dxlink needs a Node with WebSocket, 20.10 or newer; this one is $(node --version || true)."
  fi
fi

install_shioaji() {
  quietly "$python" -I -m venv --clear "$place" || return
  quietly "$place/bin/python" -I -m pip install --disable-pip-version-check --no-input --no-deps --only-binary :all: \
    "${wanted[@]}" || return
  echo "$key" >"$place/.wanted"
}

check_python
place=.venv/shioaji
wanted=('shioaji==1.7.*' 'msgpack==1.*')
key="${wanted[*]} $(interpreter "$python")"
if ! is_there "$place" "$key"; then
  echo "$me: installing shioaji into $place (36 MB, once)" >&2
  install_shioaji || leave_out "shioaji could not be installed; the reason is above."
fi
exit "$failed"
