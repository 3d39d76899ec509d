"""Settings: a file, the environment over it, flags over both, and errors that say where the wrong value stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reference.gateway.settings import GatewaySettings
from reference.router.settings import RouterSettings
from reference.wire.settings import SettingsError, read_settings, settings_from

PREFIX = "WINDTUNNEL_GATEWAY_"


def read(path: Path | None, environment: dict[str, str] | None = None, flags: dict[str, object] | None = None):
    return settings_from(GatewaySettings, path, environment or {}, PREFIX, flags or {})


@pytest.fixture
def file(tmp_path: Path):
    def write(content: object) -> Path:
        path = tmp_path / "gateway.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_flags_go_over_the_environment_and_the_environment_over_the_file(file) -> None:
    path = file({"router_url": "http://file", "port": 1, "host": "file", "max_body_bytes": 5})

    settings = read(path, {f"{PREFIX}PORT": "2", f"{PREFIX}HOST": "environment"}, {"port": 3})

    assert (settings.port, settings.host, settings.max_body_bytes) == (3, "environment", 5)


def test_blocks_are_json_in_the_environment() -> None:
    limits = '{"red": {"requests_per_second": 2}}'

    settings = read(None, {f"{PREFIX}ROUTER_URL": "http://r", f"{PREFIX}LIMITS": limits})

    assert settings.limits["red"].requests_per_second == 2
    assert settings.router_url == "http://r"


@pytest.mark.parametrize(
    ("content", "environment", "message"),
    [
        ({}, {}, r"gateway.json: router_url: Field required$"),
        ({"router_url": "x", "prot": 1}, {}, r"gateway.json: prot: Extra inputs .* \(got 1\)"),
        ({"router_url": "x"}, {f"{PREFIX}PORT": "many"}, r"^WINDTUNNEL_GATEWAY_PORT: port: .*integer.*\(got 'many'\)"),
        ({"router_url": "x", "keys": [{"sha256": "zz", "tenant": "t"}]}, {}, r"keys.0.sha256: .*pattern"),
        ("{", {}, r"gateway.json: is not JSON"),
        ("[]", {}, r"holds a JSON list; expected an object"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(file, content, environment, message) -> None:
    with pytest.raises(SettingsError, match=message):
        read(file(content), environment)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read(tmp_path / "none.json")


@pytest.mark.parametrize("kind", [GatewaySettings, RouterSettings])
def test_every_setting_is_documented(kind) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_the_table_names_the_settings_inside_of_blocks(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["router", "--help"])
    with pytest.raises(SystemExit) as ended:
        read_settings(RouterSettings, "router")
    told = capsys.readouterr().out

    assert ended.value.code == 0
    values = [line.strip() for line in told.splitlines() if line.startswith(" " * 31)]
    assert [value for value in values if ".  " not in value] == [], "settings without a word about them"
    for place in ("WINDTUNNEL_ROUTER_POOLS", "pools[].dns[].interval_seconds", "pools[].endpoint_slices[].service"):
        assert place in told
    assert "kubernetes.token_file" in told
