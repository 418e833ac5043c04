"""Receives messages as a city's system: takes them in, then acknowledges; the gateway says when that is durable.

    python3 receive.py ALLIANCE ME ADDRESS COUNT
    python3 receive.py certs/dev 440600/approval 127.0.0.1:7502 1
"""

import queue
import sys

import grpc

import client
from tongban.exchange.v1 import exchange_pb2


def main(alliance, me, address, count):
    gateway = client.Gateway(alliance, me, address)
    steps = queue.Queue()
    # A credit is one delivery at a time on our desk.
    steps.put(exchange_pb2.ReceiveRequest(open=exchange_pb2.OpenMailbox(credits=1)))
    responses = gateway.exchange.Receive(iter(steps.get, None))
    settled = 0
    try:
        for response in responses:
            if response.HasField("delivery"):
                envelope = response.delivery.message.envelope
                # Here a real system writes it into its own database, by (sending city, message id): after a break the same
                # message may be delivered again, and is only acknowledged again.
                for part in envelope.parts:
                    print(f"{envelope.message_id} {part.name}: {part.inline.decode()}")
                acknowledge = exchange_pb2.Outcome(
                    delivery_id=response.delivery.delivery_id, acknowledge=exchange_pb2.Acknowledge()
                )
                steps.put(exchange_pb2.ReceiveRequest(outcome=acknowledge))
            elif response.HasField("settled"):
                # Durable at the gateway: it will not be delivered again.
                settled += 1
                if settled == int(count):
                    break
                steps.put(exchange_pb2.ReceiveRequest(credits=exchange_pb2.GrantCredits(count=1)))
            elif response.HasField("refused"):
                print(f"refused: {response.refused.status.message}")
                return 1
    except grpc.RpcError as error:
        print(client.Refused(error))
        return 1
    finally:
        steps.put(None)
        responses.cancel()
    return 0 if settled == int(count) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
