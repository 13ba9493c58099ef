"""A process that appends records to a spool until it is killed: run with the spool's folder as its argument.

It prints the number of every record that is on disk by then.
"""

import asyncio
import itertools
import sys
from pathlib import Path

from tests.unit.outcomes.spools import spooling


async def main(folder: Path) -> None:
    async with spooling(folder) as made:
        for number in itertools.count():
            made.append(str(number), size=200)
            if number % 5 == 4:
                await made.written()
                print(number, flush=True)  # noqa: T201


asyncio.run(main(Path(sys.argv[1])))
