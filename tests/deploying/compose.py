"""Reads Compose files the way Compose does, as far as ours go.

Several files are merged, !reset and !override obeyed, anchors and << resolved, variables filled in.
What is not used in deploy/ is not here: no extends, no include.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parents[2] / "deploy"

SECRETS: Final = {
    "POSTGRES_PASSWORD": "postgres-secret",
    "BROKER_PASSWORD": "broker-secret",
    "S3_ACCESS_KEY": "s3-key",
    "S3_SECRET_KEY": "s3-secret",
}
"""The settings that have no default."""

COMBINATIONS: Final = (
    ("compose.yaml",),
    ("compose.yaml", "compose.redis.yaml"),
    ("compose.yaml", "compose.gpu.yaml"),
    ("compose.yaml", "compose.redis.yaml", "compose.gpu.yaml"),
)

_VARIABLE: Final = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")
_REPLACED: Final = {"command", "entrypoint", "test"}


class UnsetVariable(Exception):
    """A variable without a default has no value; the message is the file's own."""


class _Reset:
    """!reset: as if no file before had said anything here."""


class _Override:
    """!override: this, and nothing of what files before said."""

    def __init__(self, value: object) -> None:
        self.value = value


class _Loader(yaml.SafeLoader):
    """YAML with the two tags of Compose."""


def _construct_override(loader: _Loader, node: yaml.Node) -> _Override:
    if isinstance(node, yaml.MappingNode):
        return _Override(loader.construct_mapping(node, deep=True))
    assert isinstance(node, yaml.SequenceNode)
    return _Override(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("!reset", lambda loader, node: _Reset())
_Loader.add_constructor("!override", _construct_override)


def read_raw(name: str) -> dict[str, Any]:
    """One file as it stands, variables and tags unresolved."""
    raw: dict[str, Any] = yaml.load((DEPLOY / name).read_text(), Loader=_Loader)
    return raw


def read_compose(names: tuple[str, ...], variables: Mapping[str, str] = SECRETS) -> dict[str, Any]:
    """The project that `docker compose -f A -f B config` would show, every profile in it."""
    merged: Any = {}
    for name in names:
        merged = _merge(merged, _fill(read_raw(name), variables))
    project: dict[str, Any] = _settle(merged)
    return project


def started(project: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that `up` starts: those without a profile."""
    services: dict[str, dict[str, Any]] = project["services"]
    return {name: service for name, service in services.items() if not service.get("profiles")}


def variables_of(name: str) -> dict[str, str | None]:
    """Each variable a file names, with its default if it has one."""
    found = _VARIABLE.finditer(re.sub(r"(?m)^\s*#.*$", "", (DEPLOY / name).read_text()))
    return {
        match["name"]: match["text"] if match["kind"] == "-" else None
        for match in found
        if match["name"]
    }


def _fill(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, variables) for inner in value]
    if isinstance(value, _Override):
        return _Override(_fill(value.value, variables))
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _value_of(match, variables), value)
    return value


def _value_of(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["name"] is None:
        return "$"
    value = variables.get(match["name"], "")
    if value or match["kind"] is None:
        return value
    if match["kind"] == "?":
        raise UnsetVariable(f"{match['name']}: {match['text']}")
    return match["text"]


def _merge(before: Any, after: Any, key: str = "") -> Any:
    if isinstance(before, dict) and isinstance(after, dict):
        return before | {
            inner: _merge(before.get(inner), value, inner) for inner, value in after.items()
        }
    if isinstance(before, list) and isinstance(after, list) and key not in _REPLACED:
        return before + after
    return after


def _settle(value: Any) -> Any:
    if isinstance(value, _Override):
        return _settle(value.value)
    if isinstance(value, dict):
        return {
            key: _settle(inner) for key, inner in value.items() if not isinstance(inner, _Reset)
        }
    return value
