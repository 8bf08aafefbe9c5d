#!/usr/bin/env bash
# Runs every suite, a failing one hiding no other, and closes with the sum over all: `N passed, N failed`, alone on a line. Expects the
# binary to be built (`make test` does both).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
source scripts/environment.sh

export HERDBOOK_BIN="$CARGO_TARGET_DIR/debug/herdbook"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 failures=""

# Adds up all numbers before a word in the log: `sum passed` over "3 passed; 0 failed".
sum() { grep -oE "[0-9]+ $1" "$log" | awk '{ n += $1 } END { print n + 0 }'; }

# Runs one suite: `suite NAME CLOSING COMMAND...`; CLOSING picks the lines of its output that count tests. A suite that fails without
# counting a failure (it did not compile, say) counts as one.
suite() {
  local name=$1 closing=$2 started=$SECONDS code=0 good bad
  shift 2
  echo "== $name"
  "$@" 2>&1 | tee "$log" || code=${PIPESTATUS[0]}
  # Every failure is named again at the end, where one looks.
  failures+=$(grep -E '^ *(FAIL|TIMEOUT|SIG[A-Z]+|ABORT) +\[|^(FAILED|ERROR) |^test .* FAILED$|^error(\[|:)' "$log" | sort -u | sed "s/^ */$name: /")
  grep -E "$closing" "$log" >"$log.closing"
  mv "$log.closing" "$log"
  good=$(sum passed) bad=$(sum '(failed|timed out|errors?)')
  [ "$code" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
  [ "$bad" -gt 0 ] && failures+=$'\n'
  [ "$code" -eq 0 ] && [ "$good" -eq 0 ] && [ "$bad" -eq 0 ] && echo "$name: no test ran"
  passed=$((passed + good)) failed=$((failed + bad))
  echo "== $name: $good passed, $bad failed, $((SECONDS - started)) s"
}

pytest() { "$HERDBOOK_VENV/bin/python" -m pytest -q -p no:cacheprovider "$@"; }

suite rust '^ *Summary \[' cargo nextest run --config-file .ci/nextest.toml --locked --workspace --color never
# With every sync left out the power-cut test must find losses, else it proves nothing.
suite power '^ *Summary \[' cargo nextest run --config-file .ci/nextest.toml --locked -p herdbook-store --test power \
  --features plant-skip-fsync --color never
suite documentation '^test result:' cargo test --locked --workspace --doc --no-fail-fast --color never
if [ -f examples/python/test_quickstart.py ]; then suite python ' in [0-9.]+s' pytest examples/python/test_quickstart.py; fi
suite helm ' in [0-9.]+s' pytest helm/tests

[ "$failed" -eq 0 ] || printf '\n%s\n' "$failures"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
