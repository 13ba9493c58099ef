"""The wire: stubs are what the protos say, every field is explained, and Envoy's numbers are Envoy's."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from pointsman.envoy.v3 import access_log_pb2, external_processor_pb2

PROTO = Path(__file__).parents[2] / "proto"


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def test_the_committed_stubs_are_what_the_protos_generate(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([PROTO / "generate.sh", tmp_path], check=True, env=environment)
    generated = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    committed = {
        path.relative_to(PROTO): path.read_text() for path in PROTO.rglob("*_pb2*") if "__pycache__" not in path.parts
    }
    assert generated.keys() == committed.keys()
    changed = [str(path) for path, text in committed.items() if generated[path] != text]
    assert not changed, "run `make protos` and commit the stubs"


def test_every_part_of_the_routing_api_has_a_comment(tmp_path: Path) -> None:
    described = tmp_path / "routing.binpb"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", "--include_source_info"]
    subprocess.run(
        [*protoc, f"--descriptor_set_out={described}", "pointsman/routing/v1/routing.proto"], check=True, cwd=PROTO
    )
    (file,) = FileDescriptorSet.FromString(described.read_bytes()).file
    commented = {
        tuple(location.path) for location in file.source_code_info.location if location.leading_comments.strip()
    }
    parts = dict(_parts(file))
    assert len(parts) > 80
    assert [name for path, name in parts.items() if path not in commented] == []


def _parts(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield the place in the file (as in source_code_info) and the name of everything that wants a comment."""
    outers: list[tuple[int, int, str, Sequence[_Named]]] = [
        *((4, number, message.name, message.field) for number, message in enumerate(file.message_type)),
        *((5, number, enum.name, enum.value) for number, enum in enumerate(file.enum_type)),
        *((6, number, service.name, service.method) for number, service in enumerate(file.service)),
    ]
    for kind, number, name, members in outers:
        yield (kind, number), name
        for index, member in enumerate(members):
            yield (kind, number, 2, index), f"{name}.{member.name}"


EXTERNAL_PROCESSOR = {
    "ProcessingRequest": {
        "request_headers": 2,
        "response_headers": 3,
        "request_body": 4,
        "response_body": 5,
        "request_trailers": 6,
        "response_trailers": 7,
        "metadata_context": 8,
        "attributes": 9,
        "observability_mode": 10,
        "protocol_config": 11,
    },
    "ProtocolConfiguration": {
        "request_body_mode": 1,
        "response_body_mode": 2,
        "send_body_without_waiting_for_header_response": 3,
    },
    "BodySendMode": {"NONE": 0, "STREAMED": 1, "BUFFERED": 2, "BUFFERED_PARTIAL": 3, "FULL_DUPLEX_STREAMED": 4},
    "Metadata": {"filter_metadata": 1},
    "HttpHeaders": {"headers": 1, "end_of_stream": 3},
    "HttpBody": {"body": 1, "end_of_stream": 2},
    "HttpTrailers": {"trailers": 1},
    "HeaderMap": {"headers": 1},
    "HeaderValue": {"key": 1, "value": 2, "raw_value": 3},
    "ProcessingResponse": {
        "request_headers": 1,
        "response_headers": 2,
        "request_body": 3,
        "response_body": 4,
        "request_trailers": 5,
        "response_trailers": 6,
        "immediate_response": 7,
        "dynamic_metadata": 8,
    },
    "HeadersResponse": {"response": 1},
    "BodyResponse": {"response": 1},
    "TrailersResponse": {"header_mutation": 1},
    "CommonResponse": {"status": 1, "header_mutation": 2, "body_mutation": 3, "clear_route_cache": 5},
    "CommonResponse.ResponseStatus": {"CONTINUE": 0, "CONTINUE_AND_REPLACE": 1},
    "HeaderMutation": {"set_headers": 1, "remove_headers": 2},
    "HeaderValueOption": {"header": 1, "append": 2, "append_action": 3},
    "HeaderValueOption.HeaderAppendAction": {
        "APPEND_IF_EXISTS_OR_ADD": 0,
        "ADD_IF_ABSENT": 1,
        "OVERWRITE_IF_EXISTS_OR_ADD": 2,
        "OVERWRITE_IF_EXISTS": 3,
    },
    "BodyMutation": {"body": 1, "clear_body": 2, "streamed_response": 3},
    "StreamedBodyResponse": {"body": 1, "end_of_stream": 2},
    "ImmediateResponse": {"status": 1, "headers": 2, "body": 3, "details": 5},
    "HttpStatus": {"code": 1},
}
ACCESS_LOG = {
    "StreamAccessLogsResponse": {},
    "StreamAccessLogsMessage": {"identifier": 1, "http_logs": 2},
    "StreamAccessLogsMessage.Identifier": {"log_name": 2},
    "StreamAccessLogsMessage.HttpAccessLogEntries": {"log_entry": 1},
    "HttpAccessLogEntry": {"common_properties": 1, "request": 3, "response": 4},
    "AccessLogCommon": {
        "start_time": 5,
        "time_to_first_upstream_rx_byte": 9,
        "time_to_last_downstream_tx_byte": 12,
        "upstream_remote_address": 13,
        "response_flags": 16,
        "metadata": 17,
        "duration": 23,
        "upstream_request_attempt_count": 24,
        "access_log_type": 33,
    },
    "AccessLogType": {"NOT_SET": 0, "DOWNSTREAM_PERIODIC": 5, "DOWNSTREAM_END": 6},
    "Address": {"socket_address": 1},
    "SocketAddress": {"address": 2, "port_value": 3},
    "ResponseFlags": {
        "upstream_request_timeout": 3,
        "local_reset": 4,
        "upstream_remote_reset": 5,
        "upstream_connection_failure": 6,
        "upstream_connection_termination": 7,
        "downstream_connection_termination": 15,
        "stream_idle_timeout": 17,
        "duration_timeout": 23,
        "upstream_protocol_error": 24,
        "downstream_remote_reset": 28,
    },
    "HttpRequestProperties": {"request_id": 9},
    "HttpResponseProperties": {"response_code": 1},
}


@pytest.mark.parametrize(
    ("file", "numbers", "method"),
    [
        (
            external_processor_pb2.DESCRIPTOR,
            EXTERNAL_PROCESSOR,
            "envoy.service.ext_proc.v3.ExternalProcessor/Process",
        ),
        (
            access_log_pb2.DESCRIPTOR,
            ACCESS_LOG,
            "envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
        ),
    ],
)
def test_envoys_messages_have_the_numbers_that_envoy_documents(
    file: FileDescriptor, numbers: dict[str, dict[str, int]], method: str
) -> None:
    assert dict(_numbers(file)) == numbers
    (service,) = file.services_by_name.values()
    assert [f"{service.full_name}/{one.name}" for one in service.methods] == [method]


def _numbers(file: FileDescriptor) -> Iterator[tuple[str, dict[str, int]]]:
    for message in file.message_types_by_name.values():
        yield from _numbers_of_message(message, "")
    for enum in file.enum_types_by_name.values():
        yield _numbers_of_enum(enum, "")


def _numbers_of_message(message: Descriptor, outer: str) -> Iterator[tuple[str, dict[str, int]]]:
    name = f"{outer}{message.name}"
    yield name, {field.name: field.number for field in message.fields}
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            yield from _numbers_of_message(nested, f"{name}.")
    for enum in message.enum_types:
        yield _numbers_of_enum(enum, f"{name}.")


def _numbers_of_enum(enum: EnumDescriptor, outer: str) -> tuple[str, dict[str, int]]:
    return f"{outer}{enum.name}", {value.name: value.number for value in enum.values}
