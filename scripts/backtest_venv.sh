#!/usr/bin/env bash
# Makes .venv/backtest: HftBacktest and NautilusTrader, with which tests try what is exported for them. They want another
# numpy and pandas than those that are locked for the recorder, so they get an environment of their own, with what they
# compute with and nothing else.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/backtest_venv.sh

Installs requirements/backtest.txt into .venv/backtest, unless it is there
already. scripts/test.sh calls it.

Exit codes: 0 it is there, 2 usage, 69 it cannot be installed here (the reason
is printed; its tests are then left out).
USAGE
}

case ${1-} in
  '') ;;
  --help | -h) usage && exit 0 ;;
  *)
    echo "backtest_venv.sh: unknown argument: $1; --help shows the usage" >&2
    exit 2
    ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib_venv.sh
. scripts/lib_venv.sh
place=.venv/backtest
check_python
if cmp -s requirements/backtest.txt "$place/.requirements" &&
  [[ "$(interpreter "$place/bin/python")" == "$(interpreter "$python")" ]]; then
  exit 0
fi
echo "$me: installing HftBacktest and NautilusTrader into $place (half a minute, once)" >&2
trap 'interrupt_install 130' INT
trap 'interrupt_install 143' TERM
trap 'interrupt_install 129' HUP
make_beside "$place" || give_up "$place could not be made; the reason is above."
quietly "${pip[@]}" install --disable-pip-version-check --no-input --no-deps --only-binary :all: \
  --require-hashes -r requirements/backtest.txt ||
  give_up "HftBacktest and NautilusTrader could not be installed; the reason is above."
cp requirements/backtest.txt "$place/.requirements"
