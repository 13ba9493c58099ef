#!/bin/sh
# Writes the Python stubs beside the protos, or into the folder given as first argument.
set -eu
cd "$(dirname "$0")"
out=${1:-.}
protos="pointsman/routing/v1/routing.proto pointsman/policy/v1/policy.proto pointsman/envoy/v3/external_processor.proto pointsman/envoy/v3/access_log.proto"
# shellcheck disable=SC2086
${PYTHON:-python3} -m grpc_tools.protoc -I . --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" $protos
