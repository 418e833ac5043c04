package org.tongban.example;

import com.google.protobuf.ByteString;
import com.google.protobuf.Timestamp;
import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.time.Instant;
import java.util.Arrays;
import java.util.UUID;
import org.tongban.exchange.v1.Address;
import org.tongban.exchange.v1.Digest;
import org.tongban.exchange.v1.Envelope;
import org.tongban.exchange.v1.Part;

/** Messages with their digests (docs/receipts.md section 2). */
final class Messages {
  private static final SecureRandom CHANCE = new SecureRandom();

  private Messages() {}

  /** A UUIDv7 (RFC 9562). */
  static String newId() {
    long high = System.currentTimeMillis() << 16 | 0x7000 | CHANCE.nextInt(0x1000);
    long low = CHANCE.nextLong() >>> 2 | 1L << 63;
    return new UUID(high, low).toString();
  }

  /** An address written CITY/SYSTEM. */
  static Address address(String text) {
    String[] parts = text.split("/", 2);
    return Address.newBuilder().setCity(parts[0]).setSystem(parts[1]).build();
  }

  /**
   * A message with one text. Keep it, and send this very one again when an answer was lost: a new one would have another salt.
   */
  static Envelope text(String id, String from, String to, String item, String text) throws GeneralSecurityException {
    byte[] content = text.getBytes(StandardCharsets.UTF_8);
    byte[] salt = new byte[16];
    CHANCE.nextBytes(salt);
    Instant now = Instant.now();
    Part part = Part.newBuilder()
        .setName("text.txt")
        .setMediaType("text/plain; charset=utf-8")
        .setSize(content.length)
        .setSalt(ByteString.copyFrom(salt))
        .setDigest(Digest.newBuilder().setAlgorithm("sha256").setValue(ByteString.copyFrom(sha256(salt, content))))
        .setInline(ByteString.copyFrom(content))
        .build();
    return Envelope.newBuilder()
        .setMessageId(id)
        .setFrom(address(from))
        .setTo(address(to))
        .setItemCode(item)
        .setCreatedAt(Timestamp.newBuilder().setSeconds(now.getEpochSecond()).setNanos(now.getNano()))
        .addParts(part)
        .build();
  }

  /** The digest that a receipt about this message carries. */
  static byte[] headerDigest(Envelope envelope) throws GeneralSecurityException {
    var parts = new Form("tongban.parts").count(envelope.getPartsCount());
    for (Part part : envelope.getPartsList()) {
      parts.field(part.getName()).field(part.getMediaType());
      parts.field(ByteBuffer.allocate(8).putLong(part.getSize()).array());
      parts.field(part.getDigest().getAlgorithm()).field(part.getDigest().getValue().toByteArray());
    }
    var header = new Form("tongban.header").field(envelope.getMessageId());
    header.field(envelope.getFrom().getCity()).field(envelope.getFrom().getSystem());
    header.field(envelope.getTo().getCity()).field(envelope.getTo().getSystem());
    header.field(envelope.getJurisdiction()).field(envelope.getRedriveOf()).field(envelope.getItemCode());
    header.field(envelope.getCaseNo()).field(envelope.getStep());
    int mode = envelope.getModeValue();
    header.field(mode == 0 ? new byte[0] : new byte[] {(byte) mode}).field(envelope.getInReplyTo());
    header.field(moment(envelope.getCreatedAt()));
    header.field(envelope.hasExpiresAt() ? moment(envelope.getExpiresAt()) : new byte[0]);
    header.count(envelope.getAttributesCount());
    envelope.getAttributesMap().entrySet().stream()
        .sorted((one, other) -> Arrays.compareUnsigned(bytes(one.getKey()), bytes(other.getKey())))
        .forEach(entry -> header.field(entry.getKey()).field(entry.getValue()));
    return sha256(header.field("sha256").field(sha256(parts.bytes())).bytes());
  }

  static byte[] sha256(byte[]... parts) throws GeneralSecurityException {
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    for (byte[] part : parts) {
      digest.update(part);
    }
    return digest.digest();
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static byte[] moment(Timestamp moment) {
    return ByteBuffer.allocate(12).putLong(moment.getSeconds()).putInt(moment.getNanos()).array();
  }

  /** The list form of docs/receipts.md 2.1. */
  private static final class Form {
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();

    Form(String name) {
      out.write(1);
      field(name);
    }

    Form field(String text) {
      return field(Messages.bytes(text));
    }

    Form field(byte[] bytes) {
      count(bytes.length);
      out.writeBytes(bytes);
      return this;
    }

    Form count(int number) {
      out.writeBytes(ByteBuffer.allocate(4).putInt(number).array());
      return this;
    }

    byte[] bytes() {
      return out.toByteArray();
    }
  }
}
