"""A program that speaks as vLLM does, for as long and as well as its variables say. Standard library only.

Takes vLLM's arguments. ENGINE_TOKEN_AFTER: seconds until it computes. ENGINE_DIES_AFTER: seconds until it exits with 7.
ENGINE_HANGS_AFTER: seconds until it answers no health check. ENGINE_IGNORES_SIGTERM. ENGINE_HELPER: starts a helper
process that would outlive it, and writes its pid there. On SIGTERM it ends streams as vLLM does: `abort`, [DONE].
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEGAN = time.monotonic()
ENDING = threading.Event()
RUNNING: list[int] = []


def after(name: str) -> bool:
    return name in os.environ and time.monotonic() - BEGAN > float(os.environ[name])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            while after("ENGINE_HANGS_AFTER"):
                time.sleep(0.1)
            self.tell(200, b"")
        elif self.path == "/metrics":
            self.tell(200, b"vllm:num_requests_running %d\n" % len(RUNNING))
        elif self.path == "/v1/models":
            self.tell(200, json.dumps({"object": "list", "data": [{"id": argument("--served-model-name")}]}).encode())
        else:
            self.tell(404, b'{"detail":"Not Found"}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not after("ENGINE_TOKEN_AFTER") and "ENGINE_TOKEN_AFTER" in os.environ:
            self.tell(503, b'{"error":{"message":"loading","type":"Service Unavailable","param":null,"code":503}}')
        elif body.get("user") == "stranger":
            self.tell(401, b'{"error":"Unauthorized"}')
        elif body["model"] != argument("--served-model-name"):
            self.tell(404, b'{"error":{"message":"no such model","type":"NotFoundError","param":"model","code":404}}')
        elif body.get("stream"):
            self.stream(body)
        else:
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self.tell(200, json.dumps({"choices": [{"text": "x"}], "usage": usage}).encode())

    def stream(self, body: dict) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        RUNNING.append(1)
        try:
            for _ in range(body["max_tokens"]):
                self.chunk({"choices": [{"text": "x", "finish_reason": None}]})
                if ENDING.wait(0.02):
                    self.chunk({"choices": [{"text": "", "finish_reason": "abort"}]})
                    break
            else:
                self.chunk({"choices": [{"text": "", "finish_reason": "length"}]})
            self.send(b"data: [DONE]\n\n")
            self.send(b"")
        except OSError:
            self.close_connection = True
        finally:
            RUNNING.pop()

    def chunk(self, payload: dict) -> None:
        self.send(b"data: " + json.dumps(payload).encode() + b"\n\n")

    def send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def tell(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def argument(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def end(*_: object) -> None:
    if "ENGINE_IGNORES_SIGTERM" not in os.environ:
        ENDING.set()
        threading.Timer(0.2, os._exit, (0,)).start()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    if "ENGINE_HELPER" in os.environ:
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(os.environ["ENGINE_HELPER"], "w") as file:
            file.write(str(helper.pid))
    if "ENGINE_DIES_AFTER" in os.environ:
        threading.Timer(float(os.environ["ENGINE_DIES_AFTER"]), os._exit, (7,)).start()
    ThreadingHTTPServer(("127.0.0.1", int(argument("--port"))), Handler).serve_forever()
