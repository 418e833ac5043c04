"""Submits a message as a city's system, and verifies the receipt before believing it.

    python3 submit.py ALLIANCE ME ADDRESS TO TEXT [MESSAGE_ID]
    python3 submit.py certs/dev 450200/window 127.0.0.1:7501 440600/approval 您好
"""

import pathlib
import sys

import client
import receipt


def main(alliance, me, address, to, text, message_id=None):
    gateway = client.Gateway(alliance, me, address)
    files = [("text.txt", "text/plain; charset=utf-8", text.encode())]
    envelope = client.message(me, to, "DEMO-001", files, message_id, case_no="GX-2026-1", step="apply", mode=1)
    try:
        answer = client.submit(gateway, envelope)
    except client.Refused as refused:
        print(refused)
        return 1
    keys = receipt.trusted((pathlib.Path(alliance) / gateway.city / "log.vkey").read_text().splitlines())
    fields, origin = receipt.of_wire(answer, keys)
    # The gateway's own word about this very message, and no other.
    assert fields[0x14] == b"\x01" + client.header_digest(envelope), "the receipt speaks of another message"
    print(receipt.words(fields, origin))
    print(envelope.message_id)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
