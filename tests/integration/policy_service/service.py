"""A policy service as a process of its own, to be killed: ``python -m tests.integration.policy_service.service``.

It prints its gRPC port once it serves. Arguments: root, compact seconds, limit of a file's size (0 = none), and what
runs a training.
"""

import asyncio
import resource
import sys
from pathlib import Path

from pointsman_policy.service.run import serve
from pointsman_policy.service.settings import ServiceSettings


def main() -> None:
    root, compact_seconds, file_bytes, *training = sys.argv[1:]
    if int(file_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_bytes), int(file_bytes)))
    settings = ServiceSettings(
        root=Path(root),
        addresses=("127.0.0.1:0",),
        admin_port=0,
        training_command=tuple(training),
        compact_seconds=float(compact_seconds),
        tick_seconds=0.05,
    )
    started = lambda ports, _: print(ports[0], flush=True)  # noqa: E731, T201
    asyncio.run(serve(settings, (), asyncio.Event(), started))


if __name__ == "__main__":
    main()
