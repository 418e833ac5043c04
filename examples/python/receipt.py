"""Verifies receipts offline: no gateway, no network, only the leaf, its proof and the keys that you trust (docs/receipts.md).

    python3 receipt.py FOLDER KEYS…

verifies every NAME.leaf of FOLDER with its NAME.tlog-proof; KEYS are files of vkeys, one a line. Exit code 1 if one does not hold.
"""

import base64
import datetime
import hashlib
import pathlib
import sys
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EVENTS = {
    1: "SUBMISSION_ACCEPTED", 2: "SUBMISSION_REJECTED", 3: "RELAY_ACCEPTED", 4: "RELAY_REJECTED", 5: "RELAY_FAILED",
    6: "CONSIGNED", 7: "CONSIGNMENT_FAILED", 8: "HANDED_OVER", 9: "HANDOVER_FAILED", 10: "EXPIRED", 11: "CANCELLED",
    12: "DELAYED", 13: "WITNESSED",
}


class DoesNotHold(Exception):
    """Why a receipt proves nothing."""


def trusted(lines):
    """The keys of vkey lines, by the name of their log: (key id, public key)."""
    keys = {}
    for line in lines:
        if not line.strip():
            continue
        name, key_id, key = line.strip().split("+", 2)
        raw = base64.b64decode(key, validate=True)
        computed = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
        if raw[0] != 1 or len(raw) != 33 or computed.hex() != key_id:
            raise DoesNotHold(f"the key of {name} is not a vkey")
        keys[name] = (computed, Ed25519PublicKey.from_public_bytes(raw[1:]))
    return keys


def verify(leaf, index, path, checkpoint, keys):
    """Proves that a trusted log contains the leaf; returns what it says as {tag: value}, and the log's name."""
    origin, size, root = opened(checkpoint, keys)
    if index >= size or root_of(leaf, index, size, path) != root:
        raise DoesNotHold("the leaf is not in the log")
    fields = decoded(leaf)
    issuer = fields[0x07].decode().replace("/", "-")
    if not origin.startswith(f"{issuer}.gateway.") or fields[0x08] != keys[origin][0]:
        raise DoesNotHold("the log is not its issuer's")
    return fields, origin


def opened(checkpoint, keys):
    """The checkpoint's log, size and root, if the log's key has signed them."""
    text, _, signatures = checkpoint.rpartition("\n\n")
    text += "\n"
    lines = text.split("\n")
    if len(lines) != 4 or not signatures.endswith("\n"):
        raise DoesNotHold("the checkpoint is malformed")
    origin, size, root = lines[:3]
    if origin not in keys:
        raise DoesNotHold(f"{origin} is not a trusted log")
    key_id, key = keys[origin]
    for line in signatures.splitlines():
        dash, name, signature = line.split(" ", 2)
        raw = base64.b64decode(signature, validate=True)
        if dash == "\u2014" and name == origin and raw[:4] == key_id:
            try:
                key.verify(raw[4:], text.encode())
            except InvalidSignature:
                raise DoesNotHold("the checkpoint's signature does not hold") from None
            return origin, int(size), base64.b64decode(root, validate=True)
    raise DoesNotHold("the log's key has not signed the checkpoint")


def root_of(leaf, index, size, path):
    """RFC 9162, 2.1.3.2."""

    def node(left, right):
        return hashlib.sha256(b"\x01" + left + right).digest()

    node_index, last, found = index, size - 1, hashlib.sha256(b"\x00" + leaf).digest()
    for sibling in path:
        if last == 0 or len(sibling) != 32:
            raise DoesNotHold("the proof is too long")
        if node_index & 1 or node_index == last:
            found = node(sibling, found)
            while not node_index & 1 and node_index:
                node_index, last = node_index >> 1, last >> 1
        else:
            found = node(found, sibling)
        node_index, last = node_index >> 1, last >> 1
    if last:
        raise DoesNotHold("the proof is too short")
    return found


def decoded(leaf):
    """The fields of a leaf about a message, by tag; the reasons (0x03) are joined."""
    if leaf[:2] != b"\x01\x01" or len(leaf) > 640:
        raise DoesNotHold("not a leaf about a message")
    fields, place, before = {}, 2, 0
    while place < len(leaf):
        tag, length = leaf[place], leaf[place + 1] if place + 1 < len(leaf) else 0
        value = leaf[place + 2 : place + 2 + length]
        known = 0x01 <= tag <= 0x25 or 0x60 <= tag <= 0x7F
        again = tag == 0x03 and before == 0x03 and b" " not in fields[0x03]
        if not known or length == 0 or len(value) != length or not (tag > before or again):
            raise DoesNotHold("the leaf is malformed")
        fields[tag] = fields[tag] + b" " + value if again else value
        place, before = place + 2 + length, tag
    missing = [tag for tag in (0x01, 0x02, 0x05, 0x07, 0x08, 0x0B, 0x0F, 0x14) if tag not in fields]
    if missing or fields[0x02][0] not in EVENTS:
        raise DoesNotHold("the leaf says too little")
    return fields


def words(fields, origin):
    """A line for people."""
    milliseconds = int.from_bytes(fields[0x05], "big")
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc).isoformat(timespec="milliseconds")
    reasons = fields.get(0x03, b"").decode()
    message = uuid.UUID(bytes=fields[0x0F])
    return f"{moment}  {EVENTS[fields[0x02][0]]:20} {fields[0x07].decode():8} {message}  {reasons}".rstrip()


def of_wire(receipt, keys):
    """Verifies a tongban.evidence.v1.Receipt."""
    return verify(receipt.leaf, receipt.leaf_index, list(receipt.inclusion_path), receipt.checkpoint, keys)


def of_files(leaf_file, keys):
    """Verifies NAME.leaf with NAME.tlog-proof beside it."""
    head, _, checkpoint = leaf_file.with_suffix(".tlog-proof").read_text().partition("\n\n")
    lines = head.split("\n")
    if lines[0] != "c2sp.org/tlog-proof@v1":
        raise DoesNotHold("not a proof file")
    lines = [line for line in lines[1:] if not line.startswith("extra ")]
    path = [base64.b64decode(line, validate=True) for line in lines[1:]]
    return verify(leaf_file.read_bytes(), int(lines[0].removeprefix("index ")), path, checkpoint, keys)


def main(folder, *key_files):
    keys = trusted(line for file in key_files for line in pathlib.Path(file).read_text().splitlines())
    failed, leaves = 0, sorted(pathlib.Path(folder).glob("*.leaf"))
    for leaf in leaves:
        try:
            print(words(*of_files(leaf, keys)))
        except (DoesNotHold, ValueError, OSError) as why:
            failed += 1
            print(f"DOES NOT HOLD: {leaf.name}: {why}")
    print(f"{len(leaves) - failed} verified, {failed} failed")
    return 1 if failed or not leaves else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
