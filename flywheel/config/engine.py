"""The engine that runs the generator: the ``engine`` section."""

from __future__ import annotations

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from flywheel.config.section import OPERATIONAL, Invalid, Positive, Section


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
    """Candidates per request; servers that return fewer are asked again."""

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        # On the whole section, so that no message quotes a value that may be a secret.
        try:
            address = urlsplit(self.base_url)
            valid = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            valid = False
        if "@" in self.base_url:
            raise Invalid(("base_url contains a name or password", "Remove it; the key comes from the environment."))
        if not valid or not self.base_url.isprintable() or re.search(r"[\s<>\"{}|\\^`]", self.base_url):
            raise Invalid((f"base_url = {self.base_url!r} is not an address", "For example: http://localhost:8000/v1"))
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_env):
            raise Invalid(
                (
                    "key_env must be the name of an environment variable, in capital letters",
                    "For example OPENAI_API_KEY; the key itself is that variable's value.",
                )
            )
        return self


class EngineConfig(Section):
    """The engine that runs the generator."""

    name: Literal["auto", "ctranslate2", "transformers", "vllm", "openai", "scripted"] = "auto"
    """``auto`` takes the fastest engine for this machine and model, and says why; ``scripted`` replays texts, for tests."""
    script: str | None = None
    """scripted: the texts to replay, as jsonl with ``text`` and optionally ``finish_reason`` and ``when``."""
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

    @model_validator(mode="after")
    def _check_script(self) -> Self:
        if (self.name == "scripted") != (self.script is not None):
            raise Invalid(("`script` and `name: scripted` belong together", "Set both or neither."))
        return self

    @model_validator(mode="after")
    def _check_compute_type(self) -> Self:
        if self.compute_type == "int8" and self.name in ("vllm", "transformers"):
            raise Invalid(
                (
                    "compute_type = 'int8' needs name = 'ctranslate2'",
                    f"For {self.name}, set float32, bfloat16 or float16.",
                )
            )
        return self
