"""Makes the published vectors of docs/receipts.md, written from that page alone and sharing no code with the gateway.

    python3 tests/python/vectors.py            writes tests/data/vectors/{header,leaf}.json
    python3 tests/python/vectors.py --check    says whether they are what this program makes; exit 1 if not
"""

import hashlib
import json
import pathlib
import sys
import uuid

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "vectors"


# §2: digests of a message


def field(data):
    data = data.encode() if isinstance(data, str) else data
    return len(data).to_bytes(4, "big") + data


def count(number):
    return number.to_bytes(4, "big")


def moment(sent):
    return b"" if sent is None else sent["seconds"].to_bytes(8, "big") + sent["nanos"].to_bytes(4, "big")


def part_digest(part):
    return hashlib.sha256(bytes.fromhex(part["salt"]) + bytes.fromhex(part["content"])).digest()


def parts_preimage(parts):
    data = b"\x01" + field("tongban.parts") + count(len(parts))
    for part in parts:
        size = len(bytes.fromhex(part["content"]))
        data += field(part["name"]) + field(part["media_type"]) + field(size.to_bytes(8, "big"))
        data += field("sha256") + field(part_digest(part))
    return data


def header_preimage(envelope):
    sender, recipient = envelope["from"], envelope.get("to") or {}
    data = b"\x01" + field("tongban.header") + field(envelope["message_id"])
    data += field(sender["city"]) + field(sender.get("system", ""))
    data += field(recipient.get("city", "")) + field(recipient.get("system", ""))
    for name in ["jurisdiction", "redrive_of", "item_code", "case_no", "step"]:
        data += field(envelope.get(name, ""))
    mode = {"online": b"\x01", "proxy": b"\x02", "joint": b"\x03", None: b""}[envelope.get("mode")]
    data += field(mode) + field(envelope.get("in_reply_to", ""))
    data += field(moment(envelope["created_at"])) + field(moment(envelope.get("expires_at")))
    attributes = sorted((key.encode(), value.encode()) for key, value in envelope.get("attributes", {}).items())
    data += count(len(attributes))
    for key, value in attributes:
        data += field(key) + field(value)
    return data + field("sha256") + field(hashlib.sha256(parts_preimage(envelope.get("parts", []))).digest())


def part(name, media_type, content, salt):
    return {"name": name, "media_type": media_type, "content": content.hex(), "salt": salt.hex()}


def envelope(number, **fields):
    sent = {"message_id": f"00000000-0000-7000-8000-{number:012x}", "from": {"city": "450200"}, "item_code": "A"}
    return {**sent, "created_at": {"seconds": 1, "nanos": 0}, **fields}


def envelopes():
    salt = bytes(range(16))
    form = part("申请表.json", "application/json", '{"办件":"桂B-2026-0001"}'.encode(), salt)
    scan = part("身份证.pdf", "application/pdf", b"%PDF-1.7\n", bytes(16))
    empty = part("empty", "text/plain; charset=utf-8", b"", b"\xff" * 16)
    both = {"from": {"city": "450200", "system": "one-window"}, "to": {"city": "440600", "system": "approval"}}
    full = {
        **both, "jurisdiction": "440604000000", "redrive_of": "0197d2a0-5b1c-7cc3-98c4-dc0c0c07398e",
        "item_code": "11450200007596888X4450114008002", "case_no": "桂B-2026-0001（补）", "step": "accept",
        "mode": "joint", "in_reply_to": "0197d2a0-5b1c-7cc3-98c4-dc0c0c07398d", "parts": [form, scan],
        "attributes": {"channel": "window-3", "locale": "zh-CN", "note": "补正"},
        "created_at": {"seconds": 1769846400, "nanos": 123456789}, "expires_at": {"seconds": 1770451200, "nanos": 0},
    }
    yield "minimal", envelope(1)
    yield "full", envelope(2, **full)
    yield "open recipient", envelope(3, to=None, jurisdiction="440604")
    yield "recipient city without a system", envelope(4, to={"city": "440600"})
    yield "case number in four scripts, not normalised", envelope(5, case_no="桂B-é-e\u0301-𠮷-Ω")
    keys = ["b", "a.b", "a", "a-b", "0", "a_b", "aa", "_", "-"]
    yield "attributes ascend by the bytes of their keys", envelope(6, attributes={key: key.upper() for key in keys})
    yield "attribute values keep their spaces and may be empty", envelope(7, attributes={"k": " a  b ", "l": ""})
    yield "moments to the nanosecond", envelope(
        8, created_at={"seconds": 0, "nanos": 0}, expires_at={"seconds": 253402300799, "nanos": 999999999})
    yield "expiry at the first moment is set, not absent", envelope(9, expires_at={"seconds": 0, "nanos": 0})
    yield "one part, empty content", envelope(10, parts=[empty])
    yield "three parts in order", envelope(11, parts=[form, scan, empty])
    yield "three parts in another order", envelope(11, parts=[empty, scan, form])
    yield "the same part twice under two salts", envelope(12, parts=[scan, {**scan, "salt": salt.hex()}])
    yield "64 parts", envelope(13, parts=[part(f"{n}", "a/b", bytes([n]), bytes([n] * 16)) for n in range(64)])
    yield "proxy mode", envelope(14, mode="proxy")
    yield "online mode", envelope(15, mode="online")


def header_vectors():
    for name, sent in envelopes():
        preimage = header_preimage(sent)
        yield {
            "name": name, "envelope": sent,
            "part_digests": [part_digest(p).hex() for p in sent.get("parts", [])],
            "parts_digest": hashlib.sha256(parts_preimage(sent.get("parts", []))).hexdigest(),
            "header_preimage": preimage.hex(), "header_digest": hashlib.sha256(preimage).hexdigest(),
        }


# §3: the leaf

EVENTS = [
    "SUBMISSION_ACCEPTED", "SUBMISSION_REJECTED", "RELAY_ACCEPTED", "RELAY_REJECTED", "RELAY_FAILED", "CONSIGNED",
    "CONSIGNMENT_FAILED", "HANDED_OVER", "HANDOVER_FAILED", "EXPIRED", "CANCELLED", "DELAYED", "WITNESSED",
]
INSTANTS = ["submitted", "accepted", "relayed", "consigned", "acknowledged"]


def minimal_number(number):
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def tlv(tag, value):
    assert len(value) <= 255
    return bytes([tag, len(value)]) + value if value else b""


def fields(evidence):
    """The leaf's fields in order, as (tag, value); a field without value is an empty value."""
    get = evidence.get
    text = lambda name, source=evidence: source.get(name, "").encode()
    number = lambda name, source=evidence: minimal_number(source.get(name, 0))
    ident = lambda name: uuid.UUID(get(name)).bytes if name in evidence else b""
    digest = lambda name, source=evidence: b"\x01" + bytes.fromhex(source[name]) if name in source else b""
    witnessed, instants = get("witnessed", {}), get("instants", {})
    asserted = {"issuer": b"\x01", "recipient signature": b"\x02", "recipient receipt": b"\x03", None: b""}
    yield 0x01, ident("id")
    yield 0x02, bytes([EVENTS.index(evidence["event"]) + 1])
    for reason in get("reasons", []):
        yield 0x03, reason.encode()
    yield 0x04, text("token")
    yield 0x05, number("at")
    yield 0x06, number("clock_uncertainty_ms")
    yield 0x07, text("issuer")
    yield 0x08, evidence["key_id"].to_bytes(4, "big")
    yield 0x09, text("agreement")
    yield 0x0A, number("table_version")
    for tag, who in [(0x0B, get("from")), (0x0D, get("to", {}))]:
        yield tag, text("city", who)
        yield tag + 1, text("system", who)
    yield 0x0F, ident("message_id")
    yield 0x10, ident("in_reply_to")
    yield 0x11, text("case_no")
    yield 0x12, text("item_code")
    yield 0x13, text("step")
    yield 0x14, digest("header_digest")
    yield 0x15, number("parts")
    yield 0x16, number("total_size")
    for tag, instant in enumerate(INSTANTS, 0x17):
        yield tag, number(instant, instants)
    yield 0x1C, number("expires_at")
    yield 0x1D, number("attempts")
    yield 0x1E, number("last_status")
    yield 0x1F, asserted[get("asserted_by")]
    yield 0x20, digest("previous")
    yield 0x21, digest("leaf_hash", witnessed)
    yield 0x22, text("issuer", witnessed)
    yield 0x23, text("log_origin", witnessed)
    yield 0x24, {"online": b"\x01", "proxy": b"\x02", "joint": b"\x03", None: b""}[get("mode")]
    yield 0x25, number("next_attempt_at")
    for tag, value in get("extensions", []):
        yield tag, bytes.fromhex(value)


def leaf(evidence):
    return b"\x01\x01" + b"".join(tlv(tag, value) for tag, value in fields(evidence))


def digest_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def minimal(event="SUBMISSION_ACCEPTED", **more):
    return {
        "id": "0197d2a0-5b1c-7cc3-98c4-dc0c0c07398f", "event": event, "at": 1, "issuer": "450200", "key_id": 0,
        "from": {"city": "450200"}, "message_id": "00000000-0000-7000-8000-000000000001",
        "header_digest": digest_of("header"), **more,
    }


def typical(event, issuer="450200", **more):
    return minimal(
        event, **{
            "at": 1769846400123, "clock_uncertainty_ms": 1000, "issuer": issuer, "key_id": 0xC0FFEE01,
            "agreement": "yue-gui-2026", "table_version": 0, "from": {"city": "450200", "system": "one-window"},
            "to": {"city": "440600", "system": "approval"}, "message_id": "0197d2a0-5b1c-7cc3-98c4-dc0c0c073990",
            "case_no": "桂B-2026-0001", "item_code": "11450200007596888X4450114008002", "step": "apply", "parts": 2,
            "total_size": 1024, "instants": {"submitted": 1769846399000, "accepted": 1769846400123},
            "expires_at": 1770451200123, "previous": digest_of("previous"), **more,
        })


TOP, LATE, HUB = 2**64 - 1, 2**48 - 1, "hub/" + "h" * 32


def at_the_limits(event, **more):
    return minimal(
        event, **{
            "at": LATE, "clock_uncertainty_ms": 2**32 - 1, "issuer": HUB, "key_id": 2**32 - 1, "agreement": "g" * 24,
            "table_version": TOP, "from": {"city": "4" * 12, "system": "f" * 32},
            "to": {"city": "5" * 12, "system": "t" * 32}, "in_reply_to": "ffffffff-ffff-7fff-bfff-ffffffffffff",
            "case_no": "号" * 21 + "A", "item_code": "i" * 40, "step": "s" * 24, "parts": 64, "total_size": TOP,
            "instants": {name: LATE for name in INSTANTS}, "expires_at": LATE, "attempts": TOP, "last_status": 16,
            "asserted_by": "recipient receipt", "previous": digest_of("previous"), "mode": "joint", **more,
        })


def witness(issuer="440600", origin="440600.gateway.alliance.example/log/a/1"):
    return {"leaf_hash": digest_of("foreign"), "issuer": issuer, "log_origin": origin}


def good_leaves():
    yield "the least a leaf holds", minimal()
    yield "accepted at the origin", typical("SUBMISSION_ACCEPTED")
    yield "refused at the origin, recipient open", minimal(
        "SUBMISSION_REJECTED", reasons=["NO_MATCHING_ITEM"], item_code="A", at=1769846400123)
    yield "taken by the next hop", typical("RELAY_ACCEPTED", "440600")
    yield "refused by the next hop, two reasons and a token", typical(
        "RELAY_REJECTED", "440600", reasons=["NOT_PERMITTED", "A_CODE_OF_A_LATER_YEAR"], token="B-7.3_X")
    yield "reasons keep the issuer's order", typical("RELAY_REJECTED", reasons=["ZZZ", "AAA"])
    yield "next hop never reached", typical(
        "RELAY_FAILED", reasons=["NO_ROUTE"], attempts=300, last_status=14, instants={"submitted": 2**40 - 1})
    yield "consigned", typical("CONSIGNED", "440600", instants={"consigned": 1769846401000})
    yield "not consigned", typical("CONSIGNMENT_FAILED", "440600", reasons=["NO_SUCH_SYSTEM"])
    for asserted in ["issuer", "recipient signature", "recipient receipt"]:
        yield f"handed over, asserted by {asserted}", typical(
            "HANDED_OVER", "440600", asserted_by=asserted, attempts=1,
            instants={name: 1769846400000 + n for n, name in enumerate(INSTANTS)})
    yield "handover refused with a token", typical("HANDOVER_FAILED", reasons=["RECIPIENT_REFUSED"], token="E42")
    yield "expired", typical("EXPIRED", reasons=["MESSAGE_EXPIRED"], attempts=65535, last_status=4)
    yield "cancelled", typical("CANCELLED")
    yield "delayed, with the reason that it may have", typical("DELAYED", reasons=["BUSY"], attempts=256)
    yield "delayed, next attempt known, proxy mode", typical("DELAYED", mode="proxy", next_attempt_at=1769846460123)
    yield "issued by a hub", typical("RELAY_ACCEPTED", "hub/main")
    yield "witnessed", minimal("WITNESSED", witnessed=witness(), previous=digest_of("previous"))
    yield "extensions that a verifier passes over", minimal(extensions=[[0x60, "00"], [0x61, "ff" * 255], [0x7F, "01"]])
    yield "at the limits of every field, negative", at_the_limits(
        "RELAY_FAILED", reasons=["R" * 32, "S" * 32], token="T" * 32)
    yield "at the limits of every field, handed over", at_the_limits("HANDED_OVER")
    sent = at_the_limits("WITNESSED", witnessed=witness(HUB, "o" * 160))
    for name in ["agreement", "table_version", "in_reply_to", "parts", "total_size", "instants", "expires_at",
                 "attempts", "last_status", "asserted_by", "mode"]:
        del sent[name]
    yield "at the limits of every field, witnessed", sent


def spliced(tag, value, evidence=None):
    """A leaf with one field's value replaced, or put in; `value` None takes it out. A list puts in several fields."""
    kept = [f for f in fields(evidence or minimal()) if f[0] != tag]
    new = [] if value is None else [(tag, v) for v in (value if isinstance(value, list) else [value])]
    ordered = sorted(kept + new, key=lambda f: f[0])
    raw = lambda f: bytes([f[0], len(f[1])]) + f[1] if f in new else tlv(*f)
    return b"\x01\x01" + b"".join(raw(f) for f in ordered)


def bad_leaves():
    good, negative = leaf(minimal()), minimal("EXPIRED", reasons=["MESSAGE_EXPIRED"])
    yield "nothing at all", b"", "Version"
    yield "a version to come", b"\x02" + good[1:], "Version"
    yield "another kind", good[:1] + b"\x02" + good[2:], "Version"
    yield "the prologue alone", good[:2], "Missing 0x01"
    yield "cut in a value", good[:-1], "Truncated"
    yield "cut after a tag", good + b"\x20", "Truncated"
    yield "a length beyond the end", good + b"\x20\x21\x01", "Truncated"
    yield "641 bytes", good + b"\x60\xff" + b"x" * 255 + b"\x61\xff" + b"x" * (641 - len(good) - 259), "TooLong"
    for tag, name in [(0x01, "receipt id"), (0x02, "event"), (0x05, "event time"), (0x07, "issuer"), (0x08, "key id"),
                      (0x0B, "sender's city"), (0x0F, "message id"), (0x14, "header digest")]:
        yield f"without {name}", spliced(tag, None), f"Missing {tag:#04x}"
    yield "a negative event without a reason", spliced(0x03, None, negative), "Missing 0x03"
    yield "three reasons", spliced(0x03, [b"A", b"B", b"C"], negative), "Order 0x03"
    yield "two tokens", spliced(0x04, [b"A", b"B"]), "Order 0x04"
    yield "two fields change places", good[:2] + good[20:23] + good[2:20] + good[23:], "Order 0x01"
    yield "an empty field", spliced(0x04, b""), "Order 0x04"
    yield "tag zero", good[:2] + b"\x00\x01\x01" + good[2:], "Unknown 0x00"
    yield "an unknown tag of a later version", good + b"\x26\x01\x01", "Unknown 0x26"
    yield "an unknown mode", good + b"\x24\x01\x04", "Value 0x24"
    yield "a next attempt of what is not delayed", good + b"\x25\x01\x01", "Value 0x25"
    yield "the last tag before the extensions", good + b"\x5f\x01\x01", "Unknown 0x5f"
    yield "the first tag after the extensions", good + b"\x80\x01\x01", "Unknown 0x80"
    yield "event zero", spliced(0x02, b"\x00"), "Value 0x02"
    yield "an event to come", spliced(0x02, b"\x0e"), "Value 0x02"
    yield "an event in two bytes", spliced(0x02, b"\x00\x01"), "Value 0x02"
    yield "a receipt id of 15 bytes", spliced(0x01, bytes(15)), "Value 0x01"
    yield "a message id of 17 bytes", spliced(0x0F, bytes(17)), "Value 0x0f"
    yield "an answered id of 15 bytes", spliced(0x10, bytes(15)), "Value 0x10"
    yield "a key id of three bytes", spliced(0x08, b"\x01\x02\x03"), "Value 0x08"
    yield "a number with a leading zero", spliced(0x15, b"\x00\x02"), "Value 0x15"
    yield "the number zero", spliced(0x15, b"\x00"), "Value 0x15"
    yield "a number of nine bytes", spliced(0x16, b"\x01" + bytes(8)), "Value 0x16"
    yield "an uncertainty of five bytes", spliced(0x06, b"\x01" + bytes(4)), "Value 0x06"
    yield "a moment of seven bytes", spliced(0x05, b"\x01" + bytes(6)), "NotCanonical"
    yield "a lower-case reason", spliced(0x03, b"expired", negative), "Value 0x03"
    yield "a token of 33 bytes", spliced(0x04, b"A" * 33), "Value 0x04"
    yield "an issuer that is no member", spliced(0x07, b"hub/"), "Value 0x07"
    yield "an issuer in full-width digits", spliced(0x07, "４５０２００".encode()), "Value 0x07"
    yield "an agreement of 25 bytes", spliced(0x09, b"a" * 25), "Value 0x09"
    yield "an agreement with an escape", spliced(0x09, b"a\x1b[2J"), "Value 0x09"
    yield "a division of five digits", spliced(0x0B, b"45020"), "Value 0x0b"
    yield "a system called ..", spliced(0x0C, b".."), "Value 0x0c"
    yield "a recipient system without its city", spliced(0x0E, b"approval"), "Missing 0x0d"
    yield "a case number with a zero-width space", spliced(0x11, "a\u200bb".encode()), "Value 0x11"
    yield "a case number that is not UTF-8", spliced(0x11, b"\xff\xfe"), "Value 0x11"
    yield "a case number of 65 bytes", spliced(0x11, b"1" * 65), "Value 0x11"
    yield "an item code with a slash", spliced(0x12, b"a/b"), "Value 0x12"
    yield "a step in capitals", spliced(0x13, b"Apply"), "Value 0x13"
    yield "a digest of an unknown algorithm", spliced(0x14, b"\x02" + bytes(32)), "Value 0x14"
    yield "a digest of 31 bytes", spliced(0x20, b"\x01" + bytes(31)), "Value 0x20"
    yield "asserted by nobody known", spliced(0x1F, b"\x04"), "Value 0x1f"
    yield "a witness without its leaf", spliced(0x22, b"440600"), "Missing 0x21"
    seen = minimal("WITNESSED", witnessed=witness())
    yield "witnessed, and nothing seen", leaf(minimal("WITNESSED")), "Missing 0x21"
    yield "witnessed without a log", spliced(0x23, None, seen), "Missing 0x21"
    yield "witnessed in a log with a newline", spliced(0x23, b"a\nb", seen), "Value 0x23"
    yield "witnessed in a log with a plus sign", spliced(0x23, b"a+b", seen), "Value 0x23"
    yield "witnessed in a log of 161 bytes", spliced(0x23, b"o" * 161, seen), "Value 0x23"
    yield "an extension twice", good + b"\x60\x01\x01\x60\x01\x02", "Order 0x60"


def leaf_vectors():
    def good(name, evidence):
        data = leaf(evidence)
        assert len(data) <= 640, (name, len(data))
        hashed = hashlib.sha256(b"\x00" + data).hexdigest()
        return {"name": name, "evidence": evidence, "bytes": len(data), "leaf": data.hex(), "leaf_hash": hashed}

    return {
        "good": [good(name, evidence) for name, evidence in good_leaves()],
        "bad": [{"name": name, "leaf": data.hex(), "fault": fault} for name, data, fault in bad_leaves()],
    }


def main():
    made = {"header.json": {"good": list(header_vectors())}, "leaf.json": leaf_vectors()}
    changed = []
    for name, vectors in made.items():
        text = json.dumps(vectors, ensure_ascii=False, indent=1) + "\n"
        if "--check" not in sys.argv:
            (FOLDER / name).write_text(text, encoding="utf-8")
        elif (FOLDER / name).read_text(encoding="utf-8") != text:
            changed.append(name)
        print(f"{name}: " + ", ".join(f"{len(rows)} {kind}" for kind, rows in vectors.items()))
    if changed:
        sys.exit(f"not what this program makes: {', '.join(changed)}")


if __name__ == "__main__":
    main()
