#!/usr/bin/env bash
# Installs the recorder as a systemd service, from the checkout that this script stands in. May be run again.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: sudo bash scripts/install_systemd.sh [options]

Installs this checkout as the service hk-tick-collector: the system user,
/opt/futu_tick_downloader with the code and a virtual environment, the settings
file .env (from .env.example), the directory of the day files, the units, and
the command hk-tickctl with these settings, its man pages and its completion
(/usr/local). The user hk-tick-build builds the packages that
requirements/service.txt names; root installs them. Run it again to install a
newer checkout or to repair an installation: .env and data are never
overwritten, and a running recorder goes on until it is restarted.

  --start         start the service at the end, or restart it; without, the
                  command is shown
  --instance NAME set up one more recorder, too, hk-tick-collector@NAME with the
                  settings NAME.env, for another market or another OpenD;
                  --start then means this one alone
  --with NAMES    also set up what serves the ticks, one or more of api, live,
                  redis, ship and alert, by commas; --start starts them, too.
                  What was chosen once stays
  --with-opend    also install futu-opend.service and its user; OpenD itself
                  must be put into /opt/futu-opend
  --uninstall     stop and remove the service and its environments; keeps day
                  files, .env, the code and the users
  --dry-run       show what would be done and change nothing; works without root
  --help          this text

  PYTHON=python3.12 sudo -E bash scripts/install_systemd.sh
      another interpreter (3.11 is the oldest that works)
  PIP_INDEX_URL, PIP_NO_INDEX, PIP_FIND_LINKS ...
      are pip's own and work as usual; hk-tick-build must be able to read what
      they name

Exit codes: 0 done, 1 a step failed, 2 usage, 69 a tool is missing, 75 another
installation is running, 77 not root.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source_dir=$PWD
# shellcheck source=scripts/lib_deploy.sh
. scripts/lib_deploy.sh
umask 022

check_machine() {
  local python=${PYTHON:-python3}
  need_tools git tar systemctl useradd runuser setpriv unshare flock "$python"
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die $EXIT_MISSING "$("$python" --version) is too old, 3.11 is the oldest that works; name another one with PYTHON="
  "$python" -I -c 'import ensurepip, venv' 2>/dev/null ||
    die $EXIT_MISSING "$python has no venv module; on Debian and Ubuntu: sudo apt-get install python3-venv"
}

make_user() { # make_user NAME: a system user without a shell or a password
  getent passwd "$1" >/dev/null && return
  run useradd --system --user-group --home-dir "/var/lib/$1" --no-create-home --shell /usr/sbin/nologin "$1"
}

# Sets "release" to the name of what is installed: the commit, or the time for files without history.
install_code() {
  run install -d -m 0755 "$PREFIX"
  if ((DRY_RUN)); then
    printf 'would copy: %s to %s\n' "$source_dir" "$PREFIX"
    printf 'would build: as the user %s (made when missing), with %s for what it downloads\n' "$BUILD_USER" "$BUILD_CACHE"
    printf 'would install: what was built, into a new virtual environment in %s\n' "$RELEASES"
    return
  fi
  make_scratch
  if [[ -e $source_dir/.git ]]; then
    sync_checkout
    release=$(current_commit)
    export_tree "$release" "$scratch/tree"
  else
    say "$source_dir is not a git checkout: installed as it is, but redeploy and rollback need one"
    release=files-$(date -u +%Y%m%dT%H%M%SZ)
    copy_files "$scratch/tree"
    [[ $source_dir == "$PREFIX" ]] || tar -C "$scratch/tree" -cf - . | tar -x --no-same-owner -C "$PREFIX" -f -
  fi
  build_release "$release" "$scratch/tree" || die 1 "the virtual environment could not be built; the reason is above"
}

copy_files() { # copy_files DIRECTORY
  mkdir -p "$1"
  tar -C "$source_dir" --exclude=./.venv --exclude=./venv --exclude=./releases --exclude=./.env --exclude='./*.env' --exclude=./build -cf - . |
    tar -x --no-same-owner -C "$1" -f -
}

sync_checkout() {
  # A checkout may belong to the user behind sudo; git wants to be told that this is all right.
  printf '[safe]\n\tdirectory = *\n' >"$scratch/gitconfig"
  export GIT_CONFIG_GLOBAL=$scratch/gitconfig
  git -C "$source_dir" diff --quiet HEAD -- || say "changes that are not committed are left out"
  local origin
  [[ -e $PREFIX/.git ]] || git init --quiet "$PREFIX"
  printf '/venv\n/venv.new\n/releases/\n' >"$PREFIX/.git/info/exclude"
  [[ $source_dir != "$PREFIX" ]] || return 0
  origin=$(git -C "$source_dir" remote get-url origin 2>/dev/null) || origin=$source_dir
  in_prefix remote get-url origin >/dev/null 2>&1 || in_prefix remote add origin "$origin"
  in_prefix fetch --quiet --tags --no-write-fetch-head "$source_dir" "+HEAD:refs/installed/head"
  is_installed_clean || die 1 "$PREFIX has changes of its own: look at 'git -C $PREFIX status', then commit or undo them"
  check_out "$(in_prefix rev-parse refs/installed/head)"
}

is_installed_clean() {
  ! current_commit >/dev/null || is_clean
}

install_settings() { # install_settings FILE DATA_ROOT
  local file=$1
  if [[ -e $file ]]; then
    say "kept $file"
    ((DRY_RUN)) || as_service_user test -r "$file" || run chgrp "$SERVICE_USER" "$file"
    ((DRY_RUN)) || as_service_user test -r "$file" || run chmod g+r "$file"
  else
    run install -m 0640 -o root -g "$SERVICE_USER" "$source_dir/.env.example" "$file"
    run sed -i "s|^DATA_ROOT=.*|DATA_ROOT=$2|" "$file"
  fi
}

make_data_root() { # make_data_root SETTINGS DATA_ROOT_OF_THE_UNIT
  local -A facts=()
  local root=$2
  if ((!DRY_RUN)); then
    read_facts "$PREFIX/venv/bin/python" "$PREFIX/scripts/service_facts.py" --env-file "$1" 2>/dev/null &&
      root=${facts[data_root]}
  fi
  if [[ ! -d $root ]]; then
    run install -d -m 0755 "$(dirname "$root")"
    run install -d -m 0750 -o "$SERVICE_USER" -g "$SERVICE_USER" "$root"
  elif ((!DRY_RUN)) && ! as_service_user test -w "$root" -a -x "$root"; then
    say "the service user cannot write to $root: chown -R $SERVICE_USER:$SERVICE_USER $root"
  fi
}

install_opend() {
  make_user futu-opend
  run install -D -m 0644 "$PREFIX/deploy/systemd/futu-opend.service" "$UNIT_DIR/futu-opend.service"
  run install -d -m 0700 /etc/futu-opend
  run systemctl daemon-reload
  [[ -x /opt/futu-opend/FutuOpenD && -e /etc/futu-opend/FutuOpenD.xml ]] ||
    say "futu-opend.service needs /opt/futu-opend/FutuOpenD and /etc/futu-opend/FutuOpenD.xml (docs/deployment/systemd.md)"
}

# Of its own, without a group of its own: it reads as the recorder's group and owns nothing of the recorder's.
make_serve_user() { # make_serve_user USER
  getent passwd "$1" >/dev/null && return
  run useradd --system --gid "$SERVICE_USER" --home-dir "/var/lib/$1" --no-create-home --shell /usr/sbin/nologin "$1"
}

set_up_serving() { # set_up_serving NAME...
  local name
  make_serve_user "$SERVE_USER"
  [[ " $* " != *' ship '* ]] || make_serve_user "$SHIP_USER"
  # New files get the group, so that keys made by root can be read by who serves.
  run install -d -m 2750 -o root -g "$SERVICE_USER" "$SERVE_DIR"
  for name in "$@"; do
    ((DRY_RUN)) || [[ -x $PREFIX/venv/bin/hk-tick-$name ]] || die 1 "this version has no hk-tick-$name"
    install_serving "$name"
  done
}

check_serving() { # check_serving NAMES
  local name
  [[ $1 =~ ^[a-z,]+$ ]] || bad_usage "--with wants names out of: $SERVING, separated by commas"
  for name in ${1//,/ }; do
    [[ " $SERVING " == *" $name "* ]] || bad_usage "--with wants names out of: $SERVING, separated by commas, not '$name'"
  done
}

set_up_instance() { # set_up_instance NAME
  install_settings "$PREFIX/$1.env" "$DATA_DIR/$1"
  make_data_root "$PREFIX/$1.env" "$DATA_DIR/$1"
}

uninstall() {
  local name
  for name in $SERVING; do
    [[ ! -e $UNIT_DIR/hk-tick-$name.service ]] || run systemctl disable --now "hk-tick-$name.service" || true
    run rm -f "$UNIT_DIR/hk-tick-$name.service"
  done
  run rm -f "$UNIT_DIR/$FAILURE_UNIT"
  [[ ! -e $UNIT_DIR/$TARGET ]] || run systemctl disable --quiet "$TARGET" || true
  run rm -rf "$UNIT_DIR/$TARGET" "$UNIT_DIR/$TARGET.wants"
  while IFS= read -r name; do
    run systemctl disable --now "hk-tick-eod@$name.timer" "$UNIT@$name.service" || true
    [[ ! -e $UNIT_DIR/hk-tick-universe@.timer ]] || run systemctl disable --now "hk-tick-universe@$name.timer" || true
    run rm -rf "$UNIT_DIR/$UNIT@$name.service.d/10-settings.conf" "$UNIT_DIR/hk-tick-eod@$name.service.d" \
      "$(timer_drop_in_of "hk-tick-eod@$name")" "$(drop_in_of "hk-tick-universe@$name")" \
      "$(timer_drop_in_of "hk-tick-universe@$name")"
    run rmdir --ignore-fail-on-non-empty "$UNIT_DIR/$UNIT@$name.service.d" "$UNIT_DIR/hk-tick-eod@$name.timer.d" \
      "$UNIT_DIR/hk-tick-universe@$name.service.d" "$UNIT_DIR/hk-tick-universe@$name.timer.d" 2>/dev/null || true
  done < <(instances)
  run rm -f "$UNIT_DIR/$UNIT@.service" "$UNIT_DIR"/hk-tick-{eod,universe}@.{service,timer}
  run systemctl disable --now hk-tick-eod.timer || true
  [[ ! -e $UNIT_DIR/hk-tick-universe.timer ]] || run systemctl disable --now hk-tick-universe.timer || true
  run rm -rf "$UNIT_DIR/hk-tick-universe.service" "$UNIT_DIR/hk-tick-universe.timer" \
    "$(drop_in_of hk-tick-universe)" "$(timer_drop_in_of hk-tick-universe)"
  run systemctl disable --now "$UNIT.service" || true
  run rm -rf "$UNIT_DIR/$UNIT.service" "$UNIT_DIR/$UNIT.service.d/10-settings.conf" "$PREFIX/venv" "$RELEASES" "$BUILD_CACHE"
  run rm -rf "$UNIT_DIR/hk-tick-eod.service" "$UNIT_DIR/hk-tick-eod.timer" "$UNIT_DIR/hk-tick-eod.service.d" \
    "$(timer_drop_in_of hk-tick-eod)"
  run rmdir --ignore-fail-on-non-empty "$UNIT_DIR/$UNIT.service.d" "$UNIT_DIR/hk-tick-eod.timer.d" \
    "$UNIT_DIR/hk-tick-universe.service.d" "$UNIT_DIR/hk-tick-universe.timer.d" 2>/dev/null || true
  remove_command
  run systemctl daemon-reload
  run systemctl reset-failed "$UNIT.service" 2>/dev/null || true
  say "removed the service; kept day files (DATA_ROOT), $PREFIX with the settings, $SERVE_DIR, /var/lib/$SERVICE_USER, /var/lib/$SERVE_USER and the users"
}

main() {
  local start=0 opend=0 remove=0 release='' instance='' serving=() unit
  while (($#)); do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --start) start=1 ;;
      --instance)
        instance=${2-}
        is_instance_name "$instance" || bad_usage "--instance wants a name of up to 32 letters, digits, _ and -, that begins with a letter or a digit, not '$instance'"
        shift
        ;;
      --with)
        check_serving "${2-}"
        IFS=, read -ra serving <<<"$2"
        shift
        ;;
      --with-opend) opend=1 ;;
      --uninstall) remove=1 ;;
      --dry-run) DRY_RUN=1 ;;
      *) bad_usage "unknown argument: $1" ;;
    esac
    shift
  done
  need_root
  trap drop_scratch EXIT
  if ((remove)); then
    need_tools systemctl
    lock_deployment
    uninstall
    return
  fi
  check_machine
  lock_deployment
  make_user "$SERVICE_USER"
  install_code
  use_release "${release:-COMMIT}"
  install_settings "$PREFIX/.env" "$DATA_DIR/HK"
  make_data_root "$PREFIX/.env" "$DATA_DIR/HK"
  [[ -z $instance ]] || set_up_instance "$instance"
  ((${#serving[@]} == 0)) || set_up_serving "${serving[@]}"
  say "units and the command hk-tickctl"
  install_units
  install_command
  ((!opend)) || install_opend
  run systemctl enable --quiet "$UNIT.service" "$TARGET"
  run systemctl enable --quiet --now hk-tick-eod.timer
  if [[ -n $instance ]]; then
    run systemctl enable --quiet "$UNIT@$instance.service"
    run systemctl enable --quiet --now "hk-tick-eod@$instance.timer"
  fi
  for unit in ${serving[@]+"${serving[@]/#/hk-tick-}"}; do run systemctl enable --quiet "$unit.service"; done
  if ((start)); then
    for unit in ${serving[@]+"${serving[@]/#/hk-tick-}"}; do run systemctl restart "$unit.service"; done
    run systemctl restart "$UNIT${instance:+@$instance}.service"
  else
    say "installed. Set FUTU_SYMBOLS in $PREFIX/$instance.env, then: sudo systemctl restart $UNIT${instance:+@$instance}"
  fi
  if ((!DRY_RUN)); then
    say "look at it with: sudo hk-tickctl status"
  fi
}

main "$@"
exit
