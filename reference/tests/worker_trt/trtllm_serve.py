"""A program that answers on `trtllm-serve`'s wire as it is documented and as its source says. Standard library only.

`GET /metrics` hands over the iterations since the last reader and forgets them. `GET /prometheus/metrics` is there only
when the options ask for it, and knows less than the iterations do. Refusals are the error object on top level, or
`{"error": "text"}` where the body is not of the schema. A request takes one iteration a token.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK = threading.Lock()
ITERATIONS: list[dict] = []
ACTIVE: set[int] = set()
READS: list[int] = []
TOTALS = {"iterations": 0, "tokens": 0}


def argument(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


with open(argument("--extra_llm_api_options")) as file:
    OPTIONS = json.load(file)


def iterate() -> None:
    """Take a step for all that is active; note it where iterations are asked for."""
    while True:
        time.sleep(0.02)
        with LOCK:
            if not ACTIVE:
                continue
            TOTALS["iterations"] += 1
            TOTALS["tokens"] += len(ACTIVE)
            if OPTIONS.get("enable_iter_perf_stats"):
                blocks = {"maxNumBlocks": 100, "freeNumBlocks": 75, "usedNumBlocks": 25, "tokensPerBlock": 32}
                batch = {
                    "numContextRequests": 0,
                    "numGenRequests": len(ACTIVE),
                    "numCtxTokens": 4,
                    "numPausedRequests": 1,
                }
                ITERATIONS.append(
                    {
                        "iter": TOTALS["iterations"],
                        "iterLatencyMS": 20.0,
                        "numActiveRequests": len(ACTIVE),
                        "numQueuedRequests": 2,
                        "numCompletedRequests": 0,
                        "gpuMemUsage": 1000,
                        "kvCacheStats": blocks,
                        "inflightBatchingStats": batch,
                    }
                )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self.tell(200, b"")
        elif self.path == "/metrics":
            with LOCK:
                given, ITERATIONS[:] = [*ITERATIONS], []
                READS.append(len(given))
            self.tell(200, json.dumps(given).encode())
        elif self.path.startswith("/prometheus/metrics") and OPTIONS.get("return_perf_metrics"):
            self.tell(200, b'trtllm_kv_cache_utilization{model_name="undefined"} 0.5\n')
        elif self.path == "/v1/models":
            self.tell(200, json.dumps({"object": "list", "data": [{"id": argument("--served_model_name")}]}).encode())
        elif self.path == "/truth":
            self.tell(200, json.dumps({**TOTALS, "reads": READS, "argv": sys.argv, "options": OPTIONS}).encode())
        else:
            self.tell(404, b'{"detail":"Not Found"}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not isinstance(body.get("max_tokens"), int):
            self.tell(400, b'{"error":"1 validation error: max_tokens"}')
        elif body["max_tokens"] > 1000:
            told = {"object": "error", "message": "max_tokens is too large", "type": "BadRequestError", "code": 400}
            self.tell(400, json.dumps(told).encode())
        else:
            self.stream(body) if body.get("stream") else self.whole(body)

    def whole(self, body: dict) -> None:
        ACTIVE.add(id(self))
        time.sleep(0.02 * body["max_tokens"])
        ACTIVE.discard(id(self))
        usage = {"prompt_tokens": 1, "completion_tokens": body["max_tokens"], "total_tokens": body["max_tokens"] + 1}
        self.tell(200, json.dumps({"choices": [{"text": "x"}], "usage": usage}).encode())

    def stream(self, body: dict) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        ACTIVE.add(id(self))
        try:
            for _ in range(body["max_tokens"]):
                self.wfile.write(b'data: {"choices":[{"text":"x"}]}\n\n')
                self.wfile.flush()
                time.sleep(0.02)
            self.wfile.write(b"data: [DONE]\n\n")
        finally:
            ACTIVE.discard(id(self))

    def tell(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    threading.Thread(target=iterate, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(argument("--port"))), Handler).serve_forever()
