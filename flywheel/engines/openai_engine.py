"""openai: any model behind an OpenAI-compatible address, by its completions or its chat.

The key comes from the environment and goes nowhere but into the requests: neither redirects nor messages carry it. What the
server does beyond the fields that are sent is its own affair; vLLM's and llama.cpp's servers, for one, keep their model's
``top_k`` unless ``engine.args`` has another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flywheel.config import EngineConfig
from flywheel.core.seeds import derive
from flywheel.engines.contract import Sampling, too_long
from flywheel.errors import ConfigError, EngineError, FlywheelError
from flywheel.records import Completion, FinishReason

try:
    import openai
except ModuleNotFoundError:
    raise EngineError("engine.name openai needs a package that is missing; pip install 'flywheel[openai]'") from None

from flywheel.engines.openai_dialect import OURS, Dialect
from flywheel.engines.openai_reply import names, read
from flywheel.engines.openai_trouble import BrokenReply, Trouble, explain, one_line, trouble_of

CONNECT = 10.0
"""Seconds after which nobody is there to connect to."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds before a request is sent again whose answer was broken: as long as the client waits after an error."""

MOST_BYTES = 256 * 2**20
"""Of an answer, unpacked: 128 candidates of 8,000 tokens with their log-probabilities take less."""

Result = TypeVar("Result")


class OpenAIEngine:
    """Asks a server, many requests at a time, on a loop of its own: connections live as long as the engine."""

    name = "openai"

    def __init__(self, name: str, config: EngineConfig, *, chat: bool, section: str = "engine") -> None:
        """``name`` is the model's at its server; with ``chat`` prompts are what a user says, else plain text to go on with.

        ``section`` of the configuration is what messages name.
        """
        self._section = section
        self._model, self._chat, self._args, self._endpoint = name, chat, config.args, config.endpoint
        if taken := sorted(OURS & config.args.keys()):
            raise ConfigError(f"{section}.args may not set {', '.join(taken)}: flywheel does; take it out")
        self._key = _key(self._endpoint.base_url, self._endpoint.key_env)
        self._dialect = Dialect(choices=self._endpoint.most_choices)
        self._slots = asyncio.Semaphore(self._endpoint.concurrency)
        self._reached = False
        for logger in map(logging.getLogger, ("openai", "httpx", "httpx2", "httpcore", "httpcore2")):
            if logger.level == logging.NOTSET:  # a line for each request otherwise
                logger.setLevel(logging.WARNING)
        timeout = self._endpoint.timeout
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",  # own servers mostly want none, the client always does
            base_url=self._endpoint.base_url,
            max_retries=self._endpoint.retries,
            timeout=openai.Timeout(timeout, connect=min(timeout, CONNECT)),
            http_client=_BoundedClient(follow_redirects=False),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """As every engine does, as far as the server does: only one that keeps seeds writes the same texts again, and some
        answer a prompt that leaves too little room with what fits in it. An empty prompt is a line break, for most refuse it.
        """
        return self._run(self._write(prompts, n=n, sampling=sampling, seed=seed))

    def reach(self) -> None:
        """Raise EngineError where there is no server."""
        self._run(self._reach())

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        """Let what was dropped come to its end, and hang up."""
        dropped = asyncio.all_tasks() - {asyncio.current_task()}
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)
        await self._client.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C too: what is under way is dropped
            future.cancel()
            raise

    async def _write(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        await self._reach()
        return await _together(
            self._complete(prompt or "\n", n=n, sampling=sampling, seed=derive(seed, place))
            for place, prompt in enumerate(prompts)
        )

    async def _reach(self) -> None:
        """Raise EngineError where there is no server: the requests themselves would be tried again for a while."""
        if not self._reached:
            listed = await self._list_models()
            if isinstance(listed, Trouble) and listed.unreachable:
                raise await self._error(listed)
            self._reached = True

    async def _complete(self, prompt: str, *, n: int, sampling: Sampling, seed: int) -> list[Completion]:
        """n completions of a prompt. A place has the same seed in whichever request it is asked for."""
        written: dict[int, Completion] = {}
        while missing := [place for place in range(n) if place not in written]:
            most = self._dialect.choices
            asked = [missing[start : start + most] for start in range(0, len(missing), most)]
            groups = await _together(
                self._ask(prompt, n=len(places), sampling=sampling, seed=derive(seed, places[0])) for places in asked
            )
            for places, group in zip(asked, groups, strict=True):
                written.update(zip(places, group, strict=False))
        return [written[place] for place in range(n)]

    async def _ask(self, prompt: str, *, n: int, sampling: Sampling, seed: int) -> list[Completion]:
        """Up to n completions of a prompt, as many as the server gives at once."""
        left = self._endpoint.retries
        while True:
            async with self._slots:
                dialect = self._dialect
                n = min(n, dialect.choices)
                answer = await self._send(prompt, dialect, n=n, sampling=sampling, seed=seed, retries=left)
            if not isinstance(answer, Trouble):
                return answer
            if answer.too_long:
                return too_long(n)
            if answer.refused:
                return [Completion(text="", tokens=0, finish_reason=FinishReason.LENGTH)] * n
            if simpler := dialect.after(answer, n):
                if self._dialect == dialect:  # else another request has shown more since
                    self._dialect = simpler
                continue
            left -= answer.retries + 1
            sent = self._endpoint.retries - left
            # The client waits two minutes at most, whatever it is told.
            passes = answer.broken or (answer.wait is not None and answer.wait <= self._endpoint.timeout)
            if not passes or left < 0:
                raise await self._error(replace(answer, retries=sent - 1))
            await asyncio.sleep(answer.wait or min(FIRST_WAIT * 2 ** (sent - 1), LONGEST_WAIT))

    async def _send(
        self, prompt: str, dialect: Dialect, *, n: int, sampling: Sampling, seed: int, retries: int
    ) -> list[Completion] | Trouble:
        """One request, which the client sends again after errors that may pass."""
        client = self._client if retries == self._endpoint.retries else self._client.with_options(max_retries=retries)
        fields = dialect.fields(
            n=n, sampling=sampling, seed=seed if self._endpoint.seeded else None, chat=self._chat, args=self._args
        )
        taken = 0
        try:
            answer = await self._post(client, prompt, fields)
            taken = answer.retries_taken
            reply = read(answer.content, prompt=prompt, n=n, stop=sampling.stop, chat=self._chat)
            if self._dialect.usage and not reply.usage:
                raise BrokenReply("no usage")
        except openai.APIError as error:
            return trouble_of(error)
        except BrokenReply as error:
            return Trouble(what=str(error), retries=taken, broken=True)
        self._dialect = self._dialect.shown(reply, n)
        return reply.completions

    def _post(self, client: openai.AsyncOpenAI, prompt: str, fields: dict[str, Any]) -> Awaitable[Any]:
        """The answer as it came: the client reads into its types whatever there is."""
        if self._chat:
            return client.chat.completions.with_raw_response.create(
                model=self._model, messages=[{"role": "user", "content": prompt}], extra_body=fields
            )
        return client.completions.with_raw_response.create(model=self._model, prompt=prompt, extra_body=fields)

    async def _list_models(self) -> list[str] | Trouble | None:
        try:
            answer = await self._client.with_options(max_retries=0, timeout=CONNECT).models.with_raw_response.list()
        except openai.APIError as error:
            return trouble_of(error)
        return names(answer.content)

    async def _error(self, trouble: Trouble) -> FlywheelError:
        """What a user is told of it."""
        listed = await self._list_models() if trouble.status == 404 else None
        what = trouble.what.replace(self._key, "***") if self._key else trouble.what  # a server may say it back
        return explain(
            replace(trouble, what=one_line(what)),
            model=self._model,
            endpoint=self._endpoint,
            section=self._section,
            has_key=self._key is not None,
            served=None if isinstance(listed, Trouble) else listed,
        )


class _BoundedClient(openai.DefaultAsyncHttpxClient):
    """Stops reading an answer that is too large, however it is packed."""

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        answer = await super().send(request, stream=True, **options)
        if stream:
            return answer
        body = bytearray()
        try:
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise BrokenReply(f"more than {MOST_BYTES / 2**20:.0f} MB")
        finally:
            await answer.aclose()
        answer._content = bytes(body)  # what its own aread() sets
        return answer


async def _together(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results, in order; the first failure ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _key(base_url: str, name: str) -> str | None:
    """The key in the environment; None where there is none. Raises ConfigError where OpenAI itself is to be asked without."""
    key = os.environ.get(name, "").strip()
    if not key and urlsplit(base_url).hostname == "api.openai.com":
        raise ConfigError(
            f"no key in the environment variable {name}, and {base_url} wants one; `read -rs {name} && export {name}` takes it"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the key in the environment variable {name} has letters that no key has; set it anew")
    return key or None
