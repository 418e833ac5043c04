package org.tongban.example;

import com.google.protobuf.ByteString;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.TreeMap;
import org.tongban.evidence.v1.Receipt;

/** Verifies receipts offline, against the keys of the logs that are trusted (docs/receipts.md section 1.1). */
final class Verifier {
  /** Why a receipt proves nothing. */
  static final class DoesNotHold extends Exception {
    DoesNotHold(String why) {
      super(why);
    }
  }

  private record LogKey(byte[] id, PublicKey key) {}

  private record Checkpoint(String origin, long size, byte[] root) {}

  private final Map<String, LogKey> keys = new HashMap<>();

  /** Trusts the keys of a file of vkeys, one a line. */
  Verifier trust(Path file) throws IOException, GeneralSecurityException, DoesNotHold {
    for (String line : Files.readAllLines(file)) {
      if (line.isBlank()) {
        continue;
      }
      String[] parts = line.strip().split("\\+", 3);
      byte[] raw = Base64.getDecoder().decode(parts[2]);
      byte[] name = (parts[0] + "\n").getBytes(StandardCharsets.UTF_8);
      byte[] id = Arrays.copyOf(Messages.sha256(name, raw), 4);
      if (raw.length != 33 || raw[0] != 1 || !HexFormat.of().formatHex(id).equals(parts[1])) {
        throw new DoesNotHold("the key of " + parts[0] + " is not a vkey");
      }
      byte[] spki = HexFormat.of().parseHex("302a300506032b6570032100" + HexFormat.of().formatHex(raw, 1, 33));
      PublicKey key = KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(spki));
      keys.put(parts[0], new LogKey(id, key));
    }
    return this;
  }

  /** Proves that a trusted log contains the leaf; what it says, by tag. */
  Map<Integer, byte[]> verify(Receipt receipt) throws GeneralSecurityException, DoesNotHold {
    byte[] leaf = receipt.getLeaf().toByteArray();
    Checkpoint checkpoint = open(receipt.getCheckpoint());
    long index = receipt.getLeafIndex();
    if (index < 0 || index >= checkpoint.size || !Arrays.equals(root(leaf, index, checkpoint.size, receipt), checkpoint.root)) {
      throw new DoesNotHold("the leaf is not in the log");
    }
    Map<Integer, byte[]> fields = decode(leaf);
    String issuer = new String(fields.get(0x07), StandardCharsets.UTF_8).replace('/', '-');
    boolean own = checkpoint.origin.startsWith(issuer + ".gateway.");
    if (!own || !Arrays.equals(fields.get(0x08), keys.get(checkpoint.origin).id)) {
      throw new DoesNotHold("the log is not its issuer's");
    }
    return fields;
  }

  private Checkpoint open(String note) throws GeneralSecurityException, DoesNotHold {
    int end = note.lastIndexOf("\n\n");
    if (end < 0 || !note.endsWith("\n")) {
      throw new DoesNotHold("the checkpoint is malformed");
    }
    String text = note.substring(0, end + 1);
    String[] lines = text.split("\n", -1);
    if (lines.length != 4) {
      throw new DoesNotHold("the checkpoint is malformed");
    }
    LogKey key = keys.get(lines[0]);
    if (key == null) {
      throw new DoesNotHold(lines[0] + " is not a trusted log");
    }
    for (String line : note.substring(end + 2).split("\n")) {
      String[] parts = line.split(" ", 3);
      byte[] signed = Base64.getDecoder().decode(parts[2]);
      if (parts[0].equals("\u2014") && parts[1].equals(lines[0]) && Arrays.equals(key.id, Arrays.copyOf(signed, 4))) {
        Signature signature = Signature.getInstance("Ed25519");
        signature.initVerify(key.key);
        signature.update(text.getBytes(StandardCharsets.UTF_8));
        if (!signature.verify(signed, 4, signed.length - 4)) {
          throw new DoesNotHold("the checkpoint's signature does not hold");
        }
        return new Checkpoint(lines[0], Long.parseLong(lines[1]), Base64.getDecoder().decode(lines[2]));
      }
    }
    throw new DoesNotHold("the log's key has not signed the checkpoint");
  }

  /** RFC 9162, 2.1.3.2. */
  private static byte[] root(byte[] leaf, long index, long size, Receipt receipt)
      throws GeneralSecurityException, DoesNotHold {
    long node = index;
    long last = size - 1;
    byte[] found = Messages.sha256(new byte[] {0}, leaf);
    for (ByteString hash : receipt.getInclusionPathList()) {
      byte[] sibling = hash.toByteArray();
      if (last == 0 || sibling.length != 32) {
        throw new DoesNotHold("the proof is too long");
      }
      if ((node & 1) == 1 || node == last) {
        found = Messages.sha256(new byte[] {1}, sibling, found);
        while ((node & 1) == 0 && node != 0) {
          node >>= 1;
          last >>= 1;
        }
      } else {
        found = Messages.sha256(new byte[] {1}, found, sibling);
      }
      node >>= 1;
      last >>= 1;
    }
    if (last != 0) {
      throw new DoesNotHold("the proof is too short");
    }
    return found;
  }

  private static Map<Integer, byte[]> decode(byte[] leaf) throws DoesNotHold {
    if (leaf.length < 2 || leaf.length > 640 || leaf[0] != 1 || leaf[1] != 1) {
      throw new DoesNotHold("not a leaf about a message");
    }
    Map<Integer, byte[]> fields = new TreeMap<>();
    int before = 0;
    int reasons = 0;
    for (int place = 2; place < leaf.length; ) {
      int tag = leaf[place] & 0xff;
      int length = place + 1 < leaf.length ? leaf[place + 1] & 0xff : 0;
      boolean known = tag >= 0x01 && tag <= 0x25 || tag >= 0x60 && tag <= 0x7f;
      reasons += tag == 0x03 ? 1 : 0;
      boolean inOrder = tag > before || tag == 0x03 && before == 0x03 && reasons == 2;
      if (!known || !inOrder || length == 0 || place + 2 + length > leaf.length) {
        throw new DoesNotHold("the leaf is malformed");
      }
      fields.put(tag, Arrays.copyOfRange(leaf, place + 2, place + 2 + length));
      place += 2 + length;
      before = tag;
    }
    for (int tag : new int[] {0x01, 0x02, 0x05, 0x07, 0x08, 0x0b, 0x0f, 0x14}) {
      if (!fields.containsKey(tag)) {
        throw new DoesNotHold("the leaf says too little");
      }
    }
    return fields;
  }
}
