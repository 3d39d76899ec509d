"""Imports the packages before the first test is collected.

pytest's importlib mode imports the parents of a test module from the checkout; what tox tests is the installed wheel.
"""

import e2e  # noqa: F401
import reference  # noqa: F401
import sim  # noqa: F401
