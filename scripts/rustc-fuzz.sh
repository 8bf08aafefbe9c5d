#!/usr/bin/env bash
# The compiler for fuzz targets, put before rustc by RUSTC_WORKSPACE_WRAPPER: it adds the marks by which libFuzzer sees which code ran. The
# stable compiler hands such options to LLVM. Only crates of this workspace come here; their dependencies are those of the other builds.
set -euo pipefail
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
