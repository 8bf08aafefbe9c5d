#!/usr/bin/env bash
# Chaos for hours: runs of ten minutes, each with a seed of its own, until the time is over or one fails. What failed keeps its data and
# logs, and tells how it is run again: `scripts/chaos.sh HOURS [BINARY]`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
source scripts/environment.sh

hours=${1:?hours}
binary=${2:-$CARGO_TARGET_DIR/debug/herdbook}
runs=0
while [ "$SECONDS" -lt $((hours * 3600)) ]; do
  seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
  "$binary" loadtest run chaos --seconds 600 --seed "$seed" --keep-failed || {
    echo "failed after $runs good runs; again: $binary loadtest run chaos --seconds 600 --seed $seed"
    exit 1
  }
  runs=$((runs + 1))
done
echo "$runs runs, none failed"
