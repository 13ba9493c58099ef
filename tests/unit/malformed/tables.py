"""Files that are read as a whole, so that nothing starts with a wrong one: profiles and traces."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.malformed.case import Case, Surface, Trial, without_folder, write
from tests.unit.routing import Core, endpoint

from pointsman_policy.errors import DocumentError
from pointsman_policy.simulator.traces import read_trace

PROFILES = """\
gpu,model,kv_capacity_tokens,L4_c0_ms,L4_c_seq_ms,L4_c_ctx_ms,L4_c_prefill_ms
L40S,gemma-2-2b,342471,7.1,0.01,1.6e-4,0.022
L4,gemma-2-2b,100000,15.1,0.02,3.2e-4,0.05
"""
TRACE = "arrival_s,prompt_tokens,output_tokens\n0.5,10,3\n1.5,20,9\n"
SCORES = "prompt_id,model,score,out_tokens\n1,small,0.5,10\n1,large,1,30\n2,small,0.25,12\n2,large,0.75,20\n"
PROMPTS = "prompt_id,prompt,prompt_tokens\n1,one,1\n2,two,5\n"


def changed(good: str, old: str, new: str) -> str:
    """Return a good file with one part of it replaced."""
    assert old in good
    return good.replace(old, new)


def reading(
    name: str, good: str | bytes, read: Callable[[Path], object]
) -> Callable[[Path], AbstractAsyncContextManager[Trial]]:
    """Read a file of one kind: the malformed one is refused, the good one is read before and after."""

    @asynccontextmanager
    async def trial(folder: Path) -> AsyncIterator[Trial]:
        for other, text in (("scores.csv", SCORES), ("prompts.csv", PROMPTS), ("trace.csv", TRACE)):
            write(folder / other, text)
        path = folder / name

        async def give(given: str | bytes | None) -> str:
            path.unlink()
            if given is not None:
                write(path, given)
            with pytest.raises(DocumentError) as caught:
                read(path)
            return without_folder(str(caught.value), folder)

        async def works() -> None:
            write(path, good)
            assert read(path) is not None

        yield Trial(give, works)

    return trial


@asynccontextmanager
async def _configured_router(folder: Path) -> AsyncIterator[Trial]:
    """Name other profiles to a router that serves: it goes on with those it has."""
    path, before = folder / "profiles.csv", folder / "before.csv"
    write(before, PROFILES)
    experts = [endpoint("a"), endpoint("b")]
    core = Core(experts, profiles=before)

    async def give(given: str) -> str:
        write(path, given)
        with pytest.raises(DocumentError) as caught:
            core.router.configure(core.policies, experts, path)
        with pytest.raises(DocumentError):
            Core(experts, profiles=path)
        return without_folder(str(caught.value), folder)

    async def works() -> None:
        core.router.configure(core.policies, experts, before)
        assert core.route().endpoints

    yield Trial(give, works)


PROFILES_FILE = Surface(
    "Profiles",
    "The router does not start with them; one that runs logs it and goes on with the profiles that it has.",
    _configured_router,
    (
        Case(
            "a missing column",
            changed(PROFILES, "L4_c_ctx_ms,", "").replace("1.6e-4,", "").replace("3.2e-4,", ""),
            "profiles.csv: line 1: lacks the column(s) L4_c_ctx_ms (found gpu, model, "
            "kv_capacity_tokens, L4_c0_ms, L4_c_seq_ms, L4_c_prefill_ms)",
        ),
        Case(
            "a negative coefficient",
            changed(PROFILES, "0.022", "-0.022"),
            "profiles.csv: line 2, column L4_c_prefill_ms: must be from 0 to 10000 (got '-0.022')",
        ),
        Case(
            "an iteration that takes no time",
            changed(PROFILES, "7.1", "0"),
            "profiles.csv: line 2, column L4_c0_ms: must be above 0; an iteration always takes time",
        ),
        Case(
            "a word for a number",
            changed(PROFILES, "7.1", "fast"),
            "profiles.csv: line 2, column L4_c0_ms: must be a finite number (got 'fast')",
        ),
        Case(
            "a second row for one model on one GPU",
            changed(PROFILES, "\nL4,", "\nl40s,"),
            "profiles.csv: line 3, column model: a second row for gemma-2-2b on l40s; keep one",
        ),
        Case(
            "no rows",
            PROFILES.partition("\n")[0] + "\n",
            "profiles.csv: holds no profiles; add a row for each GPU and model, or leave the file out",
        ),
    ),
)
TRACE_FILE = Surface(
    "Trace",
    "`pointsman demo` and `pointsman bench sim` end with exit code 2 before anything has run.",
    reading("trace.csv", TRACE, read_trace),
    (
        Case(
            "no such file",
            None,
            "trace.csv: cannot be read (No such file or directory); check the path and its permissions",
        ),
        Case(
            "empty",
            "",
            "trace.csv: is empty; its first line must name the columns arrival_s, prompt_tokens, output_tokens",
        ),
        Case(
            "a missing column",
            changed(TRACE, ",output_tokens", "").replace(",3", "").replace(",9", ""),
            "trace.csv: line 1: lacks the column(s) output_tokens (found arrival_s, prompt_tokens)",
        ),
        Case(
            "not sorted",
            changed(TRACE, "1.5,", "0.25,"),
            "trace.csv: line 3, column arrival_s: 0.25 comes before 0.5 of the line above; sort by arrival",
        ),
        Case(
            "no number",
            changed(TRACE, "1.5,", "nan,"),
            "trace.csv: line 3, column arrival_s: must be a finite number (got 'nan')",
        ),
        Case(
            "a fraction of a token",
            changed(TRACE, ",9", ",9.5"),
            "trace.csv: line 3, column output_tokens: must be a whole number (got '9.5')",
        ),
        Case(
            "negative tokens",
            changed(TRACE, ",9", ",-9"),
            "trace.csv: line 3, column output_tokens: must be from 0 to 1000000000 (got '-9')",
        ),
        Case(
            "a row cut short",
            changed(TRACE, "1.5,20,9", "1.5,20"),
            "trace.csv: line 3: has 2 cells where the header names 3",
        ),
        Case(
            "one request only",
            TRACE.rpartition("1.5")[0],
            "trace.csv: must hold at least two requests at different times",
        ),
        Case(
            "an open quote",
            changed(TRACE, "1.5", '"1.5'),
            "trace.csv: line 3: is not valid CSV (unexpected end of data)",
        ),
    ),
)
