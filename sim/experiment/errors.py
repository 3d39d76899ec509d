"""Bad input, told in one message that names the file, line or field, the value, and what was expected.

InputError           the command prints it and exits 2
└── ScenarioError    a scenario file or an override
"""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave cannot be used; the message says what, where, and what was expected."""


class ScenarioError(InputError):
    """A scenario file or an override that cannot be flown."""
