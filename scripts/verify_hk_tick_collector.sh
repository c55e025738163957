#!/usr/bin/env bash
# Says whether the recorder records: the service, the newest ticks, the day file, the log. Changes nothing.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: sudo bash scripts/verify_hk_tick_collector.sh [options]

Prints key=value lines (now_utc, phase, max_ts_utc, max_minus_now_sec, rows,
journal_mode, busy_timeout, watchdog_count ...), the newest log lines, a "fail:"
line for everything that is wrong, and result=pass or result=fail.

In continuous trading the newest tick must be fresh and rows must grow. At other
hours, by the calendar of the Hong Kong exchange, a lack of ticks is no fault;
times in the future and a dead service always are.

  --db FILE           the day file (default: the newest one in DATA_ROOT)
  --data-root DIR     where the day files are (default: as in .env)
  --env-file FILE     the service's settings (default:
                      /opt/futu_tick_downloader/.env)
  --unit NAME         the service (default: hk-tick-collector)
  --no-service        judge the files only: no service, no journal
  --since TIME        how far back the journal is searched (default: "10 minutes
                      ago")
  --lines N           newest log lines to show (default: 20, 0: none)
  --max-lag-sec N     the newest tick may be this old, or this far ahead
                      (default: 60)
  --growth-sec N      wait this long for new rows in an open market (default:
                      10)
  --market WHICH      auto (default), open or closed: judge as if the market
                      were open or closed

Exit codes: 0 pass, 1 fail, 2 usage, 69 a tool is missing.
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib_check.sh
. "$here/lib_check.sh"

env_file=/opt/futu_tick_downloader/.env
unit=hk-tick-collector
since="10 minutes ago"
db='' data_root='' service=1 line_count=20 max_lag_sec=60 growth_sec=10 market=auto

while (($#)); do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --no-service) service=0 && shift && continue ;;
    --db | --data-root | --env-file | --unit | --since | --lines | --max-lag-sec | --growth-sec | --market)
      (($# > 1)) || bad_usage "$1 needs a value"
      ;;
    *) bad_usage "unknown argument: $1" ;;
  esac
  case $1 in
    --db) db=$2 ;;
    --data-root) data_root=$2 ;;
    --env-file) env_file=$2 ;;
    --unit) unit=$2 ;;
    --since) since=$2 ;;
    --lines) line_count=$(whole_number "$1" "$2") ;;
    --max-lag-sec) max_lag_sec=$(whole_number "$1" "$2") ;;
    --growth-sec) growth_sec=$(whole_number "$1" "$2") ;;
    --market) market=$2 ;;
  esac
  shift 2
done
[[ $market =~ ^(auto|open|closed)$ ]] || bad_usage "--market is auto, open or closed, not '$market'"
need_python
((!service)) || command -v systemctl >/dev/null || give_up 69 "systemctl not found: use --no-service to judge the files"

find_settings() {
  if [[ -r $env_file ]]; then
    load_facts --env-file "$env_file" || fail "the settings in $env_file are wrong (above)"
  else
    load_facts || true
    [[ -n $db$data_root ]] || fail "$env_file cannot be read: run this with sudo, or give --db or --data-root"
  fi
  [[ -n $data_root ]] || data_root=${facts[data_root]-}
}

# Continuous trading counts only once it has gone on for as long as a tick may be old.
judge_market() {
  judged_as=$market
  if [[ $market == auto ]]; then
    judged_as=closed
    [[ -n ${facts[phase]-} ]] || warn "no calendar (the package is not installed): judged as if the market were closed"
    if ((${facts[continuous]:-0} && ${facts[phase_age_sec]:-0} > max_lag_sec)); then
      judged_as=open
    fi
  fi
  print phase "${facts[phase]:-unknown}"
  print judged_as "$judged_as"
}

check_service() {
  local state sub
  state=$(systemctl show -p ActiveState --value "$unit")
  sub=$(systemctl show -p SubState --value "$unit")
  print unit "$unit"
  print unit_state "$state ($sub)"
  print status "$(systemctl show -p StatusText --value "$unit")"
  print restarts "$(systemctl show -p NRestarts --value "$unit")"
  [[ $state == active && $sub == running ]] || fail "$unit is $state ($sub): systemctl status $unit"
}

# What serves is judged when it is set up to run.
check_serving() {
  local name state
  for name in api live redis ship alert; do
    [[ $(systemctl is-enabled "hk-tick-$name" 2>/dev/null) == enabled ]] || continue
    state=$(systemctl show -p ActiveState --value "hk-tick-$name")
    print "hk-tick-$name" "$state"
    [[ $state == active ]] || fail "hk-tick-$name is $state: systemctl status hk-tick-$name"
  done
}

check_file() {
  [[ -n $db || -z $data_root ]] || db=$(newest_day_file "$data_root")
  if [[ -z $db || ! -e $db ]]; then
    print db "none"
    print rows 0
    if [[ $judged_as == open || -n $db ]]; then
      fail "there is no day file${db:+ $db}${data_root:+ in $data_root}"
    fi
    return
  fi
  print db "$db"
  if [[ $judged_as == open && $market == auto && ${db##*/} != "${facts[hk_day]}.db" ]]; then
    fail "the market is open and today's file (${facts[hk_day]}.db) does not exist; the newest is ${db##*/}"
  fi
  local newest mode
  query newest "SELECT COALESCE(MAX(ts_ms), 0), COUNT(*), COALESCE(MAX(rowid), 0) FROM ticks"
  IFS='|' read -r max_ts_ms rows last_rowid <<<"$newest"
  query mode "PRAGMA journal_mode"
  print max_ts_utc "$(utc_of "$max_ts_ms")"
  check_newest
  print rows "$rows"
  print journal_mode "$mode"
  [[ $mode == "${facts[sqlite_journal_mode]:-wal}" ]] ||
    fail "journal_mode is $mode, SQLITE_JOURNAL_MODE says ${facts[sqlite_journal_mode]:-wal}"
  check_busy_timeout
  [[ $judged_as != open ]] || check_growth
}

# busy_timeout belongs to a connection, so that of the recorder is the one in its settings.
check_busy_timeout() {
  local timeout_ms=${facts[sqlite_busy_timeout_ms]-}
  print busy_timeout "${timeout_ms:-unknown}"
  [[ -z $timeout_ms ]] || ((timeout_ms >= 1000)) || fail "busy_timeout is $timeout_ms ms: set SQLITE_BUSY_TIMEOUT_MS to 1000 or more"
}

check_newest() {
  local now_ms ahead_ms
  if ((max_ts_ms == 0)); then
    print max_minus_now_sec none
    [[ $judged_as != open ]] || fail "$db holds no tick"
    return
  fi
  now_ms=$(now_in_ms)
  ahead_ms=$((max_ts_ms - now_ms))
  print max_minus_now_sec "$(seconds $ahead_ms)"
  ((ahead_ms <= max_lag_sec * 1000)) ||
    fail "the newest tick is $(seconds $ahead_ms) s in the future: look with scripts/repair_future_ts_ms.py"
  [[ $judged_as != open ]] || ((ahead_ms >= -max_lag_sec * 1000)) ||
    fail "the newest tick is $(seconds $((-ahead_ms))) s old, more than $max_lag_sec"
}

check_growth() {
  local deadline=$((SECONDS + growth_sec)) now_rowid
  while :; do
    query now_rowid "SELECT COALESCE(MAX(rowid), 0) FROM ticks"
    ((now_rowid <= last_rowid)) || break
    ((SECONDS < deadline)) || break
    sleep 0.5
  done
  print new_rows $((now_rowid - last_rowid))
  ((now_rowid > last_rowid)) || fail "no row was added within $growth_sec s"
}

check_journal() {
  local log stalls
  log=$(journalctl -u "$unit" --since "$since" --no-pager -o cat 2>/dev/null || true)
  stalls=$(grep -c 'WATCHDOG persistent_stall' <<<"$log" || true)
  print watchdog_count "$(grep -c 'WATCHDOG' <<<"$log" || true)"
  print watchdog_persistent_stall_count "$stalls"
  ((stalls == 0)) || fail "the watchdog gave up $stalls times since $since: docs/runbook/incident-watchdog-stall.md"
  ((line_count)) || return 0
  printf 'recent lines (%s):\n' "$since"
  grep -E '^(health|persist_summary|persist_ticks|persist_loop_heartbeat|WATCHDOG|sqlite_busy)|ERROR|Traceback' <<<"$log" |
    tail -n "$line_count" | sed 's/^/  /' || true
}

print now_utc "$(utc_of "$(now_in_ms)")"
find_settings
judge_market
((!service)) || check_service
((!service)) || [[ $unit != hk-tick-collector ]] || check_serving
check_file
((!service)) || check_journal
finish
