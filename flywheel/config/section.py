"""What every part of a configuration has in common.

Fields that change speed but not results carry ``OPERATIONAL`` and stay out of a round's fingerprint. The docstring of a
field, or of the section that it holds, is its description.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

OPERATIONAL: dict[str, Any] = {"operational": True}

Temperature = Annotated[float, Field(gt=0.0, le=100.0, description="Sampling temperature.")]
TopP = Annotated[float, Field(gt=0.0, le=1.0, description="Nucleus sampling.")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^\w[\w .-]{0,63}$")]
"""The name of a member or judge; folders and columns are named after it."""
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A number that fits into a column of the database."""
Problem = tuple[str, str]
"""A message, which starts with a key of the section, and its hint."""


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="after")
    def _refuse_problems(self) -> Self:
        if problems := list(self.problems()):
            raise ValueError(problems)
        return self

    def problems(self) -> Iterable[Problem]:
        """What is wrong between the values of this section, once each is valid by itself."""
        return ()
