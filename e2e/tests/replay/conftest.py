import subprocess
import sys
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("sse_server.py")


@pytest.fixture(scope="session")
def sse_server():
    """The URL of a server whose models each misbehave in their own way."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    assert port.isdecimal(), "the server of the tests did not start"
    yield f"http://127.0.0.1:{port}"
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=10)
    process.stdout.close()
