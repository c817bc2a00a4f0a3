#!/bin/sh
# Installs what the talk uses, and Taltun: the binary that was put into /tmp if there is one,
# else the checkout's own release build, else one that is built here.
set -eu
checkout=${TALTUN_CHECKOUT:-/taltun}
binary=${TALTUN_BINARY:-/tmp/taltun}

if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    apt-get -q -y --no-install-recommends install \
        iproute2 iptables iputils-ping nftables tcpdump netcat-openbsd
fi

build() {
    apt-get -q -y --no-install-recommends install ca-certificates curl gcc libc6-dev
    if ! [ -x "$HOME/.cargo/bin/cargo" ]; then
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --profile minimal --default-toolchain none
    fi
    PATH=$HOME/.cargo/bin:$PATH
    cd "$checkout"
    # Not into the checkout's own target directory, which rsync keeps as the host has it.
    export CARGO_TARGET_DIR=/var/tmp/taltun-build
    cargo xtask ebpf
    PATH=$CARGO_TARGET_DIR/tools/bin:$PATH cargo build --release --locked --package taltun
    install -m 755 "$CARGO_TARGET_DIR/release/taltun" /usr/local/bin/taltun
}

if [ -f "$binary" ]; then
    install -m 755 "$binary" /usr/local/bin/taltun
elif [ -x "$checkout/target/release/taltun" ] && "$checkout/target/release/taltun" --version >/dev/null; then
    install -m 755 "$checkout/target/release/taltun" /usr/local/bin/taltun
else
    build
fi
/usr/local/bin/taltun --version
