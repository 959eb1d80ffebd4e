#!/bin/sh
# Writes the completions that releases include into deploy/completions. It builds the program as a release does, so that
# little is built twice.
set -e
unset GOOS GOARCH
export CGO_ENABLED=0
rm -rf deploy/completions
mkdir deploy/completions
go run -trimpath -buildvcs=false . completion bash >deploy/completions/kubeagents.bash
go run -trimpath -buildvcs=false . completion zsh >deploy/completions/_kubeagents
go run -trimpath -buildvcs=false . completion fish >deploy/completions/kubeagents.fish
