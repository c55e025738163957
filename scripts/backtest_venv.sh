#!/usr/bin/env bash
# Makes .venv/backtest: HftBacktest and NautilusTrader, with which tests try what is exported for them. They want another
# numpy and pandas than those that are locked for the recorder, so they get an environment of their own, with what they
# compute with and nothing else.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/backtest_venv.sh

Installs requirements/backtest.txt into .venv/backtest, unless it is there
already. As root, or where XDG_CACHE_HOME is set, it is kept there (/var/cache)
for all clones, and .venv/backtest is a link. scripts/test.sh calls this.

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
check_python
trap 'interrupt_install 130' INT
trap 'interrupt_install 143' TERM
trap 'interrupt_install 129' HUP
ensure_beside backtest || give_up "HftBacktest and NautilusTrader could not be installed; the reason is above."
