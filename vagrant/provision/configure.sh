#!/bin/sh
# Puts the file of the machine called $1 where the service looks for it, and the service where
# systemd does.
set -eu
name=$1
checkout=${TALTUN_CHECKOUT:-/taltun}
etc=${TALTUN_ETC:-/etc/taltun}

install -d -m 700 "$etc"
install -m 600 "$checkout/vagrant/nodes/$name.toml" "$etc/lab.toml"
taltun check --config "$etc/lab.toml"
if [ -d /run/systemd/system ]; then
    install -m 644 "$checkout/taltun/dist/systemd/taltun@.service" /etc/systemd/system/
    systemctl daemon-reload
fi
