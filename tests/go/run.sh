#!/bin/sh
# Checks every NAME.leaf with its NAME.tlog-proof in DIR against the keys in TRUST (one vkey a line) with the verifier in
# Go. Needs go and, offline, the sources of golang.org/x/mod (Debian: golang-golang-x-mod-dev; elsewhere: MOD_GOPATH).
# Exit 0: all verify. 1: one does not, and is named. 64: wrong use. 77: skipped, something is missing.
set -eu
[ $# -eq 2 ] || { echo "usage: run.sh DIR TRUST" >&2; exit 64; }
sources=${MOD_GOPATH:-/usr/share/gocode}
if ! command -v go >/dev/null; then
    echo "SKIPPED: go is not installed"
    exit 77
fi
if [ ! -d "$sources/src/golang.org/x/mod/sumdb/tlog" ]; then
    echo "SKIPPED: no golang.org/x/mod under $sources (Debian: apt-get install golang-golang-x-mod-dev)"
    exit 77
fi
here=$(cd "$(dirname "$0")" && pwd)
program=$(mktemp)
trap 'rm -f "$program"' EXIT
GO111MODULE=off GOFLAGS= GOPATH="$sources" go build -o "$program" "$here/verify/main.go"
status=0
"$program" "$1" "$2" || status=$?
exit $status
