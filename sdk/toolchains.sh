#!/usr/bin/env bash
# Finds the compilers of plugins, and installs what is missing of them.
#
#   toolchains.sh [--check] [go] [rust] [assemblyscript]     (all three if none is named)
#
# Prints what it found as NAME=VALUE lines; everything else goes to stderr. With
# --check nothing is installed: what is missing is said, with the command that
# brings it, and the status is 1. Packages come from Debian, npm and rustup alone.
#
# Rust is the one that is hard to get: wasm32-unknown-unknown needs a standard
# library of the compiler's own version. Where rustup cannot bring it, Debian's
# rustc has one prebuilt (libstd-rust-dev-wasm32), some versions older; building
# the library from its source would take a minute and a half.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/eider
check=
wanted=()
for word in "$@"; do
  case $word in
    --check) check=1 ;;
    go | rust | assemblyscript) wanted+=("$word") ;;
    *) echo "toolchains: $word is none of --check, go, rust, assemblyscript" >&2; exit 2 ;;
  esac
done
[ ${#wanted[@]} -gt 0 ] || wanted=(go rust assemblyscript)

say() { echo "toolchains: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# once makes runs that install wait for each other.
once() {
  mkdir -p "$cache"
  if have flock; then exec 9>"$cache/toolchains.lock"; flock 9; fi
}

debian() { # packages
  have apt-get || { say "there is no apt-get to install $* with"; return 1; }
  local as=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || { say "installing $* needs root: run: sudo apt-get install $*"; return 1; }
    as=(sudo -n)
  fi
  say "installing $* from Debian's packages"
  local wait="-oDPkg::Lock::Timeout=300"
  "${as[@]}" apt-get -qq "$wait" update >&2 || say "apt-get update failed; trying with the lists that are there"
  DEBIAN_FRONTEND=noninteractive "${as[@]}" apt-get -qq -y "$wait" install --no-install-recommends "$@" >&2
}

# newest_go is the first Go that can export functions to a host and that knows reactors.
find_go() {
  local go version
  for go in go /usr/local/go/bin/go; do
    have "$go" || continue
    version=$("$go" env GOVERSION | sed 's/^go//; s/[^0-9.].*//')
    [ "$(printf '%s\n1.24\n' "$version" | sort -V | head -1)" = 1.24 ] || continue
    echo "GO=$(command -v "$go")"
    return
  done
  return 1
}

# has_wasm reports whether a rustc has the standard library of the target.
has_wasm() {
  local dir
  have "$1" && dir=$("$1" --print target-libdir --target wasm32-unknown-unknown 2>/dev/null) && compgen -G "$dir/libstd-*.rlib" >/dev/null
}

find_rust() {
  local pair
  for pair in "${RUSTC:-rustc} ${CARGO:-cargo}" "/usr/bin/rustc /usr/bin/cargo"; do
    set -- $pair
    if has_wasm "$1" && have "$2"; then
      echo "RUSTC=$(command -v "$1")"
      echo "CARGO=$(command -v "$2")"
      return
    fi
  done
  return 1
}

install_rust() {
  if have rustup && have rustc; then
    say "asking rustup for the target wasm32-unknown-unknown"
    timeout 180 rustup target add wasm32-unknown-unknown >&2 && has_wasm rustc && return
    say "rustup could not bring it"
  fi
  debian rustc cargo libstd-rust-dev-wasm32 lld
}

# The packages of AssemblyScript lie in a folder named for the lock file, so that
# another version of this script has its own.
assemblyscript_folder() {
  echo "$cache/assemblyscript-$(cat "$here/assemblyscript/packages/package-lock.json" | sha256sum | cut -c1-12)"
}

find_assemblyscript() {
  local folder
  folder=$(assemblyscript_folder)
  have node && [ -f "$folder/complete" ] || return 1
  echo "NODE=$(command -v node)"
  echo "ASSEMBLYSCRIPT=$folder/node_modules"
}

install_assemblyscript() {
  local folder
  folder=$(assemblyscript_folder)
  have node && have npm || debian nodejs npm
  if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    say "node $(node -v) is too old for AssemblyScript: 20 or newer is needed"
    return 1
  fi
  say "installing AssemblyScript from npm into $folder"
  mkdir -p "$folder"
  cp "$here/assemblyscript/packages/package.json" "$here/assemblyscript/packages/package-lock.json" "$folder/"
  (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund >&2 && touch complete)
}

install_go() {
  say "Go 1.24 or newer is missing: install it from your distribution or go.dev/dl"
  return 1
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
status=0
for one in "${wanted[@]}"; do
  "find_$one" && continue
  if [ -n "$check" ]; then
    say "what builds plugins in $one is missing; this installs it: eider plugin toolchains --install $one"
    status=1
    continue
  fi
  (once && { "find_$one" >/dev/null || "install_$one"; }) && "find_$one" || { say "$one cannot be had on this machine"; status=1; }
done
exit $status
