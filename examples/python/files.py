"""A file beside a document: uploaded at one replica, downloaded at the other. README.md says how to run it."""
import sys, uuid

import grpc
from herdbook.v1 import blob_service_pb2 as blobs, blob_service_pb2_grpc, edit_pb2 as edits, value_pb2 as values
from herdbook.v1 import document_service_pb2 as documents, document_service_pb2_grpc

channels = [grpc.insecure_channel(address) for address in sys.argv[1:] or ["127.0.0.1:7710", "127.0.0.1:7711"]]
alice, bob = (document_service_pb2_grpc.DocumentServiceStub(channel) for channel in channels)
files = [blob_service_pb2_grpc.BlobServiceStub(channel) for channel in channels]
key = f"photos-{uuid.uuid4().hex}"
watch = bob.Watch(documents.WatchRequest(collection="notes", prefix=key, now=documents.Now()), timeout=60)
next(watch)

# Bytes of any length are uploaded in pieces, cut by their content, and referred to by a field.
photo = bytes(range(256)) * 4096
pieces = (blobs.UploadRequest(content=photo[at : at + 65536]) for at in range(0, len(photo), 65536))
uploaded = files[0].Upload(pieces, timeout=60)
album = values.MapValue(entries={"photo": values.Value(blob_value=uploaded.blob)})
edit = edits.Edit(collection="notes", key=key, create=edits.Create(fields={"files": values.Value(map_value=album)}))
alice.Commit(documents.CommitRequest(request_id=uuid.uuid4().bytes, edits=[edit]), timeout=30)

shown = next(event.put for answer in watch for event in answer.events if "files" in event.put.fields)
blob = shown.fields["files"].map_value.entries["photo"].blob_value
content = b"".join(piece.content for piece in files[1].Download(blobs.DownloadRequest(blob=blob), timeout=60))
print(f"downloaded at bob: {blob.length} bytes, {'the same' if content == photo else 'others'}")
