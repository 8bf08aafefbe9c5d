"""Commit, watch, read and see a conflict, at two replicas. README.md says how to run it."""
import sys, uuid

import grpc
from herdbook.v1 import ack_pb2 as acks, cluster_service_pb2 as cluster, cluster_service_pb2_grpc
from herdbook.v1 import document_service_pb2 as documents, document_service_pb2_grpc, edit_pb2 as edits, value_pb2 as values

channels = [grpc.insecure_channel(address) for address in sys.argv[1:] or ["127.0.0.1:7710", "127.0.0.1:7711"]]
alice, bob = (document_service_pb2_grpc.DocumentServiceStub(channel) for channel in channels)
network = cluster_service_pb2_grpc.ClusterServiceStub(channels[1])
key = f"milk-{uuid.uuid4().hex}"


def commit(replica, **operation):
    """Writes one edit. The same request_id again would be answered as the first time and write nothing."""
    edit = edits.Edit(collection="notes", key=key, **operation)
    return replica.Commit(documents.CommitRequest(request_id=uuid.uuid4().bytes, edits=[edit]), timeout=30).ack


def text(**fields):
    return {name: values.Value(string_value=value) for name, value in fields.items()}


# A watch at Bob's replica; its first answer only tells that it has begun.
watch = bob.Watch(documents.WatchRequest(collection="notes", prefix=key, now=documents.Now()), timeout=60)
next(watch)
ack = commit(alice, create=edits.Create(fields=text(text="buy milk", owner="alice")))
print(f"committed at alice: {ack.commit.hex()[:12]}, {acks.Level.Name(ack.local)}")
event = next(event for answer in watch for event in answer.events)
print(f"seen at bob: {event.put.fields['text'].string_value}")
note = bob.Get(documents.GetRequest(collection="notes", key=key), timeout=30).document
print(f"read at bob: owner {note.fields['owner'].string_value}")

# Off the network, both replicas go on. The policy of `owner` is strict: concurrent values are kept until somebody decides.
network.SetOnline(cluster.SetOnlineRequest(online=False), timeout=30)
commit(alice, update=edits.Update(set=text(owner="carol")))
commit(bob, update=edits.Update(set=text(owner="dave")))
network.SetOnline(cluster.SetOnlineRequest(online=True), timeout=30)
conflict = next(event.put.conflicts[0] for answer in watch for event in answer.events if event.put.conflicts)
print(f"in conflict: {conflict.field}, {' or '.join(sorted(sibling.value.string_value for sibling in conflict.siblings))}")
