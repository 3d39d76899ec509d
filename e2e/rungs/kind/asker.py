"""Asks servers from inside a pod: `python -c` of this file's text, fed with lines of JSON, answers in lines of JSON.

Network policies let nobody but the router's pods reach workers, so whoever watches a flight asks from there. Only the
standard library: it runs in an image of the stack. In: {"id", "method", "url", "body"?}; out: {"id", "status", "text"},
status 0 with the reason where there was no answer.
"""

import json
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TIMEOUT_SECONDS = 2.0
saying = threading.Lock()


def answer(asked: dict[str, Any]) -> tuple[int, str]:
    """Ask once; return the status and the text."""
    body = asked.get("body")
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    try:
        request = urllib.request.Request(asked["url"], data, headers, method=asked["method"])
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as told:
            return told.status, told.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def one(line: str) -> None:
    """Answer one line."""
    asked = json.loads(line)
    status, text = answer(asked)
    with saying:
        print(json.dumps({"id": asked["id"], "status": status, "text": text}), flush=True)


def main() -> None:
    """Answer until there are no more questions."""
    with ThreadPoolExecutor(8) as crew:
        for line in sys.stdin:
            crew.submit(one, line)


if __name__ == "__main__":
    main()
