"""What a bert worker is asked: the texts of a request, and the form in which vectors are wanted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reference.wire.errors import ApiError

MAX_TEXTS = 2048
"""OpenAI's own limit."""

Tokens = Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]
Texts = Annotated[list[Annotated[str, Field(strict=True)]], Field(min_length=1, max_length=MAX_TEXTS)]
TokenTexts = Annotated[list[Tokens], Field(min_length=1, max_length=MAX_TEXTS)]


class Ask(BaseModel):
    """The body of `/v1/embeddings` or `/v1/classify`. Fields that other servers know are let pass."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    input: str | Texts | Tokens | TokenTexts = Field(union_mode="left_to_right")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)

    @property
    def texts(self) -> list[str] | list[list[int]]:
        """The texts, each as words or as token ids."""
        if isinstance(self.input, str):
            return [self.input]
        found: Any = self.input
        return [found] if isinstance(found[0], int) else found


def read_ask(raw: bytes, model: str) -> Ask:
    """Read a request's body.

    Raises:
        ApiError: 400 with the parameter at fault, or 404 for another model's name.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, f"the body is a JSON {type(body).__name__}; expected an object", code="invalid_json")
    try:
        ask = Ask.model_validate(body)
    except ValidationError as invalid:
        raise _refusal(invalid) from None
    if ask.model != model:
        raise ApiError(404, f"the model {ask.model!r} is not served here", param="model", code="model_not_found")
    return ask


def _refusal(invalid: ValidationError) -> ApiError:
    problem = invalid.errors(include_url=False)[0]
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return ApiError(400, f"{name} is missing", param=name, code="missing_required_parameter")
    if name == "input":
        expected = f"text, 1 to {MAX_TEXTS} texts, token ids, or 1 to {MAX_TEXTS} lists of token ids"
        return ApiError(400, f"input is none of: {expected}", param=name, code="invalid_value")
    return ApiError(400, f"{name} is {problem['input']!r:.80}: {problem['msg']}", param=name, code="invalid_value")
