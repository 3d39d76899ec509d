"""`windtunnel serve`: a scenario's cluster as real processes on loopback, to talk to until Ctrl-C."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2e.shipped import find_scenario
from sim.experiment.errors import InputError

if TYPE_CHECKING:
    from e2e.rungs.processes import Crew, Process
    from e2e.rungs.stack import Stack

LOOK_SECONDS = 0.5


def serve(
    scenario: Annotated[str, typer.Argument(help="a scenario file, or the name of a shipped one")],
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="override a key: cluster.pools.0.replicas=2; repeatable"),
    ] = None,
    port: Annotated[int | None, typer.Option(help="the gateway's port (default: a free one)", min=1, max=65535)] = None,
    logs: Annotated[Path | None, typer.Option(help="where logs are kept (default: nowhere)")] = None,
) -> None:
    """Serve a scenario's cluster on loopback until Ctrl-C: gateway, router, page, and a worker for each replica.

    windtunnel serve first_flight

    windtunnel serve my.yaml --port 8000 --logs /tmp/logs
    """
    from e2e.rungs.processes import Crew, is_free
    from e2e.rungs.stack import add_stack
    from sim.experiment.scenario import load

    loaded = load(find_scenario(scenario), override or ())
    if port is not None and not is_free(port):
        raise InputError(f"--port {port}: somebody listens there; choose another, or none for a free one")
    with tempfile.TemporaryDirectory(prefix="windtunnel-") as scratch, Crew(logs or Path(scratch)) as crew:
        stack = add_stack(crew, loaded, gateway_port=port)
        page = add_page(crew, stack)
        stack.start()
        crew.start(page)
        crew.wait_until_ready([page])
        _stay(stack, page, _welcome(stack, page.url, loaded.scenario.cluster.pools[0].model))


def add_page(crew: Crew, stack: Stack) -> Process:
    """Work out the chat page's server, and let the gateway know whose origin it is."""
    page = crew.add("web", "reference.web", {"api_base": stack.gateway.url}, ready_path="/readyz")
    stack.gateway.config["allowed_origins"] = [page.url]
    return page


def _welcome(stack: Stack, page: str, model: str) -> str:
    tenant, key = next(iter(stack.keys.items()))
    lines = [
        f"chat     {page}/   (its key: {key})",
        f"gateway  {stack.gateway.url}/v1   (tenant {tenant}: key {key})",
        f"router   {stack.router.url}   metrics at /metrics",
        *(f"worker   {worker.url}   {name}" for name, worker in stack.workers.items()),
        "",
        "Try:",
        f"  curl -N {stack.gateway.url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\",
        "    -H 'Content-Type: application/json' \\",
        f'    -d \'{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "hello"}}]}}\'',
        "",
        "Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def _stay(stack: Stack, page: Process, welcome: str) -> None:
    """Say what there is and stay until Ctrl-C; whoever has read the welcome may press it.

    Raises:
        InputError: a process has ended by itself, with the end of its log.
    """
    try:
        print(welcome, flush=True)
        while all(process.is_running for process in (*stack.all, page)):
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        return
    gone = next(process for process in (*stack.all, page) if not process.is_running)
    code = gone.handle.returncode if gone.handle else None
    raise InputError(f"{gone.name} ended with code {code}:{gone.log_tail()}")
