"""What a command may spend, and what work costs: the ``budget`` and ``prices`` sections."""

from __future__ import annotations

from pydantic import Field

from flywheel.config.section import Section


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
