"""What the schemas are made of: whole numbers as JSON has them, and objects that are open or closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NotRequired

from annotated_types import MaxLen, MinLen
from pydantic import ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, with_config
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypedDict

open_object = with_config(ConfigDict(strict=True, extra="allow"))
"""A JSON object that may have fields we do not know: engines have their own."""
closed_object = with_config(ConfigDict(strict=True, extra="forbid"))
"""A JSON object with no other fields."""

LARGEST_SEED = 9223372036854776000
"""Of a chat completion, as OpenAI's description has it: 2**63 as a double prints."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Marks an int as JSON schema's `integer`: 1.0 is one, true is none. Bounds are inclusive."""

    low: int | None = None
    high: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return int, or a float without a fraction; strict, so that no text and no bool passes for one."""
        exact = core_schema.int_schema(strict=True, ge=self.low, le=self.high)
        return core_schema.union_schema(
            [exact, core_schema.no_info_plain_validator_function(self._without_fraction)],
            mode="left_to_right",
            custom_error_type="whole_number",
            custom_error_message=f"Input should be {self._words()}",
        )

    def _without_fraction(self, value: Any) -> int:
        """Take a float that is whole; whatever else is no integer has no chance here."""
        if not isinstance(value, float) or not value.is_integer():
            raise ValueError
        whole = int(value)
        if (self.low is not None and whole < self.low) or (self.high is not None and whole > self.high):
            raise ValueError
        return whole

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return `integer` with the bounds."""
        bounds = {"minimum": self.low, "maximum": self.high}
        return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}

    def _words(self) -> str:
        match (self.low, self.high):
            case (None, None):
                return "a whole number"
            case (low, None):
                return f"a whole number from {low}"
        return f"a whole number from {self.low} to {self.high}"


Integer = Annotated[int, Whole()]
Int64 = Annotated[int, Whole(-(2**63), 2**63 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Model = Annotated[str, Field(description="The name of a model that is served here, or an alias of one.")]
Stop = str | Annotated[list[str], MinLen(1), MaxLen(4)] | None


@open_object
class StreamOptions(TypedDict):
    """What a stream is to have besides the answer."""

    include_usage: NotRequired[bool]
    include_obfuscation: NotRequired[bool]
