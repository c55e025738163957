# shellcheck shell=bash
# Sourced by the scripts that install, update and roll back the service. What stands where on the server:
#
#   /opt/futu_tick_downloader              a git checkout, root's: scripts, unit files and documents of the version in use
#   /opt/futu_tick_downloader/.env         the settings; root's, readable by the service's group
#   /opt/futu_tick_downloader/NAME.env     those of one more recorder, hk-tick-collector@NAME
#   /etc/hk-tick-serve                     for the file of keys; root's, readable by the service's group
#   /opt/futu_tick_downloader/releases/X   one virtual environment a version, X being the commit; never changed once made
#   /opt/futu_tick_downloader/venv         link to the release in use; the unit starts the recorder from here
#
# A release is built beside the one that records, and the switch is one rename.
#
# Building runs code of others: the setup.py of a source package, the build of a version that nobody has looked at yet.
# So BUILD_USER builds wheels, of exactly the files that the version's lock file names, and root only unpacks them.
# Root starts every Python with -I: the current directory may hold modules that somebody left for it.
#
# Every return names its status: a bare one inside a trap gives the status from before the trap.

# shellcheck disable=SC2034 # used by the scripts that source this file
readonly EXIT_MISSING=69 EXIT_BUSY=75 EXIT_NOT_ROOT=77
readonly PREFIX=/opt/futu_tick_downloader
readonly RELEASES=$PREFIX/releases
readonly UNIT=hk-tick-collector
readonly SERVICE_USER=hk-tick-collector
readonly SERVE_USER=hk-tick-serve # of the programs that serve; in the recorder's group, which reads day files
readonly SERVE_DIR=/etc/hk-tick-serve
readonly SHIP_USER=hk-tick-ship # of what brings days to ClickHouse; in the recorder's group, too
readonly SERVING='api live redis ship alert' # hk-tick-NAME.service each, installed by choice
readonly TARGET=hk-tick.target # all recorders and what serves, as one
readonly FAILURE_UNIT=hk-tick-failure@.service # with alert: notes which unit failed
readonly BUILD_USER=hk-tick-build
readonly BUILD_CACHE=/var/cache/hk-tick-build
readonly DEPLOY_LOCK=/run/hk-tick-collector-deploy
readonly UNIT_DIR=/etc/systemd/system
readonly COMMAND=/usr/local/bin/hk-tickctl # on everybody's path, with the service's settings
readonly SHARE_PREFIX=/usr/local # of its man pages and its completion
readonly DATA_DIR=/data/sqlite # what the units know: HK in it, and a directory for each further recorder
readonly EXTRAS='alert,metrics,redis,screen,serve,ship,tools' # of the package; those of service.txt
readonly KEPT_RELEASES=5
readonly STOP_MARGIN_SEC=60

me=${0##*/}
scripts_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DRY_RUN=${DRY_RUN:-0}
scratch=

say() { printf '%s: %s\n' "$me" "$1" || true; } # whoever reads it may be gone, which stops nothing

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
    flock | runuser | setpriv | unshare) echo util-linux ;;
    useradd) echo passwd ;;
    *) echo "$1" ;;
  esac
}

# One installation, update or rollback at a time. The lock is a directory in /run, where root alone makes names: nobody
# else can hold it, and nothing is written through it.
lock_deployment() {
  ((DRY_RUN)) && return 0
  mkdir -m 0700 "$DEPLOY_LOCK" 2>/dev/null || true
  [[ ! -L $DEPLOY_LOCK && $(stat -c '%F %u %a' "$DEPLOY_LOCK" 2>/dev/null) == 'directory 0 700' ]] ||
    die 1 "$DEPLOY_LOCK is not a directory of root's with mode 0700: look at it, then remove it"
  exec 9<"$DEPLOY_LOCK"
  flock -n 9 || die $EXIT_BUSY "another installation or update is running; wait until it has ended"
}

# In /var/tmp: the wheels are some hundred MB, and /tmp may be memory.
make_scratch() {
  scratch=$(mktemp -d -p /var/tmp hk-tick-deploy.XXXXXXXX)
  chmod 755 "$scratch" # the build and the tests in it run as other users
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

# A commit is named by itself: a branch or tag that somebody gave the same name never stands for it. For other names
# branches of origin come first: a local branch of that name may be old.
resolve_ref() { # resolve_ref REF: the commit it names
  local ref=$1 commit
  is_ref_name "$ref" || return 1
  if [[ $ref =~ ^[0-9a-fA-F]{7,40}$ ]]; then
    commit=$(commit_by_hash "$ref") || return 1
    if [[ -n $commit ]]; then
      ! named_commit "$ref" >/dev/null ||
        say "'$ref' is also the name of a branch or tag; taken is the commit ${commit:0:12}" >&2
      printf '%s\n' "$commit"
      return 0
    fi
    ((${#ref} < 40)) || return 1
  fi
  named_commit "$ref"
}

is_ref_name() { # is_ref_name TEXT: what can name a branch or tag, and no expression as main@{1} or :/text
  [[ $1 != -* && $1 != HEAD ]] && git check-ref-format "refs/heads/$1"
}

# Nothing when there is none; fails when several begin with these digits.
commit_by_hash() { # commit_by_hash DIGITS
  local object commits=()
  while IFS= read -r object; do
    [[ $(in_prefix cat-file -t "$object" 2>/dev/null) != commit ]] || commits+=("$object")
  done < <(in_prefix rev-parse --disambiguate="${1,,}" 2>/dev/null)
  ((${#commits[@]} < 2)) || { say "'$1' begins several commits: give more digits" >&2 && return 1; }
  printf '%s' "${commits[*]}"
}

named_commit() { # named_commit NAME
  local prefix
  for prefix in refs/remotes/origin refs/tags refs/heads refs/remotes; do
    in_prefix rev-parse --verify --quiet --end-of-options "$prefix/$1^{commit}" && return 0
  done
  return 1
}

export_tree() { # export_tree COMMIT DIRECTORY: its files and nothing that lies about in the checkout
  mkdir -p "$2"
  in_prefix archive --format=tar "$1" | tar -x -C "$2"
}

has_module() { "$1" -I -c "import $2" 2>/dev/null; } # has_module PYTHON NAME

make_venv() { "${PYTHON:-python3}" -I -m venv "$@"; } # make_venv [--without-pip] DIRECTORY

# Makes releases/COMMIT unless it is there, with what METRICS_PORT and hk-tickctl need. With "quick" what the quick tests
# need comes along, with "dev" what all of them need.
build_release() { # build_release COMMIT SOURCE [quick|dev]
  local release=$RELEASES/$1 what=${3:-service}
  [[ $what != quick || -e $2/requirements/quick.txt ]] || what=dev # a version from before that list
  if [[ -f $release/.complete ]] && has_tests_of "$what" "$release/bin/python"; then
    say "release ${1:0:12} is already built"
    return 0
  fi
  fill_release "$release" "$2" "$what" && return 0
  [[ -f $release/.complete ]] || rm -rf "$release"
  return 1
}

fill_release() { # fill_release RELEASE SOURCE service|quick|dev
  local release=$1 lock=$2/requirements/$3.txt wanted
  wanted=$lock
  [[ -f $release/.complete ]] || begin_release "$release" "$lock" || return 1
  build_wheels "$2" "$3" "$release/bin/python" "$wanted" || return 1
  say "installing release $(basename "$release" | cut -c1-12)"
  # Wheels are unpacked: nothing of them runs. There are no others than those of the lock file to choose from.
  "$release/bin/python" -I -m pip --isolated install --quiet --disable-pip-version-check --no-input --no-index \
    --no-cache-dir --no-compile --only-binary=:all: --find-links "$scratch/build/wheels" "hk-tick-collector[$(extras_of "$3")]" || return 1
  # The service may write nothing there, so it is compiled now: all but the tests that libraries bring along, which are a
  # quarter of it. A file that no Python of today understands is none that is imported.
  "$release/bin/python" -I -m compileall -q -x 'site-packages/.*/tests?/' "$release/lib" >/dev/null || true
  [[ ! -f $lock ]] || cp "$lock" "$release/.locked" || return 1
  touch "$release/.complete" || return 1
}

# An environment with what the release in use has of it already (scripts/take_over.py), which is nearly all of it in most
# updates. Sets "wanted" to the lock file of the rest.
begin_release() { # begin_release RELEASE LOCK
  local in_use total rest
  in_use=$(current_release)
  make_empty "$1" || return 1
  [[ -n $in_use && -f $2 ]] || return 0
  if "$1/bin/python" -I "$scripts_dir/take_over.py" "$RELEASES/$in_use" "$1" "$2" >"$scratch/missing.txt"; then
    wanted=$scratch/missing.txt
    total=$(count_packages "$2") rest=$(count_packages "$wanted")
    say "$((total - rest)) of $total packages are linked from the release in use"
  else
    say "the release in use could not be linked from (above): all is built anew"
    make_empty "$1"
  fi
}

make_empty() { rm -rf "$1" && mkdir -p "$RELEASES" && make_venv "$1"; } # make_empty RELEASE

count_packages() { grep -c '^[^#[:space:]]' "$1" || true; } # count_packages LOCK

has_tests_of() { # has_tests_of service|quick|dev PYTHON: what those tests need is installed
  case $1 in
    quick) has_module "$2" pytest ;;
    dev) has_module "$2" xdist ;;
  esac
}

extras_of() { # extras_of service|quick|dev: of the package
  case $1 in
    service) printf '%s' "$EXTRAS" ;;
    quick) printf '%s' "$EXTRAS,quick" ;;
    dev) printf 'dev' ;;
  esac
}

# Fills $scratch/build/wheels, as BUILD_USER, and makes the wheels root's.
build_wheels() { # build_wheels SOURCE service|quick|dev PYTHON LOCK: see wheels_of
  local work=$scratch/build ticker status=0
  make_build_user || return 1
  rm -rf "$work"
  install -d -o "$BUILD_USER" -g "$BUILD_USER" -m 0755 "$work" || return 1
  say "building as $BUILD_USER; what is not in $BUILD_CACHE is downloaded"
  report_progress "$work" 9>&- &
  ticker=$!
  (cd / && as_build_user "$work" bash -c "$(declare -p EXTRAS; declare -f make_venv extras_of wheels_of); wheels_of \"\$@\"" wheels_of "$1" "$work" "${@:2}") || status=1
  { kill "$ticker" && wait "$ticker"; } 2>/dev/null || true
  ((status == 0)) || return 1
  # Nobody writes there any more. A link, by name or to another file, is no wheel.
  [[ -d $work/wheels && ! -L $work/wheels ]] || die 1 "the build left no directory of wheels"
  chown -h root:root "$work" "$work/wheels" || return 1
  [[ -z $(find "$work/wheels" -mindepth 1 ! '(' -type f -links 1 -name '*.whl' ')') ]] || die 1 "the build left other things than wheels"
  find "$work/wheels" -type f -exec chown root:root {} + -exec chmod 0644 {} + || return 1
}

# A line every few seconds while packages are fetched and built, which takes minutes on a slow line. Ends with us.
report_progress() { # report_progress DIRECTORY
  local begin=$SECONDS size
  while sleep "${PROGRESS_SEC:-10}" >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    size=$(du -sm "$1" 2>/dev/null | cut -f1)
    say "still building after $((SECONDS - begin)) s, ${size:-0} MB so far"
  done
}

make_build_user() {
  getent passwd "$BUILD_USER" >/dev/null ||
    useradd --system --user-group --home-dir "$BUILD_CACHE" --no-create-home --shell /usr/sbin/nologin "$BUILD_USER" || return 1
  install -d -o "$BUILD_USER" -g "$BUILD_USER" -m 0700 "$BUILD_CACHE"
}

# In a process namespace of its own: when the command ends, whatever it left running ends with it. Of the environment
# it gets what pip reads.
as_build_user() { # as_build_user WORK COMMAND...
  local work=$1 name keep=()
  shift
  for name in $(compgen -e); do
    case $name in
      PIP_CACHE_DIR | PIP_CONFIG_FILE) ;; # another user's
      PIP_* | [Hh][Tt][Tt][Pp]*_[Pp][Rr][Oo][Xx][Yy] | [Nn][Oo]_[Pp][Rr][Oo][Xx][Yy] | SSL_CERT_* | PYTHON) keep+=("$name=${!name}") ;;
    esac
  done
  unshare --fork --pid --kill-child setpriv --reuid="$BUILD_USER" --regid="$BUILD_USER" --clear-groups --no-new-privs --inh-caps=-all \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME="$BUILD_CACHE" \
    TMPDIR="$work" PIP_CACHE_DIR="$BUILD_CACHE/pip" PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    ${keep[@]+"${keep[@]}"} "$@" 9>&-
}

# The part that runs as BUILD_USER: wheels of what LOCK names, and of the version. PYTHON, of an environment of root's, has
# the pip: one more would be a third of the build. A version from before the lock files (rollback) gets the newest
# packages that fit.
wheels_of() { # wheels_of SOURCE WORK service|quick|dev PYTHON LOCK
  set -e
  local source=$1 work=$2 locks=$1/requirements
  make_venv --without-pip "$work/venv"
  cp -R "$source" "$work/source" # a build writes beside its source
  local pip=("$4" -I -m pip --python "$work/venv/bin/python" --quiet)
  if [[ ! -e $locks/$3.txt ]]; then
    echo "this version has no $3.txt in requirements/: it gets the newest packages that fit"
    "${pip[@]}" wheel --wheel-dir "$work/wheels" "$work/source[$(extras_of "$3")]"
    return
  fi
  "${pip[@]}" install --no-compile --require-hashes -r "$locks/build.txt"
  "${pip[@]}" wheel --no-build-isolation --require-hashes --no-deps --wheel-dir "$work/wheels" -r "$5"
  "${pip[@]}" wheel --no-build-isolation --no-index --no-deps --wheel-dir "$work/wheels" "$work/source"
}

# The service goes on with the code it has loaded; the next start takes the new release.
use_release() { # use_release NAME
  run ln -sfn "releases/$1" "$PREFIX/venv.new" || return 1
  run mv -T "$PREFIX/venv.new" "$PREFIX/venv"
}

check_out() { # check_out COMMIT
  run git -C "$PREFIX" -c advice.detachedHead=false checkout --quiet --detach "$1"
}

switch_to() { # switch_to COMMIT RELEASE
  check_out "$1" && use_release "$2" && install_units && install_command
}

# For a script that stops the recorder and has on_exit to bring it back: however it ends, it ends by that, also when
# whoever reads its words is gone before it: the terminal, or the tee that Ctrl-C ends as well.
end_by_on_exit() {
  trap on_exit EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  trap 'exit 141' PIPE
}

# Of on_exit: nothing breaks it off.
hold_out() {
  trap - EXIT
  trap '' INT TERM HUP PIPE
}

# Of a trap on EXIT: what was in use before the switch runs again, also where not all of it can be put back: a disk that
# is full stops a checkout and no recorder.
go_back() { # go_back COMMIT RELEASE
  local left=''
  systemctl stop "$UNIT" || true
  systemctl reset-failed "$UNIT" 2>/dev/null || true
  if ! switch_to "$1" "$2"; then
    left=', and not all of that version could be put back (above): mend it, and run this again'
    use_release "$2" || true
    systemctl daemon-reload || true
  fi
  if ! systemctl start "$UNIT"; then
    say "the former version could not be started: nobody records. systemctl status $UNIT"
    return 1
  fi
  restart_others || true # it has said which
  say "rolled back: ${1:0:12} records again$left"
}

# For whoever has to name one: the commits that are built beside the one in use, newest first.
other_releases() { # other_releases DIRECTORY IN_USE
  local directory=$1 in_use=$2 built name
  while read -r built name; do
    [[ ! $name =~ ^[0-9a-f]{40}$ || $name == "$in_use" || ! -f $directory/$name/.complete ]] ||
      printf '  %s  built on %s\n' "${name:0:12}" "$built"
  done < <(find "$directory" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %TY-%Tm-%Td %f\n' 2>/dev/null | sort -rn | cut -d' ' -f2-)
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
  local text line status=0
  text=$("$1" -I "${@:2}") || status=$?
  while IFS= read -r line; do
    # shellcheck disable=SC2154 # declared by the caller
    [[ -z $line ]] || facts[${line%%=*}]=${line#*=}
  done <<<"$text"
  return "$status"
}

is_instance_name() { [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$ ]]; } # is_instance_name TEXT

# The names of the further recorders: each NAME.env beside .env is one.
instances() {
  local file name
  for file in "$PREFIX"/*.env; do
    name=${file##*/}
    name=${name%.env}
    ! is_instance_name "$name" || printf '%s\n' "$name"
  done
}

# Units and drop-ins as the checkout and the settings say. The drop-ins are ours alone and are written anew each time.
install_units() {
  run install -D -m 0644 "$PREFIX/deploy/systemd/$UNIT.service" "$UNIT_DIR/$UNIT.service" || return 1
  install_end_of_day || return 1
  install_templates || return 1
  refresh_serving || return 1
  install_target || return 1
  if ((DRY_RUN)); then
    printf 'would write: %s (what .env says other than the unit: directories, the time to stop, the hour of the market)\n' \
      "$(drop_in_of "$UNIT")" "$(drop_in_of hk-tick-eod)" "$(timer_drop_in_of hk-tick-eod)" \
      "$(drop_in_of hk-tick-universe)" "$(timer_drop_in_of hk-tick-universe)"
  else
    write_drop_ins || return 1
  fi
  run systemctl daemon-reload || return 1
  join_target
}

# What holds all of them; an update brings it as an installation does, enabled, and leaves one that is there as it is. A
# version from before it existed (rollback) has none: then it goes, and its links with it.
install_target() {
  local from=$PREFIX was_there=0
  ((!DRY_RUN)) || from=${source_dir:-$PREFIX}
  if [[ -e $from/deploy/systemd/$TARGET ]]; then
    [[ ! -e $UNIT_DIR/$TARGET ]] || was_there=1
    run install -m 0644 "$PREFIX/deploy/systemd/$TARGET" "$UNIT_DIR/$TARGET" || return 1
    ((was_there)) || run systemctl enable --quiet "$TARGET"
  else
    run rm -rf "$UNIT_DIR/$TARGET" "$UNIT_DIR/$TARGET.wants" "$UNIT_DIR/multi-user.target.wants/$TARGET"
  fi
}

# Each unit that is enabled, also from before there was a target, belongs to it; one that is not is left as it is. What
# belongs to it is not asked about: each answer to "enable" is that systemd reads all of its units anew.
join_target() {
  local unit
  [[ -e $UNIT_DIR/$TARGET ]] || return 0
  while IFS= read -r unit; do
    [[ ! -L $UNIT_DIR/$TARGET.wants/$unit ]] || continue
    ! systemctl is-enabled --quiet "$unit" 2>/dev/null || run systemctl enable --quiet "$unit" || return 1
  done < <(printf '%s\n' "$UNIT.service" && other_units)
}

drop_in_of() { printf '%s' "$UNIT_DIR/$1.service.d/10-settings.conf"; }
timer_drop_in_of() { printf '%s' "$UNIT_DIR/$1.timer.d/10-settings.conf"; }

# The end-of-day job and its timer, and those that choose symbols, which are enabled by hand. A version from before they existed (rollback) has none: then they go.
install_end_of_day() {
  local file from=$PREFIX
  ((!DRY_RUN)) || from=${source_dir:-$PREFIX}
  for file in hk-tick-{eod,universe}.{service,timer}; do
    if [[ -e $from/deploy/systemd/$file ]]; then
      run install -m 0644 "$PREFIX/deploy/systemd/$file" "$UNIT_DIR/$file" || return 1
    else
      run rm -f "$UNIT_DIR/$file"
    fi
  done
}

# hk-tickctl for everybody on the machine, with the settings of the service; an earlier version (rollback) has no pages
# and no completion to write, and those that are there stay. Nothing that records depends on it.
install_command() {
  if ((DRY_RUN)); then
    printf 'would write: %s (hk-tickctl with the settings in %s), its man pages and completion below %s\n' \
      "$COMMAND" "$PREFIX/.env" "$SHARE_PREFIX/share"
  elif [[ -e $COMMAND || -L $COMMAND ]] && ! is_our_command; then
    say "kept $COMMAND, which this script did not write: the service's is $PREFIX/venv/bin/hk-tickctl"
  else
    write_command || say "$COMMAND could not be written: the service's hk-tickctl is $PREFIX/venv/bin/hk-tickctl"
  fi
}

is_our_command() { [[ -f $COMMAND && ! -L $COMMAND ]] && grep -qF "$PREFIX/venv/bin/hk-tickctl" "$COMMAND"; }

write_command() {
  mkdir -p "${COMMAND%/*}" || return 1
  # shellcheck disable=SC2016 # for the shell that runs it
  printf '#!/bin/sh\n# Written by scripts/install_systemd.sh: hk-tickctl with the settings of the service.\n[ -n "${HK_TICKCTL_ENV_FILE-}" ] || [ ! -r %s ] || export HK_TICKCTL_ENV_FILE=%s\nexec %s "$@"\n' \
    "$PREFIX/.env" "$PREFIX/.env" "$PREFIX/venv/bin/hk-tickctl" >"$COMMAND.new" || return 1
  chmod 0755 "$COMMAND.new" && mv -T "$COMMAND.new" "$COMMAND" || return 1
  "$PREFIX/venv/bin/python" -I -m hk_tick_collector.cli.system_files "$SHARE_PREFIX" 2>/dev/null ||
    say "this version writes no man pages and no completion"
}

remove_command() {
  local share=$SHARE_PREFIX/share
  { ((DRY_RUN)) || is_our_command; } || return 0
  run rm -f "$COMMAND" "$share/bash-completion/completions/hk-tickctl" "$share/zsh/site-functions/_hk-tickctl" \
    "$share/fish/vendor_completions.d/hk-tickctl.fish"
  [[ ! -d $share/man/man1 ]] || run find "$share/man/man1" -maxdepth 1 -type f -name 'hk-tickctl*.1' -delete
}

# Those of further recorders. A version from before them (rollback) has none: what is there serves it as well.
install_templates() {
  local file from=$PREFIX
  ((!DRY_RUN)) || from=${source_dir:-$PREFIX}
  for file in "$UNIT@.service" hk-tick-{eod,universe}@.{service,timer}; do
    [[ ! -e $from/deploy/systemd/$file ]] ||
      run install -m 0644 "$PREFIX/deploy/systemd/$file" "$UNIT_DIR/$file" || return 1
  done
}

# The programs that serve, those that were chosen once: what is installed says which.
serving_chosen() {
  local name
  for name in $SERVING; do
    [[ ! -e $UNIT_DIR/hk-tick-$name.service ]] || printf '%s\n' "$name"
  done
}

# Their units as the checkout has them. A version from before them (rollback) has no such program: it stands still, and
# goes on with a version that has it.
refresh_serving() {
  local name from=$PREFIX
  ((!DRY_RUN)) || from=${source_dir:-$PREFIX}
  while IFS= read -r name; do
    if [[ -e $from/deploy/systemd/hk-tick-$name.service ]]; then
      install_serving "$name" || return 1
    else
      say "this version has no hk-tick-$name: it is stopped until one that has it is installed"
      ! systemctl is-active --quiet "hk-tick-$name.service" || run touch "$(stopped_mark "hk-tick-$name.service")"
      run systemctl stop "hk-tick-$name.service" || true
    fi
  done < <(serving_chosen)
}

# Is there while a unit stands still for want of a version that has it; also after a rollback that was undone.
stopped_mark() { printf '%s' "$RELEASES/.stopped-$1"; } # stopped_mark UNIT

install_serving() { # install_serving NAME
  run install -m 0644 "$PREFIX/deploy/systemd/hk-tick-$1.service" "$UNIT_DIR/hk-tick-$1.service" || return 1
  [[ $1 != alert ]] || install_failure
}

# What OnFailure= of the other units starts. A version from before it existed (rollback) has none: then it goes.
install_failure() {
  local from=$PREFIX
  ((!DRY_RUN)) || from=${source_dir:-$PREFIX}
  if [[ -e $from/deploy/systemd/$FAILURE_UNIT ]]; then
    run install -m 0644 "$PREFIX/deploy/systemd/$FAILURE_UNIT" "$UNIT_DIR/$FAILURE_UNIT"
  else
    run rm -f "$UNIT_DIR/$FAILURE_UNIT"
  fi
}

# What runs from the release beside the plain recorder: further recorders, and what serves.
other_units() {
  local name
  while IFS= read -r name; do printf '%s\n' "$UNIT@$name.service"; done < <(instances)
  while IFS= read -r name; do
    [[ ! -e $PREFIX/deploy/systemd/hk-tick-$name.service ]] || printf '%s\n' "hk-tick-$name.service"
  done < <(serving_chosen)
}

# Those that run take the release in use, and so do those that a version without them stopped. Fails, when all were
# tried, if one does not run again.
restart_others() {
  local unit status=0 restarted=()
  while IFS= read -r unit; do
    systemctl is-active --quiet "$unit" || [[ -e $(stopped_mark "$unit") ]] || continue
    say "restarting $unit"
    rm -f "$(stopped_mark "$unit")"
    restarted+=("$unit")
    systemctl restart "$unit" || status=1
  done < <(other_units)
  ((${#restarted[@]})) || return "$status"
  sleep 3 # one whose settings are wrong has ended by then
  for unit in "${restarted[@]}"; do
    systemctl is-active --quiet "$unit" && continue
    say "$unit does not run: systemctl status $unit"
    status=1
  done
  return "$status"
}

write_drop_ins() {
  local name
  write_drop_ins_of "$PREFIX/.env" "$DATA_DIR/HK" || return 1
  while IFS= read -r name; do
    write_drop_ins_of "$PREFIX/$name.env" "$DATA_DIR/$name" "@$name" || return 1
  done < <(instances)
}

write_drop_ins_of() { # write_drop_ins_of SETTINGS DATA_ROOT_OF_THE_UNIT [@NAME]
  local -A facts=()
  local stop_sec service=() end_of_day=() instance=${3-}
  if ! read_facts "$PREFIX/venv/bin/python" "$PREFIX/scripts/service_facts.py" --env-file "$1"; then
    say "$1 is not right yet (above); the service will not start before it is"
    return 0
  fi
  if [[ ${facts[data_root]} != "$2" ]]; then
    service+=("${facts[data_root]}")
    end_of_day+=("${facts[data_root]}")
  fi
  # The job writes archives, the recorder does not.
  [[ -z ${facts[archive_root]-} ]] || end_of_day+=("${facts[archive_root]}")
  stop_sec=$((${facts[stop_flush_timeout_sec]%.*} + STOP_MARGIN_SEC))
  write_drop_in "$UNIT$instance" "$((stop_sec > 120 ? stop_sec : 0))" ${service[@]+"${service[@]}"} || return 1
  write_drop_in "hk-tick-eod$instance" 0 ${end_of_day[@]+"${end_of_day[@]}"} || return 1
  write_drop_in "hk-tick-universe$instance" 0 ${service[@]+"${service[@]}"} || return 1
  # A version from before the facts (rollback) has the units' own hours.
  write_timer_drop_in "hk-tick-eod$instance" "${instance:+@}" "${facts[end_of_day]-}" || return 1
  write_timer_drop_in "hk-tick-universe$instance" "${instance:+@}" "${facts[universe]-}"
}

# The jobs of the evening run after the close of the market that is recorded.
write_timer_drop_in() { # write_timer_drop_in UNIT TEMPLATE ONCALENDAR: nothing where the timer itself says so
  local file
  file=$(timer_drop_in_of "$1")
  rm -f "$file"
  [[ -n $3 ]] && ! grep -qxF "OnCalendar=$3" "$PREFIX/deploy/systemd/${1%%@*}$2.timer" || return 0
  install -d -m 0755 "${file%/*}" || return 1
  printf '# Written by scripts/install_systemd.sh from the settings.\n[Timer]\nOnCalendar=\nOnCalendar=%s\n' "$3" >"$file" || return 1
  chmod 0644 "$file"
}

# 0 leaves the unit's time to stop. What the source needs is in "facts": the way out, and a credential that is there.
write_drop_in() { # write_drop_in UNIT STOP_SEC DIRECTORY...
  local file directory stop_sec=$2 internet=0 credential=
  if [[ $1 == "$UNIT"* ]]; then
    internet=${facts[internet]-0} credential=${facts[credential]-}
    [[ -z $credential || -f $credential ]] || credential=
  fi
  file=$(drop_in_of "$1")
  shift 2
  rm -f "$file"
  (($# || stop_sec || internet)) || return 0
  install -d -m 0755 "${file%/*}" || return 1
  {
    echo "# Written by scripts/install_systemd.sh from the settings."
    (($# == 0)) || echo "[Unit]"
    for directory in "$@"; do echo "RequiresMountsFor=$(unit_quoted "$directory")"; done
    echo "[Service]"
    for directory in "$@"; do echo "ReadWritePaths=$(unit_quoted "-$directory")"; done
    ((stop_sec == 0)) || echo "TimeoutStopSec=$stop_sec"
    ((internet == 0)) || echo "IPAddressAllow=any"
    # Not quoted: systemd takes quotes there for a part of the name and of the path, and starts nothing.
    credential=${credential//%/%%}
    [[ -z $credential ]] || echo "LoadCredential=${credential##*/}:$credential"
  } >"$file" || return 1
  chmod 0644 "$file"
}

# One word as systemd reads it (systemd.syntax(7)): blanks stay, % is no specifier.
unit_quoted() { # unit_quoted TEXT
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "${text//%/%%}"
}

as_service_user() { runuser -u "$SERVICE_USER" -- "$@"; }
