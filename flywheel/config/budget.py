"""What a call may spend, and what work costs: the ``budget`` and ``prices`` sections."""

from __future__ import annotations

from pydantic import Field

from flywheel.config.section import Section


class BudgetConfig(Section):
    """What one call may spend. It stops between two chunks and keeps what it has; the same command goes on."""

    tokens: int | None = Field(default=None, ge=1)
    """Tokens generated."""
    minutes: float | None = Field(default=None, gt=0.0)
    cost: float | None = Field(default=None, gt=0.0)
    """In the currency of ``prices``. Where tokens have a price, a chunk that could go beyond it is not begun."""


class PricesConfig(Section):
    """What work costs, in any one currency."""

    hour: float = Field(default=0.0, ge=0.0)
    """Of the machine."""
    million_tokens: float = Field(default=0.0, ge=0.0)
    """Of generated tokens."""
    million_prompt_tokens: float = Field(default=0.0, ge=0.0)
    """Of tokens read."""

    def cost(self, *, tokens: int, prompt_tokens: int, seconds: float) -> float:
        """What work costs."""
        return seconds / 3600 * self.hour + (tokens * self.million_tokens + prompt_tokens * self.million_prompt_tokens) / 1e6
