package org.tongban.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.LocalizedMessage;
import com.google.rpc.RetryInfo;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.ArrayList;
import java.util.List;

/**
 * A gateway's no, with what it said (docs/errors.md).
 *
 * @param reason a code of the catalogue, or the gRPC status where the answer comes from the connection
 * @param faults each faulty field, and what it must be
 * @param retryAfterMs negative where the same request will never be accepted
 */
record Refusal(String reason, String words, List<String> faults, long retryAfterMs) {
  static Refusal of(StatusRuntimeException error) {
    String reason = error.getStatus().getCode().name();
    String words = String.valueOf(error.getStatus().getDescription());
    List<String> faults = new ArrayList<>();
    Code code = error.getStatus().getCode();
    var status = StatusProto.fromThrowable(error);
    boolean said = status != null && status.getDetailsCount() > 0;
    long retry = !said && (code == Code.UNAVAILABLE || code == Code.DEADLINE_EXCEEDED) ? 1_000 : -1;
    try {
      for (Any detail : said ? status.getDetailsList() : List.<Any>of()) {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(LocalizedMessage.class) && detail.unpack(LocalizedMessage.class).getLocale().startsWith("zh")) {
          words = detail.unpack(LocalizedMessage.class).getMessage();
        } else if (detail.is(BadRequest.class)) {
          detail.unpack(BadRequest.class).getFieldViolationsList()
              .forEach(fault -> faults.add(fault.getField() + " " + fault.getDescription()));
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retry = delay.getSeconds() * 1_000 + delay.getNanos() / 1_000_000;
        }
      }
    } catch (InvalidProtocolBufferException malformed) {
      words += " (" + malformed.getMessage() + ")";
    }
    return new Refusal(reason, words, faults, retry);
  }
}
