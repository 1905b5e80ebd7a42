# Sourced by the other scripts: goes to the checkout's root, installs what is missing on Debian or Ubuntu
# (or says exactly what to install), and names the one target directory that all scripts share.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A new clone does not pay for the cold build again: the target directory lies outside of it.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/seckill/target}"

need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "Please install: ${missing[*]} (names of Debian packages), then run this again." >&2
        exit 1
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if sudo -n true 2>/dev/null; then
            as_root=(sudo)
        else
            echo "Missing packages. Please run:  sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
            exit 1
        fi
    fi
    echo "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

if command -v dpkg >/dev/null; then
    need_packages build-essential pkg-config
elif ! command -v cc >/dev/null; then
    echo "Please install a C compiler (cc), then run this again." >&2
    exit 1
fi

if ! command -v cargo >/dev/null && [ -r "$HOME/.cargo/env" ]; then
    . "$HOME/.cargo/env"
fi
if ! command -v cargo >/dev/null; then
    echo "Rust is missing. Please install rustup (https://rustup.rs); it reads rust-toolchain.toml and fetches the right version." >&2
    exit 1
fi
