"""An independent witness: follows a gateway's log over gRPC and says so at once when the log contradicts itself.

Written from docs/receipts.md and the C2SP specifications alone, without a line of the gateway's code. It reads the published
checkpoint, verifies the log's signature (signed-note), asks for the proof that the log has only grown since the last look
(RFC 6962 2.1.2, checked by RFC 9162 2.1.4.2), recomputes small logs from their tiles (tlog-tiles), and cosigns what it has seen
(tlog-cosignature, to stdout: a stranger's cosignature is nobody's to hand in). It goes on through restarts of the gateway.

    witness.py CA.pem CERT.pem KEY.pem ADDRESS LOG.vkey   one line per look at something new: "SEEN size root time looks"
Exit 0 at end of input on stdin; 2 where the log contradicts itself, with both notes on stdout: they are the proof.
"""

import base64
import hashlib
import os
import select
import struct
import sys
import time

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tongban.evidence.v1 import evidence_pb2 as pb
from tongban.evidence.v1 import evidence_pb2_grpc

EVERY_S = float(os.environ.get("WITNESS_EVERY_S", "0.2"))


class Fork(Exception):
    pass


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes):
    """The Merkle tree hash over leaf hashes, as RFC 6962 2.1 writes it."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node(root_of(hashes[:split]), root_of(hashes[split:]))


def grown(old, old_root, new, new_root, proof):
    """Whether the log of `new` leaves begins with that of `old` (RFC 9162 2.1.4.2)."""
    if old == new:
        return not proof and old_root == new_root
    if old & (old - 1) == 0:
        proof = [old_root] + proof
    if not proof:
        return False
    at, end = old - 1, new - 1
    while at & 1:
        at, end = at >> 1, end >> 1
    first = second = proof[0]
    for sibling in proof[1:]:
        if end == 0:
            return False
        if at & 1 or at == end:
            first, second = node(sibling, first), node(sibling, second)
            while at and not at & 1:
                at, end = at >> 1, end >> 1
        else:
            second = node(second, sibling)
        at, end = at >> 1, end >> 1
    return end == 0 and first == old_root and second == new_root


def opened(note, vkey):
    """Size, root and text of a checkpoint that this key signed."""
    name, key_id, key = vkey.strip().split("+", 2)
    key = base64.b64decode(key, validate=True)
    assert key[0] == 1 and hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() == key_id
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        signature = base64.b64decode(line.removeprefix(f"— {name} "), validate=False) if f"— {name} " in line else b""
        if signature[:4].hex() == key_id:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())
            origin, size, root = text.splitlines()
            assert origin == name
            return int(size), base64.b64decode(root, validate=True), text
    raise ValueError("the log did not sign its checkpoint")


def cosigned(text, name, key, now):
    """The line of a cosignature/v1."""
    public = key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    signature = key.sign(f"cosignature/v1\ntime {now}\n{text}".encode())
    return f"— {name} " + base64.b64encode(key_id + struct.pack(">Q", now) + signature).decode()


def look(log, vkey, held):
    """One look; what is held from now on, as (size, root, note)."""
    note = log.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5).checkpoint
    if not note:
        return held
    size, root, _ = opened(note, vkey)
    if held and size < held[0]:
        raise Fork(f"the log has shrunk\n{held[2]}\n{note}")
    if held:
        asked = pb.GetConsistencyProofRequest(old_size=held[0], new_size=size)
        proof = [bytes(hash) for hash in log.GetConsistencyProof(asked, timeout=5).hashes]
        if not grown(held[0], held[1], size, root, proof):
            raise Fork(f"two states that contradict each other\n{held[2]}\n{note}")
    if size <= 256:
        tile = log.GetTile(pb.GetTileRequest(width=size), timeout=5).hashes
        if root_of([tile[at : at + 32] for at in range(0, len(tile), 32)]) != root:
            raise Fork(f"the tiles do not lead to the root\n{note}")
    return size, root, note


def main(ca, certificate, key, address, vkey):
    files = [open(path, "rb").read() for path in (ca, key, certificate)]
    credentials, vkey, own = grpc.ssl_channel_credentials(*files), open(vkey).read(), Ed25519PrivateKey.generate()
    channel = grpc.secure_channel(address, credentials)
    held, looks, away = None, 0, 0
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        try:
            seen = look(evidence_pb2_grpc.EvidenceServiceStub(channel), vkey, held)
            looks += 1
        except grpc.RpcError as error:
            print("unanswered:", error.code(), error.details(), file=sys.stderr)
            channel.close()
            channel = grpc.secure_channel(address, credentials)
            away += 1
            continue
        except Fork as fork:
            print(f"FORK {fork}", flush=True)
            return 2
        if seen and (not held or seen[0] > held[0]):
            print(f"SEEN {seen[0]} {seen[1].hex()} {time.time():.1f} {looks}", flush=True)
        held = seen
    if held:
        print("COSIGNED", base64.b64encode(own.public_key().public_bytes_raw()).decode(), held[2].split("\n\n")[0].replace("\n", " "))
        print(cosigned(opened(held[2], vkey)[2], "witness.example/w1", own, int(time.time())))
    print(f"FOLLOWED {looks} looks, {away} unanswered, {held[0] if held else 0} leaves", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
