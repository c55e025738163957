# shellcheck shell=bash
# Sourced by the scripts that need .venv: makes it in the project's directory, installs the project into it, and uses it
# again until pyproject.toml, the directory or the Python version changes. A signal in the middle ends the installation
# with everything it started; what is half made is repaired by the next call.
#
#   ensure_venv run     the project, with its live screen
#   ensure_venv dev     the project and its development tools (also serves "run")
#   ensure_beside NAME  .venv/NAME, an environment of its own with exactly what requirements/NAME.txt names; fails, with
#                       the reason on standard error, when it cannot be made
#
# Reads PYTHON, the interpreter to use (the system's, else python3). Exits with 69 when the environment cannot be made, with
# 130 (SIGINT), 143 (SIGTERM) or 129 (SIGHUP) after a signal.

me=${0##*/}
python=${PYTHON:-python3}
# The system's Python, where it is new enough: servers have it, and distributions build it to be fast. Tests compute a
# quarter more with one that a version manager has compiled without all that.
if [[ -z ${PYTHON-} ]] && /usr/bin/python3 -I -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
  2>/dev/null; then
  python=/usr/bin/python3
fi
installing=
install_log=

give_up() {
  printf '%s: %s\n' "$me" "$1" >&2
  exit 69
}

# The installation has a process group of its own, so that pip's children end with it.
interrupt_install() { # interrupt_install EXIT_CODE
  trap '' INT TERM HUP
  if [[ -n $installing ]]; then
    kill -TERM -- "-$!" 2>/dev/null || kill -TERM "$!" 2>/dev/null || true
    wait "$!" 2>/dev/null || true
  fi
  rm -f "$install_log"
  printf '%s: stopped during the installation; nothing was started\n' "$me" >&2
  exit "$1"
}

# An install log is worth reading only after a failure.
quietly() {
  local status=0
  install_log=$(mktemp)
  installing=yes
  setsid "$@" >"$install_log" 2>&1 </dev/null &
  wait "$!" || status=$?
  installing=
  ((status == 0)) || cat "$install_log" >&2
  rm -f "$install_log"
  return "$status"
}

check_python_version() {
  command -v "$python" >/dev/null ||
    give_up "$python not found. On Debian and Ubuntu: sudo apt-get install python3 python3-venv"
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    give_up "$("$python" --version) is too old, 3.11 is the oldest that works. Name another one: PYTHON=python3.12 bash scripts/$me"
}

check_python() {
  check_python_version
  "$python" -I -c 'import ensurepip, venv' 2>/dev/null ||
    give_up "$python has no venv module. On Debian and Ubuntu: sudo apt-get install python3-venv"
}

interpreter() { # interpreter PYTHON: which one it is, the same for a virtual environment made from it
  "$1" -I -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null
}

# What the environment depends on; written into it only after the installation succeeded.
fingerprint() {
  interpreter "$python"
  pwd
  cat pyproject.toml
}

is_installed() { # is_installed run|dev
  [[ -x .venv/bin/hk-tick-collector && -f .venv/.fingerprint-$1 ]] && fingerprint | cmp -s - ".venv/.fingerprint-$1"
}

ensure_venv() { # ensure_venv run|dev
  local what='.[screen]'
  [[ $1 == dev ]] && what='.[dev]'
  check_python
  is_installed "$1" && return
  echo "$me: installing into .venv (a minute or two, once)" >&2
  trap 'interrupt_install 130' INT
  trap 'interrupt_install 143' TERM
  trap 'interrupt_install 129' HUP
  if [[ "$(interpreter .venv/bin/python)" != "$(interpreter "$python")" ]] ||
    ! .venv/bin/python -I -m pip --version >/dev/null 2>&1; then
    quietly "$python" -I -m venv --clear .venv || give_up ".venv could not be made; the reason is above."
  fi
  renew_pip
  quietly .venv/bin/python -I -m pip install --disable-pip-version-check --no-input -e "$what" ||
    give_up "pip could not install the project; the reason is above. It needs a package index (PIP_INDEX_URL names one)."
  fingerprint >.venv/.fingerprint-run
  [[ $1 == dev ]] && cp .venv/.fingerprint-run .venv/.fingerprint-dev
  trap - INT TERM HUP
}

# Python brings the pip of its own day along. One from before 25 fetches and resolves in small steps: our development tools
# take it half as much computing again. Where no newer one can be had, the old one installs the same.
renew_pip() {
  .venv/bin/python -I -c 'import pip; raise SystemExit(int(pip.__version__.split(".")[0]) < 25)' && return
  # shellcheck disable=SC2016 # read by the inner shell
  quietly bash -c '"$@" || true' renew .venv/bin/python -I -m pip install --disable-pip-version-check --no-input --retries 0 \
    --upgrade pip
}

# It is the same for every clone: where there is a directory for caches (XDG_CACHE_HOME, or root's own) it is made there
# once, and .venv has a link to it. What nobody wanted for a month is removed.
ensure_beside() { # ensure_beside NAME
  local lock=requirements/$1.txt place=.venv/$1 cache=${XDG_CACHE_HOME:-} wanted kept
  wanted=$({ cat "$lock" && interpreter "$python"; } | sha256sum | cut -c1-16)
  [[ -n $cache ]] || ((EUID)) || cache=/var/cache
  kept=${cache:+$cache/hk-tick-collector-tests/beside-$1-$wanted}
  # Not one that belongs to somebody else: its programs are run.
  if [[ -z $kept ]] || ! mkdir -p "${kept%/*}" 2>/dev/null || [[ ! -O ${kept%/*} || ! -w ${kept%/*} ]]; then
    kept=$place
  fi
  if ! printf '%s\n' "$wanted" | cmp -s - "$kept/.wanted"; then
    echo "$me: installing $1 into $kept (once)" >&2
    fill_beside "$lock" "$kept" "$wanted" || return
  fi
  [[ $kept != "$place" ]] || return 0
  touch "$kept"
  find "${kept%/*}" -mindepth 1 -maxdepth 1 -name "beside-$1-*" -mtime +30 -exec rm -rf {} +
  [[ -L $place ]] || rm -rf "$place"
  mkdir -p .venv
  ln -sfn "$kept" "$place"
}

# Whoever looks sees all of it or nothing. A pip of its own is most of what an environment costs, so that of .venv fills
# it, where there is one that can.
fill_beside() { # fill_beside LOCK PLACE MARK
  local making pip
  mkdir -p "${2%/*}"
  making=$(mktemp -d "$2.XXXXXX") || return
  pip=(.venv/bin/python -I -m pip --python "$making/bin/python")
  quietly "$python" -I -m venv --without-pip "$making" || { rm -rf "$making" && return 1; }
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    pip=("$making/bin/python" -I -m pip)
    quietly "$python" -I -m venv "$making" || { rm -rf "$making" && return 1; }
  fi
  quietly "${pip[@]}" install --disable-pip-version-check --no-input --no-deps --only-binary :all: --require-hashes \
    -r "$1" || { rm -rf "$making" && return 1; }
  printf '%s\n' "$3" >"$making/.wanted"
  chmod 755 "$making"
  rm -rf "$2"
  mv -T "$making" "$2" 2>/dev/null || rm -rf "$making" # somebody else was faster
}
