"""What every block of a scenario file is made of: immutable, no key beyond those declared, and kinds of numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[float, Field(ge=0, strict=True)]
"""Tokens or turns; a distribution of them may have a mean between two whole numbers."""

Share = Annotated[float, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""Of a class or a tenant: it stands in expectations, headers and file columns."""


class Block(BaseModel):
    """A block of the scenario file: immutable, and no key beyond those declared."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
