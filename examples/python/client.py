"""What a system in Python needs beside the generated stubs: a channel, a message with its digests, and errors that say what to do.

Sources: docs/receipts.md section 2 (digests), docs/errors.md (errors), proto/tongban/exchange/v1/exchange.proto.
"""

import hashlib
import os
import pathlib
import time

import grpc
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tongban.evidence.v1 import evidence_pb2_grpc
from tongban.exchange.v1 import exchange_pb2, exchange_pb2_grpc


class Gateway:
    """The city's own gateway, over mutual TLS.

    `alliance` is the folder that `tongban pki` made, `me` is "CITY/SYSTEM", `address` is "HOST:PORT".
    """

    def __init__(self, alliance, me, address):
        self.city, self.system = me.split("/")
        city = pathlib.Path(alliance) / self.city
        credentials = grpc.ssl_channel_credentials(
            root_certificates=(city / "ca.pem").read_bytes(),
            private_key=(city / "systems" / f"{self.system}.key").read_bytes(),
            certificate_chain=(city / "systems" / f"{self.system}.pem").read_bytes(),
        )
        # A gateway may be restarted: the channel dials again by itself, and each call has its own deadline.
        channel = grpc.secure_channel(address, credentials)
        self.exchange = exchange_pb2_grpc.ExchangeServiceStub(channel)
        self.evidence = evidence_pb2_grpc.EvidenceServiceStub(channel)


def new_id():
    """A UUIDv7 (RFC 9562) as lower-case text."""
    number = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    number[6] = number[6] & 0x0F | 0x70
    number[8] = number[8] & 0x3F | 0x80
    text = number.hex()
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])


def message(me, to, item, files, message_id=None, case_no="", step="", mode=0):
    """An envelope. Keep it, and send this very one again when an answer was lost: a new one would have other salts.

    `files` are pairs (name, media type, bytes) of at most 1 MiB together.
    """
    now = time.time_ns()
    parts = []
    for name, media_type, content in files:
        salt = os.urandom(16)
        digest = hashlib.sha256(salt + content).digest()
        parts.append(
            exchange_pb2.Part(
                name=name, media_type=media_type, size=len(content), salt=salt, inline=content,
                digest=exchange_pb2.Digest(algorithm="sha256", value=digest),
            )
        )
    return exchange_pb2.Envelope(
        message_id=message_id or new_id(), item_code=item, case_no=case_no, step=step, mode=mode, parts=parts,
        created_at=timestamp_pb2.Timestamp(seconds=now // 10**9, nanos=now % 10**9),
        **{"from": address(me), "to": address(to)},
    )


def address(text):
    city, _, system = text.partition("/")
    return exchange_pb2.Address(city=city, system=system)


def header_digest(envelope):
    """The digest that a receipt about this message carries (docs/receipts.md 2.3 and 2.4)."""

    def field(data):
        data = data.encode() if isinstance(data, str) else data
        return len(data).to_bytes(4, "big") + data

    def count(number):
        return number.to_bytes(4, "big")

    def moment(stamp):
        return stamp.seconds.to_bytes(8, "big") + stamp.nanos.to_bytes(4, "big")

    parts = b"\x01" + field("tongban.parts") + count(len(envelope.parts))
    for part in envelope.parts:
        parts += field(part.name) + field(part.media_type) + field(part.size.to_bytes(8, "big"))
        parts += field(part.digest.algorithm) + field(part.digest.value)
    sender, recipient = getattr(envelope, "from"), envelope.to
    header = b"\x01" + field("tongban.header") + field(envelope.message_id)
    for text in [sender.city, sender.system, recipient.city, recipient.system, envelope.jurisdiction]:
        header += field(text)
    for text in [envelope.redrive_of, envelope.item_code, envelope.case_no, envelope.step]:
        header += field(text)
    header += field(bytes([envelope.mode]) if envelope.mode else b"") + field(envelope.in_reply_to)
    header += field(moment(envelope.created_at))
    header += field(moment(envelope.expires_at) if envelope.HasField("expires_at") else b"")
    header += count(len(envelope.attributes))
    for key, value in sorted((key.encode(), value.encode()) for key, value in envelope.attributes.items()):
        header += field(key) + field(value)
    return hashlib.sha256(header + field("sha256") + field(hashlib.sha256(parts).digest())).digest()


class Refused(Exception):
    """A gateway's no, with what it said.

    `reason` is a code of docs/errors.md (or the name of the gRPC status where the answer comes from the connection),
    `faults` are pairs (field, what it must be), `retry_after_s` is None where the same request will never be accepted.
    """

    def __init__(self, error):
        self.reason, self.words, self.faults, self.retry_after_s = error.code().name, {"en": error.details()}, [], None
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            self._read(detail)
        if not status and error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            self.retry_after_s = 1.0
        super().__init__(f"{self.reason}: {self.words.get('zh-CN', self.words['en'])} {self.faults or ''}")

    def _read(self, detail):
        info, words = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
        fields, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            self.reason = info.reason
        elif detail.Unpack(words):
            self.words[words.locale] = words.message
        elif detail.Unpack(fields):
            self.faults = [(fault.field, fault.description) for fault in fields.field_violations]
        elif detail.Unpack(retry):
            self.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()


def submit(gateway, envelope, patience_s=60):
    """Submits, and sends the same again while that may help. Returns the receipt; raises `Refused`."""
    until = time.monotonic() + patience_s
    while True:
        try:
            request = exchange_pb2.SubmitRequest(envelope=envelope)
            return gateway.exchange.Submit(request, timeout=30).receipt
        except grpc.RpcError as error:
            refused = Refused(error)
            if refused.retry_after_s is None or time.monotonic() + refused.retry_after_s > until:
                raise refused from error
            time.sleep(refused.retry_after_s)
