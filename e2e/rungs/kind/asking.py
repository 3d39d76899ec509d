"""Questions to servers on a cluster, asked from inside one of its pods over one `kubectl exec` that stays."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path
from typing import Any

from e2e.cluster.place import Place

ANSWER_SECONDS = 5.0


class Asker:
    """Asks from inside a pod. When the pod goes, questions fail, and the next one begins anew."""

    def __init__(self, place: Place, namespace: str, pod: str) -> None:
        self._place, self._namespace, self._pod = place, namespace, pod
        self._process: subprocess.Popen[str] | None = None
        self._open: dict[int, Future[tuple[int, str]]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        """Ask; return status and text. Status 0: there was no answer, and why.

        Raises:
            OSError: the pod could not be asked through.
        """
        number, told = next(self._numbers), Future[tuple[int, str]]()
        line = json.dumps({"id": number, "method": method, "url": url, "body": body})
        with self._lock:
            process = self._running()
            self._open[number] = told
            assert process.stdin is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()
        try:
            return told.result(ANSWER_SECONDS)
        except TooLate as error:
            raise TimeoutError(f"{self._pod}: no answer for {url} in {ANSWER_SECONDS:g} s") from error
        finally:
            with self._lock:
                self._open.pop(number, None)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
            text = Path(__file__).with_name("asker.py").read_text()
            programs = self._place.programs
            self._process = subprocess.Popen(
                ["kubectl", "-n", self._namespace, "exec", "-i", self._pod, "--", "python", "-c", text],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=programs.whole_environment,
                start_new_session=True,
            )
            threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return self._process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                told = json.loads(line)
                if future := self._open.get(told["id"]):
                    future.set_result((told["status"], told["text"]))
        with self._lock:
            lost, self._open = self._open, {}
        for future in lost.values():
            if not future.done():
                future.set_exception(ConnectionError(f"{self._pod} has gone"))
