"""XLA's dump of a compiled program: the few fields of `xla/service/hlo.proto` that a plan reads or changes.

Other fields of a message are preserved.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_Type = _Field.Type
_INT, _BOOL, _TEXT = _Field.TYPE_INT64, _Field.TYPE_BOOL, _Field.TYPE_STRING

# For each field, its number and its type or message; a list means a repeated field.
_MESSAGES: dict[str, dict[str, tuple[int, _Type.ValueType | str | list[_Type.ValueType | str]]]] = {
    "HloProto": {"hlo_module": (1, "HloModuleProto"), "buffer_assignment": (3, "BufferAssignmentProto")},
    "HloModuleProto": {"computations": (3, ["HloComputationProto"])},
    "HloComputationProto": {"instructions": (2, ["HloInstructionProto"])},
    "HloInstructionProto": {"opcode": (2, _TEXT), "shape": (3, "ShapeProto")},
    "ShapeProto": {"dimensions": (3, [_INT]), "tuple_shapes": (4, ["ShapeProto"]), "layout": (5, "LayoutProto")},
    "LayoutProto": {"minor_to_major": (1, [_INT]), "tiles": (6, ["TileProto"])},
    "TileProto": {"dimensions": (1, [_INT])},
    "BufferAssignmentProto": {"buffer_allocations": (3, ["BufferAllocationProto"])},
    "BufferAllocationProto": {
        "size": (2, _INT),
        "is_thread_local": (3, _BOOL),
        "is_entry_computation_parameter": (5, _BOOL),
        "maybe_live_out": (7, _BOOL),
        "color": (8, _INT),
        "is_constant": (12, _BOOL),
    },
}


def read_hlo(dump: bytes) -> Any:
    """Return the `HloProto` in a file that XLA dumped.

    Raises:
        google.protobuf.message.DecodeError: The file is not an `HloProto`.
    """
    return _HLO.FromString(dump)


def _build() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="hlo.proto", package="xla", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            many = isinstance(kind, list)
            one = kind[0] if isinstance(kind, list) else kind
            added = message.field.add(name=field, number=number)
            added.label = _Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL
            if isinstance(one, str):
                added.type, added.type_name = _Field.TYPE_MESSAGE, f".xla.{one}"
            else:
                added.type = one
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("xla.HloProto"))


_HLO = _build()
