#!/bin/sh
# Runs after the package has been installed or upgraded. A server that runs is restarted, so that it is the new one.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart kubeagents.service
fi
# dpkg passes "configure" and the version that was installed before, rpm the number of versions that are installed.
if { [ "$1" = configure ] && [ -z "$2" ]; } || [ "$1" = 1 ]; then
    echo "KubeAgents: create a token, then start the server:"
    echo "  kubeagents token -scopes report,read,acknowledge,admin operator | sudo tee -a /etc/kubeagents/tokens"
    echo "  sudo systemctl enable --now kubeagents"
fi
