"""A manifest's fields, read with their path, so that a complaint names file, object, field and what was expected.

Raises `InputError` throughout. Knows nothing of Kubernetes' kinds; `e2e.reach.parsing` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from sim.experiment.errors import InputError


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a manifest (None: absent or null) and where it stands."""

    value: Any
    path: str

    def __getitem__(self, key: str) -> Field:
        return Field(self.mapping().get(key), f"{self.path}.{key}")

    @property
    def is_absent(self) -> bool:
        """Say whether it was left out, or is null."""
        return self.value is None

    def mapping(self) -> Mapping[str, Any]:
        """Return it as a mapping; absent is empty."""
        if self.value is not None and not isinstance(self.value, Mapping):
            self.refuse("a mapping")
        return self.value or {}

    def items(self) -> Iterator[Field]:
        """Yield the entries of a list; absent is empty, and so is `{}`, which some exporters write for it."""
        if self.value not in (None, {}) and not isinstance(self.value, list):
            self.refuse("a list")
        for index, value in enumerate(self.value or []):
            yield Field(value, f"{self.path}[{index}]")

    def text(self, default: str | None = None) -> str:
        """Return it as text."""
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str):
            self.refuse("text")
        return str(self.value)

    def labels(self) -> dict[str, str]:
        """Return it as labels: text by text."""
        for key, value in self.mapping().items():
            if not isinstance(value, str):
                Field(value, f"{self.path}.{key}").refuse(f"text (in quotes: {str(value).lower()!r})")
        return dict(self.mapping())

    def port(self) -> int:
        """Return it as a port's number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not 1 <= self.value <= 65535:
            self.refuse("a number from 1 to 65535")
        return int(self.value)

    def port_or_name(self) -> int | str:
        """Return it as a port's number or name."""
        return self.value if isinstance(self.value, str) and self.value else self.port()

    def one_of(self, allowed: tuple[str, ...], default: str | None = None) -> str:
        """Return it as one of a few words."""
        said = self.text(default)
        if said not in allowed:
            close = get_close_matches(said, allowed, 1, 0.4)
            self.refuse("one of " + ", ".join(allowed) + (f" (did you mean {close[0]}?)" if close else ""))
        return said

    def refuse(self, expected: str) -> NoReturn:
        """Say what was expected instead.

        Raises:
            InputError: always.
        """
        said = "nothing" if self.value is None else repr(self.value)
        raise InputError(f"{self.path}: expected {expected}, found {said[:200]}")
