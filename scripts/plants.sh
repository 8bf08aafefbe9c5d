#!/usr/bin/env bash
# Proves the load harness: a build that can have bugs on purpose (`model/src/plant.rs`) must pass as it is, and fail with each of them. Takes
# such a build, or makes one beside the others: `scripts/plants.sh [BINARY]`. Without root or loop devices no power is cut, so that a missing
# sync goes untested, which is told. About three minutes after the build.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
source scripts/environment.sh

binary=${1:-}
if [ -z "$binary" ]; then
  cargo build --locked -p herdbook --features herdbook-model/plants --target-dir "$CARGO_TARGET_DIR/plants" || exit
  binary=$CARGO_TARGET_DIR/plants/debug/herdbook
fi
passed=0 failed=0

# Runs a fault with a bug, or with none: `try BUG FAULT VERDICT`. A run that is not failed by what the bug does proves nothing.
try() {
  local bug=$1 fault=$2 wanted=$3 verdict
  verdict=$(PLANTED_BUG=$bug timeout 600 "$binary" loadtest run chaos --only "$fault" --seed 7 --seconds 20 --binary "$binary" 2>/dev/null | head -1)
  if [[ $verdict == "$wanted chaos "* ]] && [[ $verdict != *"first: never fired"* ]] && [[ $verdict != *"first: too little"* ]]; then
    passed=$((passed + 1))
    printf 'right  %-14s %s\n' "$bug" "$verdict"
  elif [[ $verdict == *" 0 of 0 faults"* ]]; then
    printf 'absent %-14s %s cannot be made here\n' "$bug" "$fault"
  else
    failed=$((failed + 1))
    printf 'WRONG  %-14s wanted %s: %s\n' "$bug" "$wanted" "${verdict:-no verdict}"
  fi
}

for pair in skip-hash:alter skip-parents:omit skip-quarantine:reorder skip-epoch:backdate skip-fsync:power; do
  try none "${pair#*:}" PASS
  try "${pair%:*}" "${pair#*:}" FAIL
done

# A collection of garbage that ignores who reads is found by a test, which needs no cluster: `pins BUG PASS|FAIL`.
pins() {
  local bug=$1 wanted=$2 verdict=FAIL
  PLANTED_BUG=$bug timeout 900 cargo nextest run --locked -p herdbook-replica --features herdbook-model/plants --target-dir "$CARGO_TARGET_DIR/plants" \
    --test collecting what_a_reader_holds_stays_until_it_lets_go >/dev/null 2>&1 && verdict=PASS
  if [ "$verdict" = "$wanted" ]; then
    passed=$((passed + 1))
    printf 'right  %-14s %s\n' "$bug" "$verdict collecting"
  else
    failed=$((failed + 1))
    printf 'WRONG  %-14s wanted %s: %s\n' "$bug" "$wanted" "$verdict collecting"
  fi
}

pins none PASS
pins skip-pins FAIL
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
