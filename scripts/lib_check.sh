# shellcheck shell=bash
# Sourced by the scripts that look at day files: printing, judging, reading.
#
# Reads PYTHON, an interpreter that has the recorder installed; else the service's, the project's .venv, python3.

# Every Python here is started with -I: root may stand in a directory where others put files, and Python would take
# modules from there.

me=${0##*/}
lib_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
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

# Rows with | between the columns, read-only, with a wait for the recorder's short locks.
sql() { # sql FILE QUESTION
  "$reading_python" -I -S "$lib_dir/read_day.py" "$1" "$2" # -S: without installed packages it starts at once
}

# In this shell, not in one of "$( )": a damaged page ends the script with its verdict and never becomes a number.
query() { # query VARIABLE QUESTION: asks $db, the answer goes into VARIABLE
  local -n answer_of_query=$1
  # shellcheck disable=SC2034,SC2154 # both are the caller's
  answer_of_query=$(sql "$db" "$2") && return
  fail "$db cannot be read to its end (above): hk-tickctl salvage $db"
  finish
}

# Any Python can read a day file; the recorder's is there without being installed by anybody.
need_python() {
  reading_python=$(recorder_python) || reading_python=${PYTHON:-python3}
  command -v "$reading_python" >/dev/null ||
    give_up 69 "$reading_python not found; on Debian and Ubuntu: sudo apt-get install python3"
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
  local root=${lib_dir%/*} candidate
  for candidate in "${PYTHON-}" "$root/venv/bin/python" "$root/.venv/bin/python" /opt/futu_tick_downloader/venv/bin/python python3; do
    if [[ -n $candidate ]] && command -v "$candidate" >/dev/null && "$candidate" -I -c 'import hk_tick_collector' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  return 1
}

# Fills "facts" from service_facts.py; fails when there is no recorder's Python or the settings are wrong.
load_facts() { # load_facts [--env-file FILE]
  local python text line status=0
  python=$(recorder_python) || return
  text=$("$python" -I "$lib_dir/service_facts.py" "$@") || status=$?
  while IFS= read -r line; do
    # shellcheck disable=SC2034 # read by the scripts that source this file
    [[ -z $line ]] || facts[${line%%=*}]=${line#*=}
  done <<<"$text"
  return "$status"
}
