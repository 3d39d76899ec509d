"""A step cost with its origin: fitted from operator tables, from layer times, or from a live endpoint; kept as YAML.

A profile says what it was fitted from, how far off the fit is, and (where known) how many tokens of KV cache a replica
of it holds. A scenario's pool names a profile's file in `profile`, or `operators` for those that come with the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from reference.engine import EngineError, StepCost
from sim.hardware.catalogue import HardwareError

SHIPPED: Final = "operators"
"""As a pool's `profile`: the one of its GPU, model, engine, parallelism and weights among those of the package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a step costs on one kind of replica. Immutable."""

    name: str
    cost: StepCost
    source: str
    """What it was fitted from."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """gpu, model, engine, weights, tensor_parallel and more, as far as they are known."""
    kv_tokens: int | None = None
    request_seconds: float = 0.0
    """What a request waits besides the engine's steps: parsing, tokenising, the network. Counts towards TTFT."""
    residuals: Mapping[str, float] = field(default_factory=dict)
    """Relative errors of the fit, by what they are of."""
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    """Half of the 95 % interval of a coefficient, in its own unit."""

    def to_dict(self) -> dict[str, Any]:
        """Give the profile as values for YAML; coefficients that are nothing are left out."""
        cost = {name: value for name, value in self.cost.to_dict().items() if value}
        fields: dict[str, Any] = {"name": self.name, **self.keys, "source": self.source}
        if self.kv_tokens is not None:
            fields["kv_tokens"] = self.kv_tokens
        if self.request_seconds:
            fields["request_seconds"] = self.request_seconds
        fields["step_cost"] = cost
        for name, values in (("residuals", self.residuals), ("uncertainty", self.uncertainty)):
            if values:
                fields[name] = dict(values)
        return fields


def profile_from(fields: object, where: str) -> Profile:
    """Read what `Profile.to_dict` gave; `where` is told in errors.

    Raises:
        HardwareError: a field is missing, unknown or of the wrong type.
    """
    if not isinstance(fields, dict):
        raise HardwareError(f"{where}: expected a profile (a mapping with step_cost), found {type(fields).__name__}")
    for name, kind in (("name", str), ("source", str), ("step_cost", dict)):
        if not isinstance(fields.get(name), kind):
            what = "missing" if name not in fields else repr(fields[name])
            raise HardwareError(f"{where}: {name} is {what}; expected {_KINDS[kind]}")
    kv_tokens, request_seconds = fields.get("kv_tokens"), fields.get("request_seconds", 0.0)
    if kv_tokens is not None and (type(kv_tokens) is not int or kv_tokens < 1):
        raise HardwareError(f"{where}: kv_tokens is {kv_tokens!r}; expected a positive whole number")
    if type(request_seconds) not in (int, float) or not request_seconds >= 0:
        raise HardwareError(f"{where}: request_seconds is {request_seconds!r}; expected 0 or more seconds")
    try:
        cost = StepCost.from_dict(fields["step_cost"])
    except EngineError as error:
        raise HardwareError(f"{where}: {error}") from error
    return Profile(
        name=fields["name"],
        cost=cost,
        source=fields["source"],
        keys={name: value for name, value in fields.items() if name not in _OWN},
        kv_tokens=kv_tokens,
        request_seconds=float(request_seconds),
        residuals=fields.get("residuals") or {},
        uncertainty=fields.get("uncertainty") or {},
    )


def read_profile(path: Path) -> Profile:
    """Read a profile's YAML file.

    Raises:
        HardwareError: the file is unreadable, is not YAML, or is not a profile.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        fields = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HardwareError(f"profile {path}: {getattr(error, 'strerror', None) or error}") from error
    except YAMLError as error:
        raise HardwareError(f"profile {path}: not YAML ({' '.join(str(error).split())})") from error
    return profile_from(fields, f"profile {path}")


def write_profile(profile: Profile, path: Path, comment: str = "") -> None:
    """Write a profile as YAML, whole or not at all, under `comment` (lines without `#`)."""
    from ruamel.yaml import YAML

    head = "".join(f"# {line}\n" for line in comment.splitlines())
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(head)
            yaml = YAML()
            yaml.width = 120
            yaml.dump(profile.to_dict(), file)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@cache
def shipped_profiles() -> tuple[Profile, ...]:
    """Give the profiles that come with the package."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = resources.files(__package__).joinpath(f"{SHIPPED}.yaml").read_text(encoding="utf-8")
    entries = yaml.load(text, Loader=loader)["profiles"]
    return tuple(profile_from(entry, f"{SHIPPED}.yaml[{number}]") for number, entry in enumerate(entries))


def find_profile(**keys: Any) -> Profile:
    """Find the shipped profile with these keys (gpu, model, engine, weights, tensor_parallel).

    Raises:
        HardwareError: there is none; the message names what there is for the same model, or the models there are.
    """
    wanted = {**keys, "model": str(keys["model"]).split("/")[-1].lower()} if "model" in keys else keys

    def value(profile: Profile, key: str) -> Any:
        found = profile.keys.get(key)
        return str(found).split("/")[-1].lower() if key == "model" else found

    for profile in shipped_profiles():
        if all(value(profile, key) == given for key, given in wanted.items()):
            return profile
    alike = [profile.name for profile in shipped_profiles() if value(profile, "model") == wanted.get("model")]
    models = sorted({str(profile.keys.get("model")) for profile in shipped_profiles()})
    asked = ", ".join(f"{key} {given}" for key, given in keys.items())
    known = f"for this model: {', '.join(alike)}" if alike else f"there are models {', '.join(models)}"
    raise HardwareError(f"no profile of operator times for {asked}; {known}")


_KINDS: Final = {str: "text", dict: "a mapping"}
_OWN: Final = frozenset({"name", "source", "step_cost", "kv_tokens", "request_seconds", "residuals", "uncertainty"})
