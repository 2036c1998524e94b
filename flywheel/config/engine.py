"""What runs the generator: the ``engine`` section."""

from __future__ import annotations

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from flywheel.config.section import OPERATIONAL, Positive, Section


class EndpointConfig(Section):
    """An OpenAI-compatible server: OpenAI itself, vLLM's, llama.cpp's, Ollama's."""

    base_url: str = Field(default="https://api.openai.com/v1", json_schema_extra=OPERATIONAL)
    key_env: str = Field(default="OPENAI_API_KEY", json_schema_extra=OPERATIONAL)
    """The environment variable that holds the key; the key itself is never configured, stored or logged."""
    concurrency: Positive = Field(default=32, json_schema_extra=OPERATIONAL)
    """Requests under way at once."""
    timeout: float = Field(default=600.0, gt=0.0, json_schema_extra=OPERATIONAL)
    """Seconds that one request may take."""
    retries: int = Field(default=8, ge=0, json_schema_extra=OPERATIONAL)
    """How often a request is sent again after an error that may pass, each time after a longer wait."""
    seeded: bool = False
    """Send a seed with each request. Not every server takes them: vLLM's on a CPU dies of the first."""
    most_choices: Positive = 128
    """Candidates asked for in one request; servers that give fewer at a time are asked again."""

    @model_validator(mode="after")
    def _is_an_address_without_a_key(self) -> Self:
        # On the whole section, so that the message does not say a value that may be a secret.
        try:
            address = urlsplit(self.base_url)
            sound = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            sound = False
        if "@" in self.base_url:
            raise ValueError("base_url has a name or a password in it; take it out, the key comes from the environment")
        if not sound or not self.base_url.isprintable() or re.search(r"[\s<>\"{}|\\^`]", self.base_url):
            raise ValueError(f"base_url must be an address such as http://localhost:8000/v1, got {self.base_url!r}")
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_env):
            raise ValueError(
                "key_env must be the name of an environment variable, in capital letters such as OPENAI_API_KEY; "
                "the key itself is its value there"
            )
        return self


class EngineConfig(Section):
    """What runs the generator."""

    name: Literal["auto", "ctranslate2", "transformers", "vllm", "openai", "scripted"] = "auto"
    """``auto`` is the fastest that this machine and model admit, and says why; ``scripted`` replays texts, for tests."""
    script: str | None = None
    """The texts that the scripted engine replays: jsonl with ``text``, and where they differ ``finish_reason`` and ``when``."""
    device: str = Field(default="auto", json_schema_extra=OPERATIONAL)
    compute_type: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    workers: int = Field(default=0, ge=0, json_schema_extra=OPERATIONAL)
    """Texts are written on this many cores at once; 0 means all of them. The texts stay the same."""
    chunk: Positive = 128
    """Prompts per committed chunk. Part of the identity: random numbers are drawn per chunk."""
    batch_tokens: Positive = Field(default=32_768, json_schema_extra=OPERATIONAL)
    """transformers: padded tokens of prompts and outputs that are in memory at once; halved where memory runs out."""
    memory: float = Field(default=0.85, gt=0.0, le=1.0, json_schema_extra=OPERATIONAL)
    """vllm: share of the GPU's memory that it may use."""
    args: dict[str, Any] = Field(default_factory=dict)
    """vllm: any further argument of its LLM, such as ``tensor_parallel_size``. openai: further fields of each request."""
    endpoint: EndpointConfig = EndpointConfig()
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _script_goes_with_scripted(self) -> Self:
        if (self.name == "scripted") != (self.script is not None):
            raise ValueError("engine.script and engine.name scripted go together; set both or neither")
        return self

    @model_validator(mode="after")
    def _int8_is_ctranslate2s(self) -> Self:
        if self.compute_type == "int8" and self.name in ("vllm", "transformers"):
            raise ValueError(f"engine.compute_type int8 is CTranslate2's; set float32, bfloat16 or float16 for {self.name}")
        return self
