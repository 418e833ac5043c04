"""Makes the published vectors of docs/sealing.md, written from that page and RFC 9180 alone, sharing no code with the
gateway. Of the ciphers only X25519 and ChaCha20Poly1305 come from a library (the package `cryptography`).

    python3 tests/python/seal.py            writes tests/data/vectors/seal.json
    python3 tests/python/seal.py --check    says whether it is what this program makes; exit 1 if not, 77 without the package
"""

import hashlib
import hmac
import json
import pathlib
import sys

try:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    print("SKIPPED: the vectors of sealing in Python: the package cryptography is not installed")
    sys.exit(77)

FILE = pathlib.Path(__file__).resolve().parent.parent / "data" / "vectors" / "seal.json"
CHUNK = 262_144


# RFC 9180, mode base, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305

KEM_SUITE = b"KEM" + (0x0020).to_bytes(2, "big")
SUITE = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0003))


def extract(salt, key):
    return hmac.new(salt or bytes(32), key, hashlib.sha256).digest()


def expand(key, info, length):
    out, block, count = b"", b"", 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([count]), hashlib.sha256).digest()
        out, count = out + block, count + 1
    return out[:length]


def labeled_extract(suite, salt, label, key):
    return extract(salt, b"HPKE-v1" + suite + label + key)


def labeled_expand(suite, key, label, info, length):
    return expand(key, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def derive_key_pair(seed):
    secret = labeled_expand(KEM_SUITE, labeled_extract(KEM_SUITE, b"", b"dkp_prk", seed), b"sk", b"", 32)
    private = X25519PrivateKey.from_private_bytes(secret)
    return private, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Sender:
    def __init__(self, public, info, seed):
        ephemeral, self.encapsulated = derive_key_pair(seed)
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
        secret = labeled_extract(KEM_SUITE, b"", b"eae_prk", shared)
        shared = labeled_expand(KEM_SUITE, secret, b"shared_secret", self.encapsulated + public, 32)
        context = b"\x00" + labeled_extract(SUITE, b"", b"psk_id_hash", b"")
        context += labeled_extract(SUITE, b"", b"info_hash", info)
        secret = labeled_extract(SUITE, shared, b"secret", b"")
        self.cipher = ChaCha20Poly1305(labeled_expand(SUITE, secret, b"key", context, 32))
        self.nonce = int.from_bytes(labeled_expand(SUITE, secret, b"base_nonce", context, 12), "big")
        self.sequence = 0

    def seal(self, plain, aad):
        nonce = (self.nonce ^ self.sequence).to_bytes(12, "big")
        self.sequence += 1
        return self.cipher.encrypt(nonce, plain, aad)


def rfc_9180_is_met():
    """Appendix A.2.1, so that a fault here is not taken for a fault of the gateway."""
    _, public = derive_key_pair(bytes.fromhex("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df"))
    seed = bytes.fromhex("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b")
    sender = Sender(public, b"Ode on a Grecian Urn", seed)
    sealed = [sender.seal(b"Beauty is truth, truth beauty", b"Count-%d" % count).hex() for count in range(2)]
    return sealed == [
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
        "6b53c051e4199c518de79594e1c4ab18b96f081549d45ce015be002090bb119e85285337cc95ba5f59992dc98c",
    ]


# docs/sealing.md


def field(data):
    return len(data).to_bytes(4, "big") + data


def info(case, piece):
    fields = [b"tongban.seal.v1", case["alliance"].encode(), case["recipient"].encode(), b"sha256"]
    fields += [bytes.fromhex(case["header_digest"])] + piece
    return b"\x01" + b"".join(map(field, fields))


def parts(case):
    _, public = derive_key_pair(bytes.fromhex(case["seed"]))
    sender = Sender(public, info(case, [b"parts"]), bytes.fromhex(case["chance"]))
    return public, sender.encapsulated, sender.seal(plain(case["size"]), b"")


def attachment(case):
    _, public = derive_key_pair(bytes.fromhex(case["seed"]))
    piece = [b"attachment", case["position"].to_bytes(4, "big")]
    sender = Sender(public, info(case, piece), bytes.fromhex(case["chance"]))
    data = plain(case["size"])
    chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
    last = len(chunks) - 1
    return sender.encapsulated + b"".join(
        sender.seal(chunk, b"\x01" if place == last else b"\x00") for place, chunk in enumerate(chunks)
    )


def plain(size):
    """Bytes in which no two chunks are alike: byte i is (i + i // 251) mod 256."""
    return bytes((i + i // 251) % 256 for i in range(size))


def case(number, recipient, size, **more):
    def random(label):
        return hashlib.sha256(b"%s %d" % (label, number)).hexdigest()

    return {
        "alliance": "alliance.example",
        "recipient": recipient,
        "header_digest": random(b"header digest"),
        "seed": random(b"seed"),
        "chance": random(b"chance"),
        "size": size,
        **more,
    }


def made():
    lists, attachments = [], []
    for number, (recipient, size) in enumerate([("450200", 0), ("450200", 1), ("440300", 1000), ("hub/main", 64)]):
        one = case(number, recipient, size)
        public, encapsulated, ciphertext = parts(one)
        key_id = hashlib.sha256(public).digest()[:8]
        one |= {"public": public.hex(), "key_id": key_id.hex(), "info": info(one, [b"parts"]).hex()}
        lists.append(one | {"encapsulated": encapsulated.hex(), "ciphertext": ciphertext.hex()})
    for number, size in enumerate([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7]):
        one = case(100 + number, "450200", size, position=number)
        sealed = attachment(one)
        one |= {"sealed_size": len(sealed), "begins": sealed[:48].hex()}
        attachments.append(one | {"sealed_sha256": hashlib.sha256(sealed).hexdigest()})
    return json.dumps({"parts": lists, "attachments": attachments}, indent=1) + "\n"


def main():
    if not rfc_9180_is_met():
        sys.exit("this program does not meet RFC 9180 A.2.1")
    text = made()
    if "--check" in sys.argv:
        if not FILE.exists() or FILE.read_text() != text:
            sys.exit(f"{FILE.name} is not what this program makes")
        print("1 passed, 0 failed")
    else:
        FILE.write_text(text)


main()
