#!/usr/bin/env bash
# Feeds every decoder what nobody wrote: `scripts/fuzz.sh SECONDS [TARGET]...`, the seconds shared by all targets. Each begins with the kept
# corpus (fuzz/corpus) and what earlier runs found (in the cache). An input that breaks a law is saved in fuzz/failures/TARGET/;
# `scripts/fuzz.sh replay FILE...` runs it again, `scripts/fuzz.sh merge` takes into the kept corpus what reaches code that it does not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh

fuzz="$HERDBOOK_CACHE/fuzz"

# Runs one target: `run TARGET OPTIONS...`. Ten seconds for an input, or more memory than any decoder may have, is a failure.
run() {
  local target=$1
  shift
  mkdir -p "fuzz/failures/$target" "$fuzz/found/$target"
  HERDBOOK_FUZZ=$target "$fuzz/herdbook-fuzz" -artifact_prefix="fuzz/failures/$target/" -timeout=10 -rss_limit_mb=1024 -max_len=65536 "$@"
}

# Runs one target for some seconds and says how it went.
one() {
  local target=$1 seconds=$2 log="$fuzz/found/$1.log" code=0
  run "$target" -max_total_time="$seconds" -print_final_stats=1 "$fuzz/found/$target" "fuzz/corpus/$target" >"$log" 2>&1 || code=$?
  rmdir --ignore-fail-on-non-empty "fuzz/failures/$target"
  if [ "$code" -eq 0 ]; then
    printf '%-22s %9s runs\n' "$target" "$(awk '/stat::number_of_executed_units/ { print $2 }' "$log")"
  else
    printf '%-22s FAILED, exit %s\n%s\n' "$target" "$code" "$(tail -n 40 "$log")"
  fi
}

# This very script, for one target of several at a time; everything is built then.
if [ "${1:-}" = one ]; then
  one "$2" "$3"
  exit
fi

RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/rustc-fuzz.sh" cargo build --locked --quiet -p herdbook-fuzz --bin herdbook-fuzz
# A build without that wrapper has a binary of this name, too.
mkdir -p "$fuzz/found"
cp "$CARGO_TARGET_DIR/debug/herdbook-fuzz" "$fuzz/herdbook-fuzz"

if [ "${1:-}" = replay ]; then
  shift
  for file in "$@"; do run "$(basename "$(dirname "$file")")" "$file"; done
  exit
fi

mapfile -t chosen < <(find fuzz/corpus -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort)

if [ "${1:-}" = merge ]; then
  for target in "${chosen[@]}"; do
    run "$target" -merge=1 -max_len=1024 "fuzz/corpus/$target" "$fuzz/found/$target" 2>&1 | grep -E 'MERGE-OUTER: .* new files' || true
  done
  exit
fi

seconds=${1:-60} at_once=$(nproc)
shift || true
[ $# -eq 0 ] || chosen=("$@")
# libFuzzer counts whole seconds and ends in the one after the last; 0 would be no limit.
each=$((seconds * at_once / ${#chosen[@]} - 1))
[ "$each" -gt 0 ] || each=1
report=$(mktemp)
trap 'rm -f "$report"' EXIT
printf '%s\n' "${chosen[@]}" | xargs -P "$at_once" -I '{}' scripts/fuzz.sh one '{}' "$each" | tee "$report"
rmdir --ignore-fail-on-non-empty fuzz/failures
passed=$(grep -cE ' runs$' "$report" || true) failed=$(grep -cE ' FAILED, exit ' "$report" || true)
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -eq "${#chosen[@]}" ]
