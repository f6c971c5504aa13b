#!/usr/bin/env bash
# Builds the etcd server that tests and small installations run, at the version pinned in tools/etcd/go.mod, into bin/etcd.
# Needed are Go and the Go module proxy; the first build takes one to two minutes on two cores, a later one does nothing
# while bin/etcd is of that version. Several callers at a time are fine: each builds apart, and the name is moved at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

GO=${GO:-go}
want=$(cd tools/etcd && "$GO" list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)
mkdir -p bin
have() { [ -x bin/etcd ] && [ "$(bin/etcd --version 2>/dev/null | sed -n 's/^etcd Version: /v/p')" = "$want" ]; }

have && exit 0
if command -v flock >/dev/null; then # who waits finds it built
	exec 9>bin/.etcd.lock
	flock 9
	have && exit 0
fi
echo "building etcd $want into bin/etcd; this takes a minute or two the first time" >&2
new=$(mktemp bin/.etcd.XXXXXX)
trap 'rm -f "$new"' EXIT
(cd tools/etcd && CGO_ENABLED=0 "$GO" build -trimpath -ldflags '-s -w' -o "../../$new" go.etcd.io/etcd/server/v3)
mv -f "$new" bin/etcd
have || { echo "bin/etcd does not say that it is $want" >&2; exit 1; }
