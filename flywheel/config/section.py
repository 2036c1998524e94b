"""What every part of a configuration has in common.

Fields that change speed but not results carry ``OPERATIONAL`` and stay out of a round's identity.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

OPERATIONAL: dict[str, Any] = {"operational": True}

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^\w[\w .-]{0,63}$")]
"""Names of members and judges: folders and columns are called after them."""
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What fits into the database's numbers."""


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's yes and true would count as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation is not bool and annotation is not Any:
            raise ValueError("input should not be yes or no")
        return value
