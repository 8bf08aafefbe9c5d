# The environment of every build of this checkout; meant to be sourced. Compiled things live in the cache, outside the checkout, so that
# a second clone builds in seconds. `setup.sh` fills the cache, `make distclean` empties it.
# shellcheck shell=bash

export HERDBOOK_CACHE="${HERDBOOK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/herdbook}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HERDBOOK_CACHE/target}"
export CCACHE_DIR="${CCACHE_DIR:-$HERDBOOK_CACHE/ccache}"
# RocksDB is 343 C++ files: clang reads them in two thirds of gcc's time, ccache turns nine minutes into twenty seconds.
export CC="ccache clang" CXX="ccache clang++"
export HERDBOOK_TOOLS="$HERDBOOK_CACHE/tools" HERDBOOK_VENV="$HERDBOOK_CACHE/venv"
export PYTHONDONTWRITEBYTECODE=1

for directory in "$HERDBOOK_VENV/bin" "$HERDBOOK_TOOLS/bin"; do
  case ":$PATH:" in *":$directory:"*) ;; *) PATH="$directory:$PATH" ;; esac
done
[ -d "$HOME/.cargo/bin" ] && PATH="$PATH:$HOME/.cargo/bin"
unset directory
export PATH
