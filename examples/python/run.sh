#!/usr/bin/env bash
# Runs the example whole: two gateways, a message there, an acknowledgement, receipts verified offline, typed errors. What it needs
# is made under target/. Exit 0: all held. 77: skipped, something cannot be had.
#   TONGBAN=path/to/tongban examples/python/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tongban=${TONGBAN:-$root/target/release/tongban}
home=$root/target/examples/python

skip() { echo "SKIPPED: the example in Python: $1"; exit 77; }
command -v python3 >/dev/null || skip "python3 is not installed"
[ -x "$tongban" ] || skip "$tongban is not built"

# The packages and the stubs, once.
if ! cmp -s "$here/requirements.txt" "$home/requirements.txt"; then
    rm -rf "$home"
    mkdir -p "$home/stubs"
    python3 -m venv "$home/venv" >/dev/null 2>&1 || skip "python3 has no venv"
    timeout 300 "$home/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" ||
        skip "the packages cannot be installed"
    cp "$here/requirements.txt" "$home/requirements.txt"
fi
python=$home/venv/bin/python
(cd "$root/proto" && "$python" -m grpc_tools.protoc -I . \
    --python_out="$home/stubs" --grpc_python_out="$home/stubs" \
    tongban/exchange/v1/exchange.proto tongban/evidence/v1/evidence.proto)

. "$here/../two-cities.sh"
export PYTHONPATH=$home/stubs:$here PYTHONDONTWRITEBYTECODE=1
run() { echo "\$ python3 $*"; "$python" "$here/$1" "${@:2}"; }
expect() { grep -q "$1" out || { echo "expected: $1"; cat out; exit 1; }; }

# The first call waits for the gateway by sending the same again.
run submit.py certs/dev 450200/window "$liuzhou" 440600/approval 您好 | tee out
expect SUBMISSION_ACCEPTED
id=$(tail -1 out)
run receive.py certs/dev 440600/approval "$foshan" 1 | tee out
expect "$id text.txt: 您好"
run evidence.py certs/dev 450200/window "$liuzhou" "$id" receipts
run receipt.py receipts certs/dev/450200/log.vkey certs/dev/440600/log.vkey | tee out
expect "HANDED_OVER          440600"
expect " 0 failed"

# Typed errors: another content under the same id, a recipient that nobody knows, a faulty field.
run submit.py certs/dev 450200/window "$liuzhou" 440600/approval 再见 "$id" >out && exit 1
expect IDEMPOTENCY_CONFLICT
run submit.py certs/dev 450200/window "$liuzhou" 990000/approval 您好 >out && exit 1
expect NO_ROUTE
run submit.py certs/dev 450200/window "$liuzhou" 4406/approval 您好 >out && exit 1
expect "INVALID_ENVELOPE.*envelope.to.city"

# A receipt in which one bit is other proves nothing, and neither does one of a log that is not trusted.
"$python" - <<'P'
import pathlib
leaf = pathlib.Path("receipts/01.leaf")
data = bytearray(leaf.read_bytes())
data[40] ^= 1
leaf.write_bytes(data)
P
run receipt.py receipts certs/dev/450200/log.vkey certs/dev/440600/log.vkey >out && exit 1
expect "DOES NOT HOLD: 01.leaf"
expect " 1 failed"
run receipt.py receipts certs/dev/450200/log.vkey >out && exit 1
expect "is not a trusted log"
"$tongban" verify receipts --trust certs/dev/450200/log.vkey >out 2>&1 && exit 1
echo "the example in Python: all held"
