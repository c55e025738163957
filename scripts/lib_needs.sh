# shellcheck shell=bash
# Sourced by scripts/test.sh and .ci/run, behind lib_venv.sh: the one list of what the tests need from the system, beside
# Python's packages.
#
# ensure_needs installs what is missing where that is allowed (root, apt-get); else it says the command and the script
# ends with 69 before any test. The directory of promtool goes first in PATH.

readonly PROMTOOL_DIR=$PWD/.cache/bin

missing_packages() {
  local tool
  # shellcheck disable=SC2154 # of lib_venv.sh
  "$python" -I -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  # Queries of the documents are run as they stand there; scripts are held by shellcheck.
  for tool in git sqlite3 shellcheck; do
    command -v "$tool" >/dev/null || echo "$tool"
  done
  # ps and pkill, kill and lsof as an operator has them.
  command -v ps >/dev/null || echo procps
  # A clock that tests of a stepped clock can move.
  compgen -G "/usr/lib/*/faketime/libfaketime.so.1" >/dev/null || echo libfaketime
  # Servers that tests start by themselves; where systemd runs, these packages start one each, which nothing here uses.
  command -v redis-server >/dev/null || echo redis-server
  command -v nginx >/dev/null || [[ -x /usr/sbin/nginx ]] || echo nginx-light
  # The dashboard is looked at in a browser. The one that has no window at all computes a third; Ubuntu has none.
  command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null ||
    { grep -q '^ID=ubuntu' /etc/os-release 2>/dev/null && echo chromium; } || echo chromium-headless-shell
  # systemd-analyze reads the unit files.
  command -v systemd-analyze >/dev/null || echo systemd
  # Machines are made and booted by root alone; for others those tests say so and are left out.
  ((EUID == 0)) || return 0
  command -v mmdebstrap >/dev/null || echo mmdebstrap
  [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || echo debian-archive-keyring
  command -v systemd-nspawn >/dev/null || echo systemd-container
}

ensure_needs() {
  local packages
  export PATH=$PROMTOOL_DIR:$PATH
  mapfile -t packages < <(missing_packages)
  if ((${#packages[@]})); then
    install_packages "${packages[@]}"
  fi
  command -v promtool >/dev/null || fetch_promtool
}

install_packages() { # install_packages PACKAGE...
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    need_by_hand "the tests need: $*. On Debian and Ubuntu: sudo apt-get update && sudo apt-get install --no-install-recommends $*"
  fi
  echo "${0##*/}: installing $*" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >/dev/null ||
    need_by_hand "apt-get could not install $* (above)"
}

need_by_hand() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 69
}

# promtool alone, out of its package; where it has none of its own (Debian 12) out of prometheus's (19 MB to fetch):
# installing that brings 330 MB and starts a server.
fetch_promtool() {
  local work status=0
  work=$(mktemp -d)
  { download_promtool "$work" && mkdir -p "$PROMTOOL_DIR" &&
    dpkg-deb --fsys-tarfile "$work"/prom*.deb | tar -x -C "$work" ./usr/bin/promtool &&
    mv "$work/usr/bin/promtool" "$PROMTOOL_DIR/"; } >&2 || status=1
  rm -rf "$work"
  ((status == 0)) || need_by_hand "the tests need promtool. On Debian and Ubuntu: sudo apt-get update &&\
 sudo apt-get install --no-install-recommends promtool (Debian 12: prometheus)"
}

download_promtool() { # download_promtool DIRECTORY
  local package
  command -v apt-get >/dev/null || return
  [[ -n $(apt-cache --names-only search '^prometheus$') ]] || ((EUID != 0)) || apt-get update -qq
  package=prometheus
  [[ -z $(apt-cache --names-only search '^promtool$') ]] || package=promtool
  (cd "$1" && apt-get download -qq -o APT::Sandbox::User=root "$package") && return
  ((EUID == 0)) && apt-get update -qq && (cd "$1" && apt-get download -qq -o APT::Sandbox::User=root "$package")
}
