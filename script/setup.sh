# Sourced by the other scripts: goes to the checkout's root, installs what is missing on Debian or Ubuntu
# (or says exactly what to install), and names the one target directory that all scripts share.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A new clone does not pay for the cold build again: the target directory lies outside of it.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/seckill/target}"

# How to become root, if that needs a word: empty, `sudo`, or `no` if it is out of reach without a question.
root_by() {
    if [ "$(id -u)" -eq 0 ]; then echo ""; elif sudo -n true 2>/dev/null; then echo sudo; else echo no; fi
}

# Which of these packages are not installed.
missing_of() {
    local package
    for package in "$@"; do
        dpkg -s "$package" 2>/dev/null | grep -q '^Status: .* installed$' || echo "$package"
    done
}

need_packages() {
    local missing=() by
    mapfile -t missing < <(missing_of "$@")
    [ ${#missing[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "Please install: ${missing[*]} (names of Debian packages), then run this again." >&2
        exit 1
    fi
    by="$(root_by)"
    if [ "$by" = no ]; then
        echo "Missing packages. Please run:  sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    $by apt-get update -qq
    $by env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# The same for packages that bring a system service: we start servers of our own, so apt must start none, now
# (policy-rc.d is Debian's way to say so) or at the next boot.
need_server_packages() {
    local by policy=/usr/sbin/policy-rc.d ours="" failed=0 before="" unit
    [ -n "$(missing_of "$@")" ] || return 0
    by="$(root_by)"
    for unit in redis-server mariadb nginx; do
        [ -e "/lib/systemd/system/$unit.service" ] && before="$before $unit "
    done
    if [ "$by" != no ] && [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | $by tee "$policy" >/dev/null
        $by chmod 755 "$policy"
    fi
    # In a subshell, so that its exit does not skip what follows.
    (need_packages "$@") || failed=$?
    [ -n "$ours" ] && $by rm -f "$policy"
    if [ "$by" != no ] && [ -d /run/systemd/system ]; then
        for unit in redis-server mariadb nginx; do
            case "$before" in *" $unit "*) continue ;; esac
            [ -e "/lib/systemd/system/$unit.service" ] && $by systemctl disable --quiet "$unit" || true
        done
    fi
    [ "$failed" -eq 0 ] || exit "$failed"
}

# Where crates/servers looks for what Debian does not have.
servers_dir="${XDG_CACHE_HOME:-$HOME/.cache}/seckill/servers"

# Kafka's jars, named by crates/servers/kafka/pom.xml, each compared with the committed hashes. Whole or not there.
fetch_kafka() {
    local here="$PWD/crates/servers/kafka" to="$servers_dir/kafka-4.3.1" half
    [ -d "$to" ] && return
    echo "fetching Kafka 4.3.1"
    half="$(mktemp -d "$servers_dir/kafka.XXXXXX")"
    cp "$here/pom.xml" "$half/"
    (cd "$half" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$half/lib" -DincludeScope=runtime)
    (cd "$half/lib" && sha256sum --quiet --strict --check "$here/jars.sha256")
    if [ "$(find "$half/lib" -type f | wc -l)" -ne "$(wc -l <"$here/jars.sha256")" ]; then
        echo "Kafka came with files that crates/servers/kafka/jars.sha256 does not name." >&2
        exit 1
    fi
    chmod 755 "$half"
    mv -T "$half" "$to"
}

# Filebeat is in no Debian archive; a third party's upload carries its binary, pinned here by its hash.
fetch_filebeat() {
    local to="$servers_dir/filebeat-8.1.3" half binary
    [ -d "$to" ] && return
    if ! python3 -m pip --version >/dev/null 2>&1; then
        need_packages python3 python3-pip
    fi
    echo "fetching Filebeat 8.1.3"
    half="$(mktemp -d "$servers_dir/filebeat.XXXXXX")"
    python3 -m pip install --quiet --no-deps --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --target "$half/all" filebeat==0.0.2
    mkdir "$half/it"
    binary="$half/all/filebeat/filebeat-8.1.3-linux-x86_64/filebeat"
    echo "e945febb52e924d76f28fd0c909fc20105763ca06c3c9804a6ca57be17430b37  $binary" | sha256sum --quiet --strict --check
    mv "$binary" "$half/it/filebeat"
    chmod 755 "$half/it" "$half/it/filebeat"
    mv -T "$half/it" "$to"
    rm -rf "$half"
}

# Druid's Python clients and other readers of Parquet, for tests that run them unchanged: whole or not there. Where the
# package index is out of reach the tests say that they skip.
need_clients() {
    local to="${XDG_CACHE_HOME:-$HOME/.cache}/seckill/clients" half wanted="$PWD/bench/clients/requirements.txt"
    if cmp -s "$wanted" "$to/requirements.txt"; then return; fi
    python3 -c 'import venv, ensurepip' 2>/dev/null || need_packages python3 python3-venv
    echo "installing the SQL clients"
    rm -rf "$to"
    if python3 -m venv "$to" && "$to/bin/pip" install -q --disable-pip-version-check -r "$wanted"; then
        cp "$wanted" "$to/requirements.txt"
    else
        rm -rf "$to"
        echo "the SQL clients cannot be installed here; their tests skip" >&2
    fi
}

# The real servers that tests and `demo --real` start as their own children. Nothing runs after this.
need_servers() {
    if command -v dpkg >/dev/null; then
        need_server_packages redis-server mariadb-server nginx libnginx-mod-http-lua lua-cjson zlib1g-dev \
            openssl curl
    fi
    command -v java >/dev/null || need_packages openjdk-17-jre-headless
    if [ ! -d "$servers_dir/kafka-4.3.1" ]; then
        command -v mvn >/dev/null || need_packages maven
    fi
    mkdir -p "$servers_dir"
    # One at a time; what an interrupted one left behind goes.
    (
        flock 9
        rm -rf "$servers_dir"/kafka.?????? "$servers_dir"/filebeat.??????
        fetch_kafka
        fetch_filebeat
    ) 9>"$servers_dir/setup.lock"
}

if command -v dpkg >/dev/null; then
    need_packages build-essential pkg-config zlib1g-dev
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
