# shellcheck shell=bash
# Sourced by the scripts that look at day files: printing, judging, reading with the sqlite3 shell.
#
# Reads PYTHON, an interpreter that has the recorder installed; else the service's, the project's .venv, python3.

me=${0##*/}
failures=()
declare -A facts=()

bad_usage() {
  printf '%s: %s; --help shows the usage\n' "$me" "$1" >&2
  exit 2
}

give_up() { # give_up EXIT_CODE TEXT
  printf '%s: %s\n' "$me" "$2" >&2
  exit "$1"
}

print() { printf '%s=%s\n' "$1" "$2"; }
warn() { printf 'warn: %s\n' "$1"; }

fail() {
  failures+=("$1")
}

# The verdict, and the end of the script.
finish() {
  local text
  for text in ${failures[@]+"${failures[@]}"}; do
    printf 'fail: %s\n' "$text"
  done
  if ((${#failures[@]})); then
    print result fail
    exit 1
  fi
  print result pass
  exit 0
}

whole_number() { # whole_number OPTION TEXT: the number, or a usage error
  [[ $2 =~ ^[0-9]{1,9}$ ]] || bad_usage "$1 needs a whole number, not '$2'"
  printf '%d' "$((10#$2))"
}

need_sqlite() {
  command -v sqlite3 >/dev/null || give_up 69 "sqlite3 not found; on Debian and Ubuntu: sudo apt-get install sqlite3"
}

# Read-only, with a wait for the recorder's short locks. A path is quoted as a URI wants it.
sql() { # sql FILE STATEMENTS: rows with | between the columns
  local path=${1//%/%25}
  path=${path//\?/%3f}
  sqlite3 -batch -noheader -separator '|' -cmd '.timeout 5000' "file:${path//#/%23}?mode=ro" "$2"
}

now_in_ms() { date +%s%3N; }

utc_of() { # utc_of MILLISECONDS
  if (($1 == 0)); then
    echo none
  else
    date -u -d "@$(($1 / 1000))" "+%Y-%m-%dT%H:%M:%S.$(printf '%03d' $(($1 % 1000)))Z"
  fi
}

seconds() { # seconds MILLISECONDS: 12.345
  local sign='' ms=$1
  if ((ms < 0)); then
    sign=-
    ms=$((-ms))
  fi
  printf '%s%d.%03d' "$sign" $((ms / 1000)) $((ms % 1000))
}

newest_day_file() { # newest_day_file DIRECTORY
  find "$1" -maxdepth 1 -name '[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9].db' 2>/dev/null | sort | tail -n 1
}

recorder_python() {
  local root candidate
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  for candidate in "${PYTHON-}" "$root/venv/bin/python" "$root/.venv/bin/python" /opt/futu_tick_downloader/venv/bin/python python3; do
    if [[ -n $candidate ]] && command -v "$candidate" >/dev/null && "$candidate" -c 'import hk_tick_collector' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  return 1
}

# Fills "facts" from service_facts.py; fails when there is no recorder's Python or the settings are wrong.
load_facts() { # load_facts [--env-file FILE]
  local python text key value status=0
  python=$(recorder_python) || return
  text=$("$python" "$(dirname "${BASH_SOURCE[0]}")/service_facts.py" "$@") || status=$?
  while IFS='=' read -r key value; do
    # shellcheck disable=SC2034 # read by the scripts that source this file
    [[ -z $key ]] || facts[$key]=$value
  done <<<"$text"
  return "$status"
}
