#!/usr/bin/env bash
# The state of one day file: fresh, complete, without duplicates or odd times, and sound. Changes nothing.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bash scripts/db_health_check.sh [options] DB

Prints key=value lines about a day file, its busiest symbols, a "fail:" line for
everything that is wrong, and result=pass or result=fail. Also works while the
recorder writes. Needs python3 alone; with the recorder's Python at hand the
exchange's calendar decides whether the newest tick must be fresh.

  --max-lag-sec N    in continuous trading the newest tick may be this old
                     (default: 120)
  --quick            leave out what reads the whole file: duplicates, delays,
                     integrity
  --full             PRAGMA integrity_check, also of the indexes, in place of
                     quick_check: minutes for a large file
  --top N            number of symbols to list (default: 10)
  --market WHICH     auto (default), open or closed: judge as if the market were
                     open or closed

Lag is now minus the newest event time; delay is the time from the event to its
receipt.

Exit codes: 0 pass, 1 fail, 2 usage, 66 the file does not exist or is no
database, 69 python3 is missing.
USAGE
}

# shellcheck source=scripts/lib_check.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_check.sh"

readonly FUTURE_MS=$((2 * 3600 * 1000)) # as repair_future_ts_ms.py sees it
db='' depth=normal max_lag_sec=120 top_count=10 market=auto
while (($#)); do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --quick) depth=quick ;;
    --full) depth=full ;;
    --max-lag-sec | --top | --market)
      (($# > 1)) || bad_usage "$1 needs a value"
      case $1 in
        --max-lag-sec) max_lag_sec=$(whole_number "$1" "$2") ;;
        --top) top_count=$(whole_number "$1" "$2") ;;
        --market) market=$2 ;;
      esac
      shift
      ;;
    -*) bad_usage "unknown option: $1" ;;
    *)
      [[ -z $db ]] || bad_usage "one file at a time, not '$db' and '$1'"
      db=$1
      ;;
  esac
  shift
done
[[ -n $db ]] || bad_usage "name the day file"
[[ $market =~ ^(auto|open|closed)$ ]] || bad_usage "--market is auto, open or closed, not '$market'"
need_python
[[ -f $db ]] || give_up 66 "$db does not exist"
tables=$(sql "$db" "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name") ||
  give_up 66 "$db cannot be read as an SQLite database (above)"
grep -qx ticks <<<"$tables" || give_up 66 "$db has no table ticks"

file_bytes() {
  if [[ -e $1 ]]; then stat -c %s "$1"; else echo 0; fi
}

show_file() {
  print db "$db"
  print file_bytes "$(file_bytes "$db")"
  print wal_bytes "$(file_bytes "$db-wal")"
  local name mode value
  for name in journal_mode page_size user_version; do
    query value "PRAGMA $name"
    print "$name" "$value"
  done
  query mode "PRAGMA journal_mode"
  [[ $mode == wal ]] || warn "journal_mode is $mode: readers and the recorder block each other"
}

# Freshness counts for the file of the running day only.
judge_market() {
  judged_as=$market
  if [[ $market == auto ]]; then
    judged_as=closed
    # shellcheck disable=SC2119 # the calendar alone
    if load_facts 2>/dev/null; then
      ((!facts[continuous] || facts[phase_age_sec] <= max_lag_sec)) || judged_as=open
      [[ ${db##*/} == "${facts[hk_day]}.db" ]] || judged_as=closed
    else
      warn "no calendar (the package is not installed): freshness is not judged"
    fi
  fi
  print phase "${facts[phase]:-unknown}"
  print judged_as "$judged_as"
}

check_freshness() {
  local newest last_minute min_ts_ms max_ts_ms rows symbols now_ms lag_ms future_rows
  now_ms=$(now_in_ms)
  query newest "SELECT COUNT(*), COUNT(DISTINCT symbol), COALESCE(MIN(ts_ms), 0), COALESCE(MAX(ts_ms), 0),
    COUNT(CASE WHEN ts_ms > $((now_ms + FUTURE_MS)) THEN 1 END) FROM ticks"
  query last_minute "SELECT COUNT(*) FROM ticks WHERE ts_ms > $((now_ms - 60000))"
  IFS='|' read -r rows symbols min_ts_ms max_ts_ms future_rows <<<"$newest"
  print rows "$rows"
  print symbols "$symbols"
  print min_ts_utc "$(utc_of "$min_ts_ms")"
  print max_ts_utc "$(utc_of "$max_ts_ms")"
  lag_ms=$((now_ms - max_ts_ms))
  if ((rows)); then
    print lag_sec "$(seconds $lag_ms)"
  else
    print lag_sec none
  fi
  print rows_last_minute "$last_minute"
  print future_rows "$future_rows"
  ((future_rows == 0)) || fail "$future_rows rows are more than 2 h in the future: scripts/repair_future_ts_ms.py"
  if [[ $judged_as == open ]]; then
    ((rows && lag_ms <= max_lag_sec * 1000)) || fail "the market is open and the newest tick is older than $max_lag_sec s"
  fi
}

check_rows() {
  local doubled copies foreign day=${db##*/}
  day=${day%%.*}
  query doubled "SELECT COUNT(*) FROM (SELECT 1 FROM ticks WHERE seq IS NOT NULL GROUP BY symbol, seq HAVING COUNT(*) > 1)"
  query copies "SELECT COUNT(*) FROM (SELECT 1 FROM ticks WHERE seq IS NULL
    GROUP BY symbol, ts_ms, price, volume, turnover$occurrence HAVING COUNT(*) > 1)"
  print duplicate_seq "$doubled"
  print duplicate_content "$copies"
  ((doubled + copies == 0)) || fail "$((doubled + copies)) ticks are stored more than once: the unique indexes are missing"
  if [[ $day =~ ^[0-9]{8}$ ]]; then
    query foreign "SELECT COUNT(*) FROM ticks WHERE trading_day <> '$day'"
    print other_day_rows "$foreign"
    ((foreign == 0)) || fail "$foreign rows carry another trading_day than the file's name"
  fi
  show_delays
}

# Ticks pushed as they happened; a pulled or cached one tells nothing about the delay.
show_delays() {
  local delays mean_ms max_ms early_rows
  query delays "SELECT CAST(COALESCE(AVG(recv_ts_ms - ts_ms), 0) AS INTEGER), COALESCE(MAX(recv_ts_ms - ts_ms), 0),
    COUNT(CASE WHEN recv_ts_ms < ts_ms - 1000 THEN 1 END) FROM ticks $pushed"
  IFS='|' read -r mean_ms max_ms early_rows <<<"$delays"
  print mean_delay_sec "$(seconds "$mean_ms")"
  print max_delay_sec "$(seconds "$max_ms")"
  print early_rows "$early_rows"
  ((early_rows == 0)) || warn "$early_rows ticks came more than 1 s before their event time: check the clock (timedatectl)"
}

check_completeness() {
  local line key value states
  if grep -qx coverage <<<"$tables"; then
    query states "SELECT 'symbols_proven', COUNT(CASE WHEN state = 'proven' THEN 1 END) FROM coverage
      UNION ALL SELECT 'symbols_missing', COUNT(CASE WHEN state = 'missing' THEN 1 END) FROM coverage
      UNION ALL SELECT 'symbols_unproven', COUNT(CASE WHEN state = 'unproven' THEN 1 END) FROM coverage
      UNION ALL SELECT 'missing_ticks', COALESCE(SUM(missing_ticks), 0) FROM coverage"
    while IFS='|' read -r key value; do
      print "$key" "$value"
    done <<<"$states"
  fi
  grep -qx gaps <<<"$tables" || return 0
  query line "SELECT COUNT(*), COALESCE(SUM(missing_ticks), 0) FROM gaps WHERE state = 'open'"
  print open_gaps "${line%%|*}"
  print open_gap_ticks "${line##*|}"
  ((${line%%|*} == 0)) || warn "OpenD could not show all ticks: SELECT * FROM gaps WHERE state = 'open'"
}

check_integrity() {
  local pragma=quick_check answer
  [[ $depth != full ]] || pragma=integrity_check
  answer=$(sql "$db" "PRAGMA $pragma" 2>&1 || true)
  print "$pragma" "$(head -n 1 <<<"$answer")"
  [[ $answer == ok ]] || fail "the file is damaged: hk-tickctl salvage $db"
}

columns='' busiest=''
query columns "SELECT name FROM pragma_table_info('ticks')"
occurrence='' pushed="WHERE push_type = 'push'"
! grep -qx occurrence <<<"$columns" || occurrence=', occurrence'
! grep -qx push_data_type <<<"$columns" || pushed="WHERE push_data_type = 'REALTIME'"

show_file
judge_market
check_freshness
check_completeness
if [[ $depth != quick ]]; then
  check_rows
  check_integrity
fi
query busiest "SELECT symbol, COUNT(*), MAX(seq) FROM ticks GROUP BY symbol ORDER BY COUNT(*) DESC, symbol LIMIT $top_count"
printf 'symbols by rows (symbol|rows|max_seq):\n'
[[ -z $busiest ]] || printf '  %s\n' "${busiest//$'\n'/$'\n'  }"
finish
