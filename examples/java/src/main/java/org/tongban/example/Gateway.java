package org.tongban.example;

import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.tongban.evidence.v1.EvidenceServiceGrpc;
import org.tongban.exchange.v1.ExchangeServiceGrpc;

/** A city's own gateway, over mutual TLS, as one of the city's systems. */
final class Gateway implements AutoCloseable {
  private final ManagedChannel channel;

  /** {@code alliance} is the folder that {@code tongban pki} made, {@code address} is HOST:PORT. */
  Gateway(Path alliance, String city, String system, String address) throws IOException {
    Path folder = alliance.resolve(city);
    var tls = GrpcSslContexts.forClient()
        .trustManager(folder.resolve("ca.pem").toFile())
        .keyManager(
            folder.resolve("systems").resolve(system + ".pem").toFile(),
            folder.resolve("systems").resolve(system + ".key").toFile())
        .build();
    // The channel dials again by itself when a gateway is restarted; each call has its own deadline.
    channel = NettyChannelBuilder.forTarget(address).sslContext(tls).build();
  }

  ExchangeServiceGrpc.ExchangeServiceBlockingStub exchange() {
    return ExchangeServiceGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
  }

  ExchangeServiceGrpc.ExchangeServiceStub streams() {
    return ExchangeServiceGrpc.newStub(channel);
  }

  EvidenceServiceGrpc.EvidenceServiceBlockingStub evidence() {
    return EvidenceServiceGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }
}
