"""Messages of order books and broker queues whose levels and brokers stay bytes until somebody wants one.

A push is a whole book, or queue, of which one or two parts in twenty are not those of the push before. A field of
messages and a field of bytes are the same on the wire; so the SDK's own description of the message, with its two lists
declared as bytes, gives each part as the bytes it came in, and who has met these bytes has met the part.
"""

from __future__ import annotations

from typing import Any

from futu.common.pb import Qot_Common_pb2, Qot_UpdateBroker_pb2, Qot_UpdateOrderBook_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass


def _response(described: Any, part: Any) -> Any:
    """The class of ``Response`` as a module of the SDK describes it, but for the parts."""
    pool, file = DescriptorPool(), FileDescriptorProto()
    _add_needed(pool, described.DESCRIPTOR)
    described.DESCRIPTOR.CopyToProto(file)
    name = f".{part.DESCRIPTOR.full_name}"
    for field in (field for message in file.message_type for field in message.field if field.type_name == name):
        field.type = FieldDescriptorProto.TYPE_BYTES
        field.ClearField("type_name")
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(described.Response.DESCRIPTOR.full_name))


def _add_needed(pool: DescriptorPool, file: Any) -> None:
    for needed in file.dependencies:
        _add_needed(pool, needed)
        pool.AddSerializedFile(needed.serialized_pb)


decode_book = _response(Qot_UpdateOrderBook_pb2, Qot_Common_pb2.OrderBook).FromString
decode_level = Qot_Common_pb2.OrderBook.FromString
decode_brokers = _response(Qot_UpdateBroker_pb2, Qot_Common_pb2.Broker).FromString
decode_broker = Qot_Common_pb2.Broker.FromString
