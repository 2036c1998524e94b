"""openai: any model behind an OpenAI-compatible address, by its completions or its chat.

The key comes from the environment and goes nowhere but into the requests: redirects are not followed, messages do not carry it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flywheel.config import EngineConfig
from flywheel.core.seeds import derive
from flywheel.engines.contract import Sampling
from flywheel.errors import ConfigError, EngineError
from flywheel.records import Completion

try:
    import httpx2
    import openai
except ModuleNotFoundError:
    raise EngineError("package openai not found", "Run `pip install 'flywheel-bon[openai]'`.") from None

from flywheel.engines.openai_errors import BrokenReply, Failure, Unreachable, error_of, failure_of
from flywheel.engines.openai_format import RESERVED, Dialect, Reply, read_reply

CONNECT_S = 10.0
MOST_BYTES = 256 * 2**20
"""Of a response, unpacked: 128 candidates of 8,000 tokens with their log-probabilities take less."""

Result = TypeVar("Result")


class OpenAIEngine:
    """Sends many requests at a time, on an event loop of its own: connections live as long as the engine."""

    def __init__(self, name: str, config: EngineConfig, *, chat: bool, section: str = "engine") -> None:
        """``name`` is the model's at its server; with ``chat`` a prompt is a user's message, else text to continue.

        ``section`` of the configuration is what errors name.
        """
        if reserved := sorted(RESERVED & config.args.keys()):
            message = f"{', '.join(reserved)} cannot be set in `{section}.args`"
            raise ConfigError(message, f"Remove them from `{section}.args`: flywheel sets them itself.")
        self._model, self._chat, self._args, self._endpoint = name, chat, config.args, config.endpoint
        key = _key(self._endpoint.base_url, self._endpoint.key_env)
        self._error = partial(error_of, endpoint=self._endpoint, model=name, section=section, key=key)
        self._dialect = Dialect(choices=self._endpoint.most_choices)
        self._slots = asyncio.Semaphore(self._endpoint.concurrency)
        for logger in map(logging.getLogger, ("openai", "httpx", "httpx2", "httpcore", "httpcore2")):
            if logger.level == logging.NOTSET:  # a line for each request otherwise
                logger.setLevel(logging.WARNING)
        timeout = self._endpoint.timeout
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",  # most local servers need none, the client always does
            base_url=self._endpoint.base_url,
            max_retries=self._endpoint.retries,
            timeout=openai.Timeout(timeout, connect=min(timeout, CONNECT_S)),
            http_client=_CheckedClient(follow_redirects=False),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="openai", daemon=True)
        self._thread.start()

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """As every engine, as far as the server does: only one that honours seeds repeats texts, and some answer a prompt
        that leaves too little room with what fits. An empty prompt is sent as a line break, for most servers reject it.
        """
        return self._run(
            _gather(
                self._complete(prompt or "\n", n=n, sampling=sampling, seed=derive(seed, place))
                for place, prompt in enumerate(prompts)
            )
        )

    def check_connection(self) -> None:
        """Raise EngineError where there is no server."""
        models = self._run(self._list_models())
        if isinstance(models, Failure) and models.unreachable:
            raise self._error(models)

    def close(self) -> None:
        if not self._loop.is_closed():
            self._run(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # which cancels what is left, and closes the loop
            runner.get_loop().run_forever()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C too: requests under way are dropped
            future.cancel()
            raise

    async def _complete(self, prompt: str, *, n: int, sampling: Sampling, seed: int) -> list[Completion]:
        """n completions of a prompt, in as many requests as it takes. A place has the same seed in whichever request it is."""
        completions: dict[int, Completion] = {}
        while missing := [place for place in range(n) if place not in completions]:
            most = self._dialect.choices
            batches = [missing[start : start + most] for start in range(0, len(missing), most)]
            groups = await _gather(
                self._ask(prompt, n=len(places), sampling=sampling, seed=derive(seed, places[0])) for places in batches
            )
            for places, group in zip(batches, groups, strict=True):
                completions.update(zip(places, group, strict=False))
        return [completions[place] for place in range(n)]

    async def _ask(self, prompt: str, *, n: int, sampling: Sampling, seed: int) -> list[Completion]:
        """Up to n completions of a prompt, as many as the server sends at once."""
        content = {"messages": [{"role": "user", "content": prompt}]} if self._chat else {"prompt": prompt}
        # The raw response: the client would read anything into its types.
        create: Any = (self._client.chat if self._chat else self._client).completions.with_raw_response.create
        seeded = seed if self._endpoint.seeded else None
        async with self._slots:
            while True:
                dialect = self._dialect
                n = min(n, dialect.choices)
                fields = dialect.fields(n=n, sampling=sampling, seed=seeded, chat=self._chat, args=self._args)
                try:
                    response = await create(model=self._model, extra_body=fields, **content)
                except openai.APIError as error:
                    failure = failure_of(error)
                else:
                    reply: Reply = response.http_response.extensions["reply"]
                    if len(reply.choices) < n:  # some servers send one, whatever n is
                        self._dialect = replace(self._dialect, choices=min(self._dialect.choices, len(reply.choices)))
                    return reply.completions(prompt=prompt, n=n, stop=sampling.stop)
                if reason := failure.finish_reason:
                    return [Completion(text="", tokens=0, finish_reason=reason)] * n
                if not (simpler := dialect.after_failure(failure, n)):
                    served = await self._list_models() if failure.status == 404 else ()
                    raise self._error(failure, served=() if isinstance(served, Failure) else served)
                if self._dialect == dialect:  # else another request has shown more since
                    self._dialect = simpler

    async def _list_models(self) -> list[str] | Failure:
        """The models that the server lists; none where it does not list them."""
        try:
            models = await self._client.with_options(timeout=CONNECT_S, max_retries=0).models.list()
            return sorted(str(model.id) for model in models.data)
        except openai.APIError as error:
            return failure_of(error)
        except (AttributeError, TypeError, ValueError, RecursionError):  # a reply of another form
            return []


class _CheckedClient(openai.DefaultAsyncHttpxClient):
    """Reads whole replies and checks them, so that the openai client retries a broken one as it does a lost connection."""

    connected = reports_usage = False

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            response = await super().send(request, **options | {"stream": True})
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol) as error:
            if self.connected:
                raise
            raise Unreachable(request=request) from error
        except httpx2.TransportError:  # the connection was lost, so there is a server
            self.connected = True
            raise
        self.connected, body = True, bytearray()
        try:
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise BrokenReply(f"the response is larger than {MOST_BYTES / 2**20:.0f} MB")
        finally:
            await response.aclose()
        response._content = bytes(body)  # what its own aread() sets
        if request.method == "POST" and response.is_success:
            reply = response.extensions["reply"] = read_reply(response.content)
            if self.reports_usage and reply.usage is None:
                raise BrokenReply("the response has no usage")
            self.reports_usage = reply.usage is not None
        return response


async def _gather(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results, in order; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _key(base_url: str, name: str) -> str | None:
    """The key in the environment, or None; raises ConfigError for OpenAI itself without one."""
    key = os.environ.get(name, "").strip()
    if not key and urlsplit(base_url).hostname == "api.openai.com":
        raise ConfigError(f"{base_url} requires an API key", f"Set {name}: `read -rs {name} && export {name}`.")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"the API key in {name} has invalid characters",
            f"Set {name} to the key alone, without line breaks or non-ASCII characters.",
        )
    return key or None
