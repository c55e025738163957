#!/usr/bin/env bash
# Installs the code of vendors that tests hold ours against: SinoPac's package with its classes of ticks (.venv/shioaji),
# and dxFeed's client in JavaScript (.venv/dxlink). None of it is locked with the development packages: SinoPac's index
# keeps only the newest releases of a line, so no lock file can name one for long, and the other one is npm's.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/vendors.sh

Installs the newest shioaji 1.7 with msgpack into .venv/shioaji, and @dxfeed/dxlink-api into .venv/dxlink, unless they
are there already. scripts/test.sh calls it. Without npm the second one is left out.

Exit codes: 0 all is there, 2 usage, 69 something cannot be installed here (the reason is printed; its tests are then
left out).
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

dxlink=@dxfeed/dxlink-api@0.3.0
if command -v npm >/dev/null && ! is_there .venv/dxlink "$dxlink"; then
  mkdir -p .venv/dxlink
  quietly npm install --prefix .venv/dxlink --ignore-scripts --no-audit --no-fund --no-package-lock "$dxlink" ||
    give_up "$dxlink could not be installed; the reason is above."
  echo "$dxlink" >.venv/dxlink/.wanted
fi

check_python
place=.venv/shioaji
wanted=('shioaji==1.7.*' 'msgpack==1.*')
key="${wanted[*]} $(interpreter "$python")"
if ! is_there "$place" "$key"; then
  echo "$me: installing shioaji into $place (36 MB, once)" >&2
  quietly "$python" -I -m venv --clear "$place" || give_up "$place could not be made; the reason is above."
  quietly "$place/bin/python" -I -m pip install --disable-pip-version-check --no-input --no-deps --only-binary :all: \
    "${wanted[@]}" || give_up "shioaji could not be installed; the reason is above."
  echo "$key" >"$place/.wanted"
fi
