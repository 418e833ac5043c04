#!/bin/sh
# Measures what a gateway costs as its work grows: stored messages, partners, routes, an attachment; each on a gateway of its own
# on 127.0.0.1, gone afterwards. Results: target/compare/growth-PART.{txt,json,svg}, written anew after each size.
#
#   benches/compare/grow.sh                                   all parts, a million messages
#   benches/compare/grow.sh stored --stored 10000000          ten million; some 25 GB below TMPDIR
#   benches/compare/grow.sh --help                            parts and limits
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
cargo build --release --locked
cargo build --release --locked --manifest-path "$here/Cargo.toml" --target-dir "$root/target/compare-build"
pure=$(cargo bench --locked --bench pure --no-run 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
exec "$root/target/compare-build/release/tongban-compare" grow --pure "$pure" "$@"
