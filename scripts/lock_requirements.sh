#!/usr/bin/env bash
# Writes requirements/*.txt: the exact files, by hash, that a release on a server is made of, and what tests install
# beside it; the same for npm in requirements/dxlink.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/lock_requirements.sh [--upgrade]

Brings requirements/build.txt, service.txt, quick.txt, dev.txt, backtest.txt and
shioaji.txt up to pyproject.toml and to the versions that this script names, for
every Python that the project works with, and requirements/dxlink up to the
package.json there; without npm that one stays as it is. What is locked stays
where it still fits; with --upgrade all of requirements/*.txt goes to its newest
version. uv, which resolves them, is installed into a directory that goes again.

Exit codes: 0 written, 1 no versions fit together, 2 usage, 69 python3 or a
package index is missing.
USAGE
}

upgrade=()
case ${1-} in
  '') ;;
  --upgrade) upgrade=(--upgrade) ;;
  --help | -h) usage && exit 0 ;;
  *)
    echo "lock_requirements.sh: unknown argument: $1; --help shows the usage" >&2
    exit 2
    ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -I -m venv "$work/venv" && "$work/venv/bin/python" -I -m pip install --quiet uv || exit 69

lock() { # lock NAME SOURCE [OPTIONS]
  "$work/venv/bin/uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command "bash scripts/lock_requirements.sh" ${upgrade[@]+"${upgrade[@]}"} \
    "$2" --output-file "requirements/$1.txt" "${@:3}"
}

mkdir -p requirements
grep -oE '"setuptools>[^"]*"' pyproject.toml | tr -d '"' >"$work/build.in"
lock build "$work/build.in"
service=(--extra alert --extra metrics --extra redis --extra screen --extra serve --extra ship --extra tools)
lock service pyproject.toml "${service[@]}"
# Against which exports are tried. Without the libraries that HftBacktest draws charts with.
printf '%s\n' 'hftbacktest>=2.4,<3' 'llvmlite==0.50.*' 'numba==0.68.*' 'numpy>=2,<2.3' >"$work/backtest.in"
printf '%s\n' 'nautilus_trader==1.221.*' 'pandas>=2.2,<3' pyarrow click fsspec msgspec portion python-dateutil pytz six \
  sortedcontainers tqdm typing_extensions tzdata uvloop >>"$work/backtest.in"
lock backtest "$work/backtest.in" --no-deps
# Against which the sources are tried.
printf '%s\n' 'shioaji==1.7.*' 'msgpack==1.*' >"$work/shioaji.in"
lock shioaji "$work/shioaji.in" --no-deps
if command -v npm >/dev/null; then # without the addresses, which are those of the registry that was asked
  npm install --prefix requirements/dxlink --package-lock-only --ignore-scripts --no-audit --no-fund --loglevel=error \
    --omit-lockfile-registry-resolved
else
  echo "lock_requirements.sh: there is no npm; requirements/dxlink/package-lock.json stays as it is" >&2
fi
# What they have in common is the same: the tests of a release run on what it will run on.
lock dev pyproject.toml --extra dev --no-emit-package hk-tick-collector --constraint requirements/service.txt
lock quick pyproject.toml "${service[@]}" --extra quick --constraint requirements/service.txt --constraint requirements/dev.txt
