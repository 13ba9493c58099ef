"""``python -m tests.cluster.kubelet CONFIGURATION``: run the process kubelet until SIGTERM or SIGINT."""

import asyncio
import contextlib
import logging
import shutil
import signal
import sys
from pathlib import Path

import aiohttp
from tests.cluster.kubelet.api import Api
from tests.cluster.kubelet.configuration import Configuration, read
from tests.cluster.kubelet.kubelet import Kubelet
from tests.cluster.kubelet.mounts import CLAIMS
from tests.cluster.kubelet.server import Server


async def serve(configuration: Configuration) -> None:
    """Run a kubelet until a signal comes."""
    me = asyncio.current_task()
    assert me is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, me.cancel)
    trust_nobody = aiohttp.TCPConnector(ssl=False, limit=0, force_close=True)
    async with (
        Api(Path(configuration.kubeconfig)) as api,
        aiohttp.ClientSession(connector=trust_nobody) as probes,
    ):
        kubelet = Kubelet(api, probes, configuration)
        async with Server(kubelet, configuration):
            await kubelet.run()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    configuration = read(Path(sys.argv[1]))
    _clear(Path(configuration.folder))
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve(configuration))


def _clear(folder: Path) -> None:
    """Remove what a kubelet left that was killed, but for what claims hold."""
    for left in folder.iterdir():
        if left.name != CLAIMS:
            shutil.rmtree(left)


if __name__ == "__main__":
    main()
