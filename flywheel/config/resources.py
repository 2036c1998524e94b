"""What the work runs on and what it may cost: the ``engine``, ``cluster``, ``budget`` and ``prices`` sections."""

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from flywheel.config.section import OPERATIONAL, Positive, Problem, Section


class EndpointConfig(Section):
    """An OpenAI-compatible server: OpenAI itself, vLLM, llama.cpp, Ollama."""

    base_url: str = Field(default="https://api.openai.com/v1", json_schema_extra=OPERATIONAL)
    """Address of the server, up to and including ``/v1``."""
    key_env: str = Field(default="OPENAI_API_KEY", json_schema_extra=OPERATIONAL)
    """Environment variable with the API key; the key itself is never configured, stored or logged."""
    concurrency: Positive = Field(default=32, json_schema_extra=OPERATIONAL)
    """Requests in flight at the same time."""
    timeout: float = Field(default=600.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Seconds before a request times out."""
    retries: int = Field(default=8, ge=0, json_schema_extra=OPERATIONAL)
    """How often a request is retried after a temporary error, each time after a longer wait."""
    seeded: bool = False
    """Send a seed with each request; some servers do not support it (vLLM on a CPU crashes)."""
    most_choices: Positive = 128
    """Maximum candidates per request; servers that return fewer are asked again."""

    def problems(self) -> Iterator[Problem]:
        """Here and not on the fields, so that no message quotes a value that may be a secret."""
        if "@" in self.base_url:
            yield "base_url contains a user name or password", "Remove it. `key_env` names the variable with the API key."
        elif not re.fullmatch(r"https?://([\w.-]+|\[[\da-fA-F:.]+\])(:[1-9]\d{0,4})?(/[!-~]*)?", self.base_url):
            yield f"base_url = {self.base_url!r} is not a valid URL", "Use a URL such as http://localhost:8000/v1."
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_env):
            hint = "Use a name such as OPENAI_API_KEY, and store the API key in that variable."
            yield "key_env is not the name of an environment variable in capital letters", hint


class EngineConfig(Section):
    """The engine that runs the generator."""

    name: Literal["auto", "ctranslate2", "transformers", "vllm", "openai"] = "auto"
    """``auto`` selects the fastest engine for this machine and model, and says why."""
    device: str = Field(default="auto", json_schema_extra=OPERATIONAL)
    """``auto``, ``cpu``, or a GPU such as ``cuda``."""
    compute_type: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    """Number type of the weights while generating; ``int8`` needs ctranslate2."""
    workers: int = Field(default=0, ge=0, json_schema_extra=OPERATIONAL)
    """ctranslate2: cores that generate at the same time, 0 for all; the texts stay the same."""
    chunk: Positive = 128
    """Prompts per committed chunk; part of the fingerprint, as random numbers are drawn per chunk."""
    batch_tokens: Positive = Field(default=32_768, json_schema_extra=OPERATIONAL)
    """transformers: padded tokens of prompts and outputs in memory at the same time; halved when memory runs out."""
    memory: float = Field(default=0.85, gt=0.0, le=1.0, json_schema_extra=OPERATIONAL)
    """vllm: share of the GPU's memory to use."""
    args: dict[str, Any] = Field(default_factory=dict)
    """vllm: further arguments of its ``LLM``, such as ``tensor_parallel_size``; openai: further fields of each request."""
    endpoint: EndpointConfig = EndpointConfig()
    """openai: the server."""
    trust_remote_code: bool = False
    """Run code that comes with a model."""

    def problems(self) -> Iterator[Problem]:
        if self.compute_type == "int8" and self.name in ("vllm", "transformers"):
            hint = "Set `engine.compute_type` to float32, bfloat16 or float16, or `engine.name` to ctranslate2."
            yield f"compute_type = 'int8' is not supported by engine.name = {self.name!r}", hint


class ClusterConfig(Section):
    """A Ray cluster. It produces the rows of a single process, so nothing here is part of a round's fingerprint."""

    address: str = "auto"
    """Address of the head node, such as ``10.0.0.1:6379``; ``auto`` is the cluster that this machine is a node of."""
    workers: Positive = 1
    """Processes that run an engine."""
    cpus_per_worker: Positive = 1
    """Cores that each worker may use."""
    gpus_per_worker: float = Field(default=0.0, ge=0.0)
    """GPUs of each worker: one, several for tensor parallelism (set ``engine.args`` too), or a share of one."""
    scorers: Positive = 1
    """Processes that run the reward model; they score while the workers generate."""
    gpus_per_scorer: float = Field(default=0.0, ge=0.0)
    """GPUs of each scorer, or a share of one."""
    retries: int = Field(default=2, ge=0)
    """How often a chunk is retried, in another process if its own died, before it becomes a failed chunk."""
    storage: str | None = None
    """Folder or address (``s3://bucket/flywheel``) through which nodes without access to the workspace get models."""

    def problems(self) -> Iterator[Problem]:
        if self.address.startswith("ray://"):
            hint = "Run `ray start --address HEAD:6379` on this machine, and set `cluster.address` to HEAD:6379 or auto."
            yield f"address = {self.address!r} is a Ray Client address, which Ray Data does not support", hint


class BudgetConfig(Section):
    """What one command may spend. It stops between two chunks and keeps its work; the same command resumes."""

    tokens: int | None = Field(default=None, ge=1)
    """Generated tokens."""
    minutes: float | None = Field(default=None, gt=0.0)
    """Minutes of wall-clock time."""
    cost: float | None = Field(default=None, gt=0.0)
    """Money, in the currency of ``prices``; where tokens have a price, a chunk that could exceed the limit is not started."""


class PricesConfig(Section):
    """What work costs, in any one currency."""

    hour: float = Field(default=0.0, ge=0.0)
    """Price of an hour of this machine."""
    million_tokens: float = Field(default=0.0, ge=0.0)
    """Price of a million generated tokens."""
    million_prompt_tokens: float = Field(default=0.0, ge=0.0)
    """Price of a million prompt tokens."""

    def cost(self, *, tokens: int, prompt_tokens: int, seconds: float) -> float:
        """The cost of work."""
        return seconds / 3600 * self.hour + (tokens * self.million_tokens + prompt_tokens * self.million_prompt_tokens) / 1e6
