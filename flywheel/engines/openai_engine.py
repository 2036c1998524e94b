"""openai: any model behind an OpenAI-compatible address, by its completions or its chat.

The key comes from the environment and goes nowhere but into the requests: redirects are not followed, messages do not carry it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Collection, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flywheel.config import EngineConfig
from flywheel.core.seeds import derive
from flywheel.engines.contract import Sampling
from flywheel.engines.texts import too_long
from flywheel.errors import ConfigError, EngineError, FlywheelError
from flywheel.records import Completion, FinishReason

try:
    import openai
except ModuleNotFoundError:
    raise EngineError("package openai not found", "Run `pip install 'flywheel-bon[openai]'`.") from None

from flywheel.engines.openai_errors import EXPLANATIONS, BrokenReply, Failure, failure_of, one_line
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
            raise ConfigError(f"flywheel sets {', '.join(reserved)} itself", f"Remove it from `{section}.args`.")
        self._model, self._chat, self._section = name, chat, section
        self._args, self._endpoint = config.args, config.endpoint
        self._key = _key(self._endpoint.base_url, self._endpoint.key_env)
        self._dialect = Dialect(choices=self._endpoint.most_choices)
        self._slots = asyncio.Semaphore(self._endpoint.concurrency)
        self._connected = False
        for logger in map(logging.getLogger, ("openai", "httpx", "httpx2", "httpcore", "httpcore2")):
            if logger.level == logging.NOTSET:  # a line for each request otherwise
                logger.setLevel(logging.WARNING)
        timeout = self._endpoint.timeout
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",  # most local servers need none, the client always does
            base_url=self._endpoint.base_url,
            # The client retries neither a broken reply nor after a Retry-After of more than two minutes: `_send` does.
            max_retries=0,
            timeout=openai.Timeout(timeout, connect=min(timeout, CONNECT_S)),
            http_client=_BoundedClient(follow_redirects=False),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
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
        if isinstance(models, Failure) and models.kind == "unreachable":
            raise self._run(self._error(models))

    def close(self) -> None:
        async def disconnect() -> None:
            await _cancel(asyncio.all_tasks() - {asyncio.current_task()})
            await self._client.close()

        if not self._loop.is_closed():
            self._run(disconnect())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

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
        """Up to n completions of a prompt, as many as the server sends at once; retries failures that may pass."""
        retries = 0
        async with self._slots:
            while True:
                dialect = self._dialect
                n = min(n, dialect.choices)
                reply = await self._send(prompt, dialect, n=n, sampling=sampling, seed=seed)
                if isinstance(reply, Reply):
                    self._dialect = self._dialect.after_reply(reply, n)
                    return reply.completions
                if reply.kind == "prompt too long":
                    return too_long(n)
                if reply.kind == "prompt refused":
                    return [Completion(text="", tokens=0, finish_reason=FinishReason.LENGTH)] * n
                if simpler := dialect.after_failure(reply, n):
                    if self._dialect == dialect:  # else another request has shown more since
                        self._dialect = simpler
                    continue
                delay = reply.delay(retries, longest=self._endpoint.timeout)
                if delay is None or retries == self._endpoint.retries:
                    raise await self._error(reply, retries)
                await asyncio.sleep(delay)
                retries += 1

    async def _send(self, prompt: str, dialect: Dialect, *, n: int, sampling: Sampling, seed: int) -> Reply | Failure:
        seeded = seed if self._endpoint.seeded else None
        fields = dialect.fields(n=n, sampling=sampling, seed=seeded, chat=self._chat, args=self._args)
        create: Any = (self._client.chat if self._chat else self._client).completions.with_raw_response.create
        content = {"messages": [{"role": "user", "content": prompt}]} if self._chat else {"prompt": prompt}
        try:
            # The raw response: the client would read anything into its types.
            response = await create(model=self._model, extra_body=fields, **content)
            self._connected = True
            reply = read_reply(response.content, prompt=prompt, n=n, stop=sampling.stop, chat=self._chat)
            if self._dialect.usage and not reply.usage:
                raise BrokenReply("no usage")
        except (openai.APIError, BrokenReply) as error:
            failure = failure_of(error)
        else:
            return reply
        if failure.kind == "unreachable" and self._connected:
            return replace(failure, kind="no reply", retryable=True)
        self._connected |= failure.kind != "unreachable"
        return failure

    async def _list_models(self) -> list[str] | Failure:
        """The models that the server lists; none where it does not list them."""
        try:
            models = await self._client.with_options(timeout=CONNECT_S).models.list()
            return sorted(str(model.id) for model in models.data)
        except openai.APIError as error:
            return failure_of(error)
        except (AttributeError, TypeError, ValueError, RecursionError, BrokenReply):  # a reply of another form
            return []

    async def _error(self, failure: Failure, retries: int = 0) -> FlywheelError:
        """The user's error for a failure."""
        kind, served = failure.kind, await self._list_models() if failure.status == 404 else []
        if kind == "wrong key" and self._key is None:
            kind = "no key"
        if isinstance(served, list) and served and self._model not in served:
            kind = "not served"
        message = one_line(failure.message.replace(self._key, "***") if self._key else failure.message)  # a server may quote it
        names = {
            "url": self._endpoint.base_url,
            "key_env": self._endpoint.key_env,
            "model": self._model,
            "served": one_line(", ".join(served)) if isinstance(served, list) else "",
            "section": self._section,
            "model_key": "`generator`" if self._section == "engine" else f"`{self._section}.model`",
            "status": failure.status,
            "reason": f": {message}" if message else "",
            "retried": f" after {retries} {'retry' if retries == 1 else 'retries'}" if retries else "",
            "wait": f" and asks to wait {failure.retry_after:,.0f} s" if failure.retry_after else "",
        }
        error, problem, hint = EXPLANATIONS[kind]
        return error(problem.format(**names), hint.format(**names))


class _BoundedClient(openai.DefaultAsyncHttpxClient):
    """Stops reading a response that is too large, however it is packed."""

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        response = await super().send(request, stream=True, **options)
        if stream:
            return response
        body = bytearray()
        try:
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise BrokenReply(f"more than {MOST_BYTES / 2**20:.0f} MB")
        finally:
            await response.aclose()
        response._content = bytes(body)  # what its own aread() sets
        return response


async def _gather(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results, in order; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _key(base_url: str, name: str) -> str | None:
    """The key in the environment, or None; raises ConfigError for OpenAI itself without one."""
    key = os.environ.get(name, "").strip()
    if not key and urlsplit(base_url).hostname == "api.openai.com":
        raise ConfigError(f"{base_url} requires an API key", f"Run `read -rs {name} && export {name}`.")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the API key in {name} has invalid characters", f"Set the environment variable {name} again.")
    return key or None
