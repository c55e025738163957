# shellcheck shell=bash
# Sourced by the scripts that install, update and roll back the service. What stands where on the server:
#
#   /opt/futu_tick_downloader              a git checkout, root's: scripts, unit files and documents of the version in use
#   /opt/futu_tick_downloader/.env         the settings; root's, readable by the service's group
#   /opt/futu_tick_downloader/releases/X   one virtual environment a version, X being the commit; never changed once made
#   /opt/futu_tick_downloader/venv         link to the release in use; the unit starts the recorder from here
#
# A release is built beside the one that records, and the switch is one rename.
#
# Every return names its status: a bare one inside a trap gives the status from before the trap.

# shellcheck disable=SC2034 # used by the scripts that source this file
readonly EXIT_MISSING=69 EXIT_BUSY=75 EXIT_NOT_ROOT=77
readonly PREFIX=/opt/futu_tick_downloader
readonly RELEASES=$PREFIX/releases
readonly UNIT=hk-tick-collector
readonly SERVICE_USER=hk-tick-collector
readonly UNIT_DIR=/etc/systemd/system
readonly KEPT_RELEASES=5
readonly STOP_MARGIN_SEC=60

me=${0##*/}
DRY_RUN=${DRY_RUN:-0}
scratch=

say() { printf '%s: %s\n' "$me" "$1"; }

die() { # die EXIT_CODE TEXT
  printf '%s: %s\n' "$me" "$2" >&2
  exit "$1"
}

bad_usage() {
  printf '%s: %s; --help shows the usage\n' "$me" "$1" >&2
  exit 2
}

# With --dry-run every change is shown in place of being made.
run() {
  if ((DRY_RUN)); then
    printf 'would run:'
    printf ' %q' "$@"
    printf '\n'
  else
    "$@"
  fi
}

need_root() {
  ((EUID == 0 || DRY_RUN)) || die $EXIT_NOT_ROOT "this changes the system: run it with sudo"
}

need_tools() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || die $EXIT_MISSING "$tool not found; on Debian and Ubuntu: sudo apt-get install $(package_of "$tool")"
  done
}

package_of() {
  case $1 in
    systemctl | journalctl) echo systemd ;;
    flock | runuser) echo util-linux ;;
    useradd) echo passwd ;;
    *) echo "$1" ;;
  esac
}

# One installation, update or rollback at a time.
lock_deployment() {
  ((DRY_RUN)) && return 0
  exec 9>/run/lock/hk-tick-collector-deploy.lock
  flock -n 9 || die $EXIT_BUSY "another installation or update is running; wait until it has ended"
}

make_scratch() {
  scratch=$(mktemp -d)
  chmod 755 "$scratch" # the tests in it run as the service user
}

drop_scratch() {
  [[ -z $scratch ]] || rm -rf "$scratch"
}

in_prefix() { git -C "$PREFIX" "$@"; }

current_commit() { in_prefix rev-parse --verify --quiet HEAD; }

# The release that the service starts; empty when there is none.
current_release() {
  [[ ! -L $PREFIX/venv ]] || basename "$(readlink "$PREFIX/venv")"
}

is_clean() {
  [[ -z $(in_prefix status --porcelain --untracked-files=no) ]]
}

# Branches of origin come first: a local branch of that name may be old.
resolve_ref() { # resolve_ref REF: the commit it names
  local name
  for name in "refs/remotes/origin/$1" "refs/tags/$1" "$1"; do
    in_prefix rev-parse --verify --quiet "$name^{commit}" && return 0
  done
  return 1
}

export_tree() { # export_tree COMMIT DIRECTORY: its files and nothing that lies about in the checkout
  mkdir -p "$2"
  in_prefix archive --format=tar "$1" | tar -x -C "$2"
}

interpreter() { # interpreter PYTHON: which one it is, the same for a virtual environment made from it
  "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null
}

# Begins with the packages of the release in use, if it has the same interpreter: what has not changed is not downloaded
# again, and an update without new requirements brings no new versions of them.
seed_release() { # seed_release DIRECTORY
  local used
  used=$(current_release) || return 0
  [[ -n $used && -d $RELEASES/$used/lib ]] || return 0
  [[ "$(interpreter "$RELEASES/$used/bin/python")" == "$(interpreter "$1/bin/python")" ]] || return 0
  rm -rf "${1:?}/lib" || return 1
  cp -a --reflink=auto "$RELEASES/$used/lib" "$1/lib" || return 1
}

# Makes releases/COMMIT unless it is there, with what METRICS_PORT and hk-tickctl need. With "dev" the tools that the
# tests need come along. A version from before an extra existed (rollback) is installed without it; pip only warns.
build_release() { # build_release COMMIT SOURCE [dev]
  local release=$RELEASES/$1 source=$2 what=${3-}
  local python=${PYTHON:-python3}
  if [[ -f $release/.complete ]] && { [[ -z $what ]] || "$release/bin/python" -c 'import pytest' 2>/dev/null; }; then
    say "release ${1:0:12} is already built"
    return 0
  fi
  if [[ ! -f $release/.complete ]]; then
    rm -rf "$release"
    mkdir -p "$RELEASES" || return 1
    "$python" -m venv "$release" || return 1
    seed_release "$release" || return 1
  fi
  "$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "${source}[${what:-metrics,tools}]" || return 1
  touch "$release/.complete" || return 1
}

# The service goes on with the code it has loaded; the next start takes the new release.
use_release() { # use_release NAME
  run ln -sfn "releases/$1" "$PREFIX/venv.new" || return 1
  run mv -T "$PREFIX/venv.new" "$PREFIX/venv"
}

check_out() { # check_out COMMIT
  run git -C "$PREFIX" -c advice.detachedHead=false checkout --quiet --detach "$1"
}

prune_releases() { # prune_releases NAME...: keeps these and the newest few
  local kept=0 release name
  while IFS= read -r release; do
    name=${release##*/}
    [[ " $* " == *" $name "* ]] && continue
    kept=$((kept + 1))
    ((kept <= KEPT_RELEASES)) || run rm -rf "$release"
  done < <(find "$RELEASES" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort -rn | cut -d' ' -f2-)
}

# Reads the facts of service_facts.py into the associative array "facts"; its exit code.
read_facts() { # read_facts PYTHON SCRIPT [ARGUMENTS]
  local text key value status=0
  text=$("$@") || status=$?
  while IFS='=' read -r key value; do
    # shellcheck disable=SC2154 # declared by the caller
    [[ -z $key ]] || facts[$key]=$value
  done <<<"$text"
  return "$status"
}

# Unit and drop-in as the checkout and .env say. The drop-in is ours alone and is written anew each time.
install_units() {
  local drop_in=$UNIT_DIR/$UNIT.service.d/10-settings.conf
  run install -D -m 0644 "$PREFIX/deploy/systemd/$UNIT.service" "$UNIT_DIR/$UNIT.service" || return 1
  install_end_of_day || return 1
  if ((DRY_RUN)); then
    printf 'would write: %s (DATA_ROOT and the time to stop, if .env says other than the unit)\n' "$drop_in"
  else
    write_drop_in "$drop_in" || return 1
  fi
  run systemctl daemon-reload
}

# The end-of-day job and its timer. A version from before they existed (rollback) has none: then they go.
install_end_of_day() {
  local file
  for file in hk-tick-eod.service hk-tick-eod.timer; do
    if [[ -e $PREFIX/deploy/systemd/$file ]]; then
      run install -m 0644 "$PREFIX/deploy/systemd/$file" "$UNIT_DIR/$file" || return 1
    else
      run rm -f "$UNIT_DIR/$file"
    fi
  done
}

write_drop_in() { # write_drop_in FILE
  local -A facts=()
  local lines='' mounts='' stop_sec
  if ! read_facts "$PREFIX/venv/bin/python" "$PREFIX/scripts/service_facts.py" --env-file "$PREFIX/.env"; then
    say "$PREFIX/.env is not right yet (above); the service will not start before it is"
    return 0
  fi
  if [[ ${facts[data_root]} != /data/sqlite/HK ]]; then
    mounts="[Unit]"$'\n'"RequiresMountsFor=${facts[data_root]}"$'\n'
    lines+="ReadWritePaths=-${facts[data_root]}"$'\n'
  fi
  stop_sec=$((${facts[stop_flush_timeout_sec]%.*} + STOP_MARGIN_SEC))
  ((stop_sec <= 120)) || lines+="TimeoutStopSec=$stop_sec"$'\n'
  write_end_of_day_drop_in
  if [[ -z $lines ]]; then
    rm -f "$1"
    return 0
  fi
  install -d -m 0755 "${1%/*}"
  printf '# Written by scripts/install_systemd.sh from .env.\n%s[Service]\n%s' "$mounts" "$lines" >"$1"
  chmod 0644 "$1"
}

# Another DATA_ROOT, and an ARCHIVE_ROOT, must be writable for the end-of-day job.
write_end_of_day_drop_in() {
  local file=$UNIT_DIR/hk-tick-eod.service.d/10-settings.conf lines=''
  [[ ${facts[data_root]} == /data/sqlite/HK ]] || lines+="ReadWritePaths=-${facts[data_root]}"$'\n'
  [[ -z ${facts[archive_root]-} ]] || lines+="ReadWritePaths=-${facts[archive_root]}"$'\n'
  if [[ -z $lines ]]; then
    rm -f "$file"
    return 0
  fi
  install -d -m 0755 "${file%/*}"
  printf '# Written by scripts/install_systemd.sh from .env.\n[Service]\n%s' "$lines" >"$file"
  chmod 0644 "$file"
}

as_service_user() { runuser -u "$SERVICE_USER" -- "$@"; }
