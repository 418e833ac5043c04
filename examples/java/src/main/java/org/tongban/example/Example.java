package org.tongban.example;

import com.google.protobuf.ByteString;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.tongban.evidence.v1.GetMessageEvidenceRequest;
import org.tongban.evidence.v1.Receipt;
import org.tongban.evidence.v1.State;
import org.tongban.exchange.v1.Acknowledge;
import org.tongban.exchange.v1.Delivery;
import org.tongban.exchange.v1.Envelope;
import org.tongban.exchange.v1.OpenMailbox;
import org.tongban.exchange.v1.Outcome;
import org.tongban.exchange.v1.ReceiveRequest;
import org.tongban.exchange.v1.ReceiveResponse;
import org.tongban.exchange.v1.SubmitRequest;
import org.tongban.exchange.v1.WatchMessageRequest;

/** Submits in Liuzhou, receives in Foshan, verifies every receipt offline, and meets the typed errors. */
public final class Example {
  private static final String WINDOW = "450200/window";
  private static final String APPROVAL = "440600/approval";
  private static final byte SUBMISSION_ACCEPTED = 1;
  private static final byte HANDED_OVER = 8;

  private Example() {}

  /** Arguments: the alliance's folder, the address of Liuzhou's gateway, the address of Foshan's. */
  public static void main(String[] args) throws Exception {
    Path alliance = Path.of(args[0]);
    Verifier verifier = new Verifier()
        .trust(alliance.resolve("450200/log.vkey"))
        .trust(alliance.resolve("440600/log.vkey"));
    try (Gateway window = new Gateway(alliance, "450200", "window", args[1]);
        Gateway approval = new Gateway(alliance, "440600", "approval", args[2])) {
      Envelope sent = Messages.text(Messages.newId(), WINDOW, APPROVAL, "DEMO-001", "您好");
      var accepted = verifier.verify(submit(window, sent));
      expect(accepted.get(0x02)[0] == SUBMISSION_ACCEPTED, "the receipt of the acceptance verifies");
      expect(Arrays.equals(tail(accepted.get(0x14)), Messages.headerDigest(sent)), "and speaks of this very message");
      expect(receive(approval, sent.getMessageId()).equals("您好"), "the other city took the content in");
      expect(awaitEnd(window, sent.getMessageId()) == State.STATE_CONFIRMED, "the sender is told so");

      List<Receipt> receipts = evidence(window, sent.getMessageId());
      boolean handedOver = false;
      for (Receipt receipt : receipts) {
        handedOver |= verifier.verify(receipt).get(0x02)[0] == HANDED_OVER;
      }
      expect(handedOver, receipts.size() + " receipts verify offline, HANDED_OVER among them");
      expect(!holds(verifier, flipped(receipts.get(0))), "one bit flipped, and a receipt proves nothing");

      refused(window, Messages.text(sent.getMessageId(), WINDOW, APPROVAL, "DEMO-001", "再见"), "IDEMPOTENCY_CONFLICT");
      refused(window, Messages.text(Messages.newId(), WINDOW, "990000/approval", "DEMO-001", "x"), "NO_ROUTE");
      refused(window, Messages.text(Messages.newId(), WINDOW, "4406/approval", "DEMO-001", "x"), "INVALID_ENVELOPE");
    }
    System.out.println("the example in Java: all held");
  }

  /** Sends the same again while that may help. */
  private static Receipt submit(Gateway gateway, Envelope envelope) throws InterruptedException {
    long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (true) {
      try {
        return gateway.exchange().submit(SubmitRequest.newBuilder().setEnvelope(envelope).build()).getReceipt();
      } catch (StatusRuntimeException error) {
        long wait = Refusal.of(error).retryAfterMs();
        if (wait < 0 || System.nanoTime() > until) {
          throw error;
        }
        Thread.sleep(wait);
      }
    }
  }

  private static void refused(Gateway gateway, Envelope envelope, String reason) throws Exception {
    try {
      submit(gateway, envelope);
      expect(false, reason);
    } catch (StatusRuntimeException error) {
      Refusal refusal = Refusal.of(error);
      expect(refusal.reason().equals(reason), refusal.toString());
    }
  }

  /** Takes the one message, acknowledges it, and waits until that is durable. */
  private static String receive(Gateway gateway, String id) throws InterruptedException {
    BlockingQueue<ReceiveResponse> arrived = new LinkedBlockingQueue<>();
    StreamObserver<ReceiveRequest> steps = gateway.streams().receive(new StreamObserver<>() {
      @Override
      public void onNext(ReceiveResponse response) {
        arrived.add(response);
      }

      @Override
      public void onError(Throwable error) {
        System.err.println(error);
      }

      @Override
      public void onCompleted() {}
    });
    steps.onNext(ReceiveRequest.newBuilder().setOpen(OpenMailbox.newBuilder().setCredits(1)).build());
    Delivery delivery = next(arrived).getDelivery();
    Envelope envelope = delivery.getMessage().getEnvelope();
    expect(envelope.getMessageId().equals(id), "the message that was sent");
    Outcome outcome = Outcome.newBuilder()
        .setDeliveryId(delivery.getDeliveryId())
        .setAcknowledge(Acknowledge.getDefaultInstance())
        .build();
    steps.onNext(ReceiveRequest.newBuilder().setOutcome(outcome).build());
    expect(next(arrived).hasSettled(), "the acknowledgement is durable");
    steps.onCompleted();
    return envelope.getParts(0).getInline().toString(StandardCharsets.UTF_8);
  }

  private static ReceiveResponse next(BlockingQueue<ReceiveResponse> arrived) throws InterruptedException {
    ReceiveResponse response = arrived.poll(30, TimeUnit.SECONDS);
    expect(response != null, "an answer within 30 s");
    return response;
  }

  private static State awaitEnd(Gateway gateway, String id) {
    var told = gateway.exchange().watchMessage(WatchMessageRequest.newBuilder().setMessageId(id).build());
    State state = State.STATE_UNSPECIFIED;
    while (told.hasNext()) {
      state = told.next().getState();
    }
    return state;
  }

  private static List<Receipt> evidence(Gateway gateway, String id) {
    var request = GetMessageEvidenceRequest.newBuilder().setMessageId(id).build();
    return gateway.evidence().getMessageEvidence(request).getReceiptsList();
  }

  private static Receipt flipped(Receipt receipt) {
    byte[] leaf = receipt.getLeaf().toByteArray();
    leaf[40] ^= 1;
    return receipt.toBuilder().setLeaf(ByteString.copyFrom(leaf)).build();
  }

  private static boolean holds(Verifier verifier, Receipt receipt) throws Exception {
    try {
      verifier.verify(receipt);
      return true;
    } catch (Verifier.DoesNotHold why) {
      return false;
    }
  }

  /** A digest field without the byte of its algorithm. */
  private static byte[] tail(byte[] field) {
    return Arrays.copyOfRange(field, 1, field.length);
  }

  private static void expect(boolean holds, String what) {
    System.out.println((holds ? "ok: " : "FAILED: ") + what);
    if (!holds) {
      System.exit(1);
    }
  }
}
