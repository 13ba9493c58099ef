"""One emulated expert's HTTP server: OpenAI's API as vLLM serves it, on top of a driver."""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http import HttpVersion11

from pointsman_policy.errors import RequestError
from pointsman_policy.experts import Expert
from pointsman_policy.simulator.server.answers import AnswerBook
from pointsman_policy.simulator.server.driver import Deliver, ExpertDriver
from pointsman_policy.simulator.server.formats import ChatFormat, Format, Reply, TextFormat, error_body, models_body
from pointsman_policy.simulator.server.metrics import CONTENT_TYPE, render_metrics
from pointsman_policy.simulator.server.requests import Question, read_chat, read_completion, read_pace
from pointsman_policy.simulator.server.streams import EventStream

MAXIMUM_BODY_BYTES = 32 * 1024 * 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ExpertServer:
    """Handlers of one expert.

    Args:
        expert: What it is called, and how long its context may be.
        driver: Gives its tokens.
        answers: Says how many.
        kv_capacity_tokens: Told in its metrics; 0 = not limited.
        wall_clock: Unix time, seconds; stamped on answers.
    """

    def __init__(
        self,
        expert: Expert,
        driver: ExpertDriver,
        answers: AnswerBook,
        *,
        kv_capacity_tokens: int,
        wall_clock: Callable[[], float],
    ) -> None:
        self.driver = driver
        self._expert = expert
        self._answers = answers
        self._kv_capacity_tokens = kv_capacity_tokens
        self._wall_clock = wall_clock
        self._started = int(wall_clock())
        self._ids = itertools.count()

    def application(self) -> web.Application:
        """Return the server's routes; to be run with handler cancellation, so that a client that leaves is noticed."""
        application = web.Application(middlewares=[_explain_errors], client_max_size=MAXIMUM_BODY_BYTES)
        application.router.add_post("/v1/completions", self._complete)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/health", self._health)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_put("/simulation", self._simulate)
        return application

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_completion(await request.read()), TextFormat())

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_chat(await request.read()), ChatFormat())

    async def _models(self, _: web.Request) -> web.Response:
        return _json(models_body(self._expert.names, self._started, self._expert.context_length_tokens))

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        body = render_metrics(
            self._expert.names[0], self._kv_capacity_tokens, self.driver.load(), self.driver.statistics
        )
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _simulate(self, request: web.Request) -> web.Response:
        """Slow the expert down or speed it up, as a neighbour on its GPU would."""
        self.driver.set_pace(read_pace(await request.read()))
        return web.Response(status=204)

    async def _answer(self, request: web.Request, question: Question, form: Format) -> web.StreamResponse:
        reply = self._reply(question, form)
        if self.driver.is_full:
            raise RequestError(
                "too many requests are in progress; send it again later", status=503, kind="ServiceUnavailableError"
            )
        if question.streaming:
            return await self._stream(request, reply)
        ended = asyncio.get_running_loop().create_future()

        def deliver(tokens: int) -> None:
            if tokens == reply.output_tokens and not ended.done():
                ended.set_result(None)

        await self._generate(reply, deliver, ended)
        return _json(reply.whole())

    async def _stream(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has left")
        ended = asyncio.get_running_loop().create_future()
        chunked = request.version >= HttpVersion11
        await self._generate(reply, EventStream(transport, reply, chunked=chunked, ended=ended), ended)
        await response.write_eof()
        return response

    async def _generate(self, reply: Reply, deliver: Deliver, ended: asyncio.Future[None]) -> None:
        """Wait for the whole answer; a client that leaves frees its place at once."""
        finished = self.driver.statistics.finished
        generation = self.driver.submit(reply.prompt_tokens, reply.output_tokens, deliver)
        try:
            await ended
        except asyncio.CancelledError:
            self.driver.cancel(generation)
            finished["abort"] += 1
            raise
        finished[reply.finish_reason] += 1

    def _reply(self, question: Question, form: Format) -> Reply:
        """Decide what the answer will be.

        Raises:
            RequestError: If the model is not served here, or its context is too short.
        """
        if question.model not in self._expert.names:
            raise RequestError(
                f"The model `{question.model[:200]}` does not exist.", status=404, kind="NotFoundError", field="model"
            )
        answer = self._answers.lookup(self._expert, question.prompt)
        prompt_tokens = answer.prompt_tokens if question.prompt_tokens is None else question.prompt_tokens
        limit = self._limit(prompt_tokens, question.maximum_tokens)
        return Reply(
            format=form,
            id=f"{form.id_prefix}-{self._expert.name}-{next(self._ids)}",
            created=int(self._wall_clock()),
            model=question.model,
            prompt_tokens=prompt_tokens,
            output_tokens=int(min(answer.output_tokens, limit)),
            finish_reason="length" if limit < answer.output_tokens else "stop",
            include_usage=question.include_usage,
        )

    def _limit(self, prompt_tokens: int, maximum_tokens: int | None) -> float:
        """Return how long an answer may be, tokens.

        Raises:
            RequestError: If prompt and answer cannot fit in the context.
        """
        context = self._expert.context_length_tokens or math.inf
        wanted = maximum_tokens or 1
        if prompt_tokens + wanted > context:
            raise RequestError(
                f"This model's maximum context length is {context} tokens. However, you requested "
                f"{prompt_tokens + wanted} tokens ({prompt_tokens} in the prompt, {wanted} in the completion). "
                "Please reduce the length of the prompt or completion."
            )
        return maximum_tokens or context - prompt_tokens


@web.middleware
async def _explain_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Give every error the body that OpenAI's API has for errors."""
    try:
        return await handler(request)
    except RequestError as error:
        return _json(error_body(str(error), error.kind, error.status, error.field), error.status)
    except web.HTTPException as error:
        kind = "NotFoundError" if error.status == 404 else "BadRequestError"
        response = _json(error_body(error.text or error.reason, kind, error.status), error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
