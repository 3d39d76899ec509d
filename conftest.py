"""Imports the packages before the first test is collected, and has Ctrl-C work as at a terminal.

pytest's importlib mode imports the parents of a test module from the checkout; what tox tests is the installed wheel.
A job that a script put into the background ignores SIGINT, and so would every process that a test interrupts.
"""

import signal

import e2e  # noqa: F401
import reference  # noqa: F401
import sim  # noqa: F401

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
