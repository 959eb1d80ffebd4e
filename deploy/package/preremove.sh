#!/bin/sh
# Runs before the package is removed or upgraded. dpkg passes "remove" for a removal, rpm 0.
set -e
case $1 in
remove | 0)
    if [ -d /run/systemd/system ]; then
        systemctl stop kubeagents.service
    fi
    if command -v systemctl >/dev/null; then
        systemctl disable --quiet kubeagents.service
    fi
    ;;
esac
