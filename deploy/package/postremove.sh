#!/bin/sh
# Runs after the package has been removed, purged or upgraded. The state is kept.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
case $1 in
purge | 0)
    for state in /var/lib/private/kubeagents /var/lib/kubeagents; do
        if [ -d "$state" ] && [ ! -L "$state" ]; then
            echo "KubeAgents: the state is still in $state"
        fi
    done
    ;;
esac
