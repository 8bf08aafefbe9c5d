#!/usr/bin/env bash
# Checks the walls between the crates (walls.jq) and that each kind of breach would be caught. `scripts/walls.sh FILE` judges the metadata
# in that file alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh

# Prints what is wrong with the metadata in a file; fails if anything is.
judge() {
  local breaches
  breaches=$(jq -r -f scripts/walls.jq "$1") || return 2
  [ -z "$breaches" ] || { printf '%s\n' "$breaches"; return 1; }
}

if [ $# -gt 0 ]; then judge "$1"; exit; fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cargo metadata --format-version 1 --locked --filter-platform x86_64-unknown-linux-gnu >"$scratch/house.json"
judge "$scratch/house.json"

# Draws an arrow from one package to another into the metadata.
# shellcheck disable=SC2016 # the dollars are jq's
readonly ARROW='
def id($name): [.packages[] | select(.name == $name)] | max_by(.version | split(".") | map(tonumber? // 0)) | .id;
def arrow($from; $to; $kind): id($from) as $f | id($to) as $t
  | (.resolve.nodes[] | select(.id == $f) | .deps) += [{name: $to, pkg: $t, dep_kinds: [{kind: $kind, target: null}]}];
'
cases=0
# Expects that metadata doctored by a jq expression is judged so: `expect EXPRESSION MESSAGE`, an empty message meaning sound.
expect() {
  local said
  jq "$ARROW $1" "$scratch/house.json" >"$scratch/doctored.json"
  said=$(judge "$scratch/doctored.json") || true
  if { [ -z "$2" ] && [ -n "$said" ]; } || [[ "$said" != *"$2"* ]]; then
    printf 'walls: after %s\n  expected: %s\n  judged:   %s\n' "$1" "${2:-sound}" "${said:-sound}" >&2
    exit 1
  fi
  cases=$((cases + 1))
}
expect 'arrow("herdbook-model"; "tokio"; null)' 'herdbook-model may not reach tokio: herdbook-model -> tokio'
expect 'arrow("herdbook-sync"; "prost"; "build")' 'herdbook-sync may not reach prost'
expect 'arrow("crossbeam"; "tonic"; null)' 'herdbook-store may not reach tonic: herdbook-store -> crossbeam -> tonic'
expect 'arrow("thiserror"; "actix"; null)' 'herdbook-model may not reach actix: herdbook-model -> thiserror -> actix'
expect 'arrow("herdbook-sync"; "herdbook-store"; null)' 'herdbook-sync may not use herdbook-store: arrows only go down'
expect 'arrow("herdbook-proto"; "herdbook"; null)' 'herdbook-proto may not use herdbook: arrows only go down'
expect 'arrow("herdbook-replica"; "anyhow"; null)' 'herdbook-replica may not use anyhow'
expect '.workspace_members += [id("bytes")]' 'bytes stands on no floor'
expect 'arrow("herdbook-model"; "tokio"; "dev")' ''
echo "walls: $(jq '.workspace_members | length' "$scratch/house.json") crates stand; $cases planted cases judged rightly"
