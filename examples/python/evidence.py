"""Fetches the receipts of a message when it has ended, and writes them as files that anyone verifies offline.

    python3 evidence.py ALLIANCE ME ADDRESS MESSAGE_ID FOLDER
"""

import base64
import pathlib
import sys

import client
from tongban.evidence.v1 import evidence_pb2
from tongban.exchange.v1 import exchange_pb2

UNDER_WAY = {evidence_pb2.STATE_ACCEPTED, evidence_pb2.STATE_RELAYED, evidence_pb2.STATE_CONSIGNED}


def main(alliance, me, address, message_id, folder):
    gateway = client.Gateway(alliance, me, address)
    # The stream follows a message until it has ended.
    for told in gateway.exchange.WatchMessage(exchange_pb2.WatchMessageRequest(message_id=message_id), timeout=60):
        if told.state not in UNDER_WAY:
            break
    request = evidence_pb2.GetMessageEvidenceRequest(message_id=message_id)
    receipts = gateway.evidence.GetMessageEvidence(request, timeout=30).receipts
    to = pathlib.Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    for number, receipt in enumerate(receipts, 1):
        path = "".join(base64.b64encode(sibling).decode() + "\n" for sibling in receipt.inclusion_path)
        proof = f"c2sp.org/tlog-proof@v1\nindex {receipt.leaf_index}\n{path}\n{receipt.checkpoint}"
        (to / f"{number:02}.leaf").write_bytes(receipt.leaf)
        (to / f"{number:02}.tlog-proof").write_text(proof)
    print(f"{len(receipts)} receipts in {to}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
