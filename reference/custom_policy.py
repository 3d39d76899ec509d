"""A user's own routing policy: `my_policies.py:StickyByTenant` in a scenario names a class in a file of the user's.

The simulator and the router load it through `routing_for`, and both check its contract first: the right methods, no
clock, chance or I/O imported, the same decision for the same arguments, endpoints left alone. Stands outside the pure
core because it reads files.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import inspect
import random
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from reference.policy.routing.protocol import RoutingPolicy
from reference.policy.routing.registry import build_routing
from reference.policy.view import Decision, Endpoint, Observation, RequestView

FORBIDDEN_MODULES = frozenset(
    [
        "asyncio",
        "time",
        "datetime",
        "random",
        "os",
        "socket",
        "threading",
        "logging",
        "subprocess",
        "pathlib",
        "io",
        "secrets",
        "select",
        "selectors",
        "multiprocessing",
        "concurrent",
        "http",
        "urllib",
        "uuid",
        "tempfile",
        "importlib",
        "ctypes",
        "shutil",
        "numpy",
        "pydantic",
        "fastapi",
        "aiohttp",
        "simpy",
        "requests",
    ]
)
"""What a policy may not import: it would decide differently in simulated time than in a router."""

FORBIDDEN_CALLS = {
    "open": "a policy does no I/O",
    "input": "a policy does no I/O",
    "__import__": "a policy says at its top what it imports",
    "exec": "a policy says plainly what it does",
    "eval": "a policy says plainly what it does",
    "hash": "of a text it differs from process to process; "
    "use `fingerprint` of reference.policy.routing.affinity, which does not",
    "id": "it differs from process to process; use the endpoint's name",
}
"""Built-in functions that a policy may not call, and why."""

EXAMPLE = """
    from reference.policy.view import Decision

    class FewestInFlight:
        def route(self, request, endpoints, now, chance):
            best = min(endpoints, key=lambda endpoint: (endpoint.in_flight, endpoint.name))
            return Decision(best.name, "fewest in flight")
"""


class PolicyError(ValueError):
    """A policy file that cannot be used; the message names file and line, what is wrong, and what was expected."""


def routing_for(
    spec: str, options: Mapping[str, Any] | None = None, base_dir: Path | None = None, *, explain: bool = False
) -> RoutingPolicy:
    """Make the policy that a scenario names: a built-in one, or `file.py:Class` relative to `base_dir`.

    Raises:
        PolicyError: the file or class breaks the contract. UnknownPolicy: no such built-in policy or option.
    """
    if ".py:" not in spec and not spec.endswith(".py"):
        return build_routing(spec, options, explain=explain)
    policy_class = load_policy_class(spec, base_dir or Path(), options or {})
    return _make(policy_class, options or {}, spec)


def load_policy_class(spec: str, base_dir: Path, options: Mapping[str, Any] | None = None) -> type[Any]:
    """Load the class that `file.py:Class` names, and check its contract, made with `options`.

    Without `options`, a class that cannot do without any is not asked for decisions.

    Raises:
        PolicyError: anything about it that would not work in a flight.
    """
    file_name, _, class_name = spec.partition(":")
    path = base_dir / file_name
    if not class_name:
        raise PolicyError(f"{spec!r} names no class; write {file_name}:YourPolicy")
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{path}: the policy file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: this is not Python: byte {error.start} is not UTF-8") from error
    _check_imports(path, source)
    policy_class = _class_of(path, class_name)
    _check_route(path, policy_class)
    if options is not None or not _needs_options(policy_class):
        _check_behaviour(path, policy_class, options or {}, spec)
    return policy_class


def _check_imports(path: Path, source: str) -> None:
    try:
        tree = ast.parse(source, str(path))
    except SyntaxError as error:
        raise PolicyError(f"{path}:{error.lineno}: this is not Python: {error.msg}") from error
    except ValueError as error:
        raise PolicyError(f"{path}: this is not Python: {error}") from error
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                _refuse_imports(path, node.lineno, [alias.name for alias in names])
            case ast.ImportFrom(module=module):
                _refuse_imports(path, node.lineno, [module or ""])
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                raise PolicyError(f"{path}:{node.lineno}: calls {name}(); {FORBIDDEN_CALLS[name]}")


def _refuse_imports(path: Path, line: int, names: list[str]) -> None:
    for name in names:
        if name.partition(".")[0] in FORBIDDEN_MODULES:
            raise PolicyError(
                f"{path}:{line}: imports {name}; a policy knows no clock, chance or I/O: "
                "take the time from `now` and random numbers from `chance()`"
            )


def _class_of(path: Path, class_name: str) -> type[Any]:
    module_name = f"windtunnel_policy_{abs(hash(str(path.resolve()))):x}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise PolicyError(f"{path}: expected a file that ends in .py")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise PolicyError(f"{path}: importing it raised {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = [
            name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module_name
        ]
        close = get_close_matches(class_name, classes, 1, 0.3)
        hint = f" (did you mean {close[0]!r}?)" if close else f"; it defines {', '.join(classes) or 'no class'}"
        raise PolicyError(f"{path}: defines no class {class_name!r}{hint}")
    return found


def _check_route(path: Path, policy_class: type[Any]) -> None:
    route = getattr(policy_class, "route", None)
    expected = "route(self, request, endpoints, now, chance) -> Decision"
    if not callable(route):
        raise PolicyError(
            f"{path}: {policy_class.__name__} has no method `route`; expected {expected}, such as{EXAMPLE}"
        )
    parameters = list(inspect.signature(route).parameters)
    if parameters != ["self", "request", "endpoints", "now", "chance"]:
        line = inspect.getsourcelines(route)[1]
        raise PolicyError(
            f"{path}:{line}: {policy_class.__name__}.route takes ({', '.join(parameters)}); expected {expected}"
        )
    if inspect.iscoroutinefunction(route):
        raise PolicyError(f"{path}: {policy_class.__name__}.route is async; a policy decides at once")


def _make(policy_class: type[Any], options: Mapping[str, Any], spec: str) -> RoutingPolicy:
    try:
        policy: RoutingPolicy = policy_class(**options)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{spec} cannot be made with options {dict(options)}: {error}") from error
    except Exception as error:
        raise PolicyError(
            f"{spec} cannot be made with options {dict(options)}: {type(error).__name__}: {error}"
        ) from error
    return policy


def _needs_options(policy_class: type[Any]) -> bool:
    parameters = inspect.signature(policy_class).parameters.values()
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _check_behaviour(path: Path, policy_class: type[Any], options: Mapping[str, Any], spec: str) -> None:
    """Ask two fresh policies the same questions."""
    first, second = _make(policy_class, options, spec), _make(policy_class, options, spec)
    for draw in range(20):
        request, endpoints = _question(draw)
        before = copy.deepcopy(endpoints)
        decisions = []
        for policy in (first, second):
            stream = random.Random(draw)
            try:
                decisions.append(policy.route(request, endpoints, float(draw), stream.random))
            except Exception as error:
                raise PolicyError(
                    f"{path}: {policy_class.__name__}.route raised {type(error).__name__}: {error} "
                    f"when asked about {request} and {len(endpoints)} endpoints"
                ) from error
            if endpoints != before:
                raise PolicyError(
                    f"{path}: {policy_class.__name__}.route changes the endpoints; a policy only reads them"
                )
            if hook := getattr(policy, "dispatched", None):
                hook(request, endpoints[0].name, float(draw))
        _check_decision(path, policy_class, decisions, endpoints)


def _check_decision(path: Path, policy_class: type[Any], decisions: list[Any], endpoints: list[Endpoint]) -> None:
    decision, again = decisions
    name = policy_class.__name__
    if not isinstance(decision, Decision):
        raise PolicyError(f"{path}: {name}.route returned {decision!r}; expected a Decision, such as{EXAMPLE}")
    names = [endpoint.name for endpoint in endpoints]
    if decision.endpoint not in names:
        raise PolicyError(
            f"{path}: {name}.route chose {decision.endpoint!r}; expected one of those it was given, {names}"
        )
    if decision != again:
        raise PolicyError(
            f"{path}: {name}.route gave {decision.endpoint!r} and then {again.endpoint!r} for the same question; "
            "expected the same decision (does it keep something outside of the policy object?)"
        )


def _question(draw: int) -> tuple[RequestView, list[Endpoint]]:
    stream = random.Random(f"question {draw}")
    endpoints = [
        Endpoint(
            f"replica-{number}",
            in_flight=stream.randrange(9),
            in_flight_tokens=stream.randrange(9000),
            observed=Observation(draw - stream.random(), stream.randrange(9), stream.randrange(9), stream.random()),
        )
        for number in range(1 + draw % 5)
    ]
    request = RequestView(
        f"request-{draw}",
        "a-model",
        float(draw),
        stream.randrange(1, 4000),
        stream.choice([None, 256]),
        tuple(range(draw)),
        tenant=stream.choice(["red", "blue"]),
        priority=stream.randrange(3),
        session=stream.choice([None, "session-1"]),
    )
    return request, endpoints
