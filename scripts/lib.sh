# Shared by the scripts in this folder, which source it: sets up what is missing, and builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 2; }

# Debian packages that hold what the build needs.
packages=(gcc g++ make pkg-config libelf-dev zlib1g-dev linux-libc-dev)

# clang: the newest one that knows BPF.
find_clang() {
  local candidate
  for candidate in "${CLANG:-}" clang-21 clang-20 clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 clang; do
    if [[ -n $candidate ]] && command -v "$candidate" >/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  return 1
}

missing_packages() {
  command -v gcc >/dev/null || echo gcc
  command -v g++ >/dev/null || echo g++
  command -v make >/dev/null || echo make
  command -v pkg-config >/dev/null || echo pkg-config
  [[ -e /usr/include/gelf.h ]] || echo libelf-dev
  [[ -e /usr/include/zlib.h ]] || echo zlib1g-dev
  [[ -e /usr/include/linux/bpf.h ]] || echo linux-libc-dev
  find_clang >/dev/null || echo clang
}

# Installs what is missing, where that is possible.
setup() {
  local missing sudo=()
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  missing=$(missing_packages)
  if [[ -n $missing ]]; then
    say "installing: ${missing//$'\n'/ }"
    command -v apt-get >/dev/null || die "install these packages, or what holds them here: ${missing//$'\n'/ }"
    # shellcheck disable=SC2086
    "${sudo[@]}" apt-get install -y $missing >&2 ||
      { "${sudo[@]}" apt-get update >&2 && "${sudo[@]}" apt-get install -y $missing >&2; }
  fi
  [[ -x $HOME/.cargo/bin/cargo ]] && PATH=$HOME/.cargo/bin:$PATH
  if ! command -v cargo >/dev/null && command -v apt-get >/dev/null; then
    say "installing Rust"
    "${sudo[@]}" apt-get install -y rustup >&2 && rustup default stable >&2 || true
  fi
  command -v cargo >/dev/null || die "Rust is missing, and no package of rustup: install it as rustup's site says"
}

# Builds the command and the preload library; sets $bpftwin and $shim.
build() {
  cargo build --release --workspace ${1+"$@"} >&2
  bpftwin=$target/release/bpftwin
  shim=$target/release/libbpftwin_shim.so
}

# Compiles the example objects to target/bpf. Their libbpf headers are those that the build unpacked.
build_examples() {
  local clang include source object arch
  clang=$(find_clang) || die "no clang"
  include=$(find "$target/release/build" -path '*/out/include/bpf/bpf_helpers.h' -printf '%T@ %h\n' |
    sort -n | tail -1 | cut -d' ' -f2-)
  [[ -n $include ]] || die "the build left no libbpf headers in $target/release/build"
  include=${include%/bpf}
  arch=$(gcc -print-multiarch)
  examples=()
  mkdir -p "$target/bpf"
  for source in examples/*.bpf.c; do
    object=$target/bpf/$(basename "${source%.c}").o
    if [[ ! $object -nt $source ]]; then
      "$clang" -target bpf -mcpu=v3 -O2 -g -Wall -I"$include" ${arch:+-idirafter "/usr/include/$arch"} -c "$source" -o "$object"
    fi
    examples+=("$object")
  done
}
