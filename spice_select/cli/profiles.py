"""Which service the commands talk to: options before environment before the file of profiles.

``~/.config/spice-select/config.toml`` (``XDG_CONFIG_HOME``) has a table for each profile; ``default`` is taken
when none is named::

    [default]
    url = "http://127.0.0.1:8000"

    [production]
    url = "https://select.example.org"
    api_key = spk_... (in quotation marks)
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

from spice_select.errors import ConfigError

OPTIONS = ("--url", "--api-key", "--profile")
"""Options of the command as a whole that are taken wherever they stand."""
ENVIRONMENT = {"url": "SPICE_API_URL", "api_key": "SPICE_API_KEY"}  # pragma: allowlist secret
DEFAULT = "default"


def profiles_file() -> Path:
    """Where the profiles are."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "spice-select" / "config.toml"


def in_front(arguments: Sequence[str]) -> list[str]:
    """The arguments with the options of the command as a whole before everything else.

    Args:
        arguments: As they were typed, such as ``["jobs", "list", "--url", "http://..."]``.
    """
    front: list[str] = []
    rest: list[str] = []
    given = iter(arguments)
    for word in given:
        if word == "--":
            rest += [word, *given]
        elif word in OPTIONS:
            front += [word, *([value] if (value := next(given, None)) is not None else [])]
        elif word.startswith(tuple(f"{option}=" for option in OPTIONS)):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]


def choose_service(url: str | None, api_key: str | None, profile: str | None) -> None:
    """Say to everything that runs in this process which service it talks to, by its environment.

    A profile that is named goes before the environment. Its key belongs to its address, and is not sent to an address
    that was given as an option.

    Args:
        url: Address, as given.
        api_key: Key, as given.
        profile: Name of a profile, as given; ``SPICE_PROFILE`` when None.

    Raises:
        ConfigError: There is no such profile, or the file cannot be read.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _profile()
    name = profile or os.environ.get("SPICE_PROFILE")
    known = _profile(name)
    for field, variable in ENVIRONMENT.items() if url is None else ():
        if field in known and (name is not None or not any(os.environ.get(other) for other in ENVIRONMENT.values())):
            os.environ[variable] = known[field]
        elif name is not None:
            os.environ.pop(variable, None)
    if url is not None:
        os.environ["SPICE_API_URL"] = url
    if api_key is not None:
        os.environ["SPICE_API_KEY"] = api_key


def _profile(name: str | None) -> dict[str, str]:
    path = profiles_file()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", pointer="#/profile") from error
    if name is not None and name not in found:
        offered = ", ".join(sorted(found)) or "none"
        raise ConfigError(f"there is no profile {name!r} in {path} ({offered})", pointer="#/profile")
    values = found.get(name or DEFAULT, {})
    if not isinstance(values, dict) or not values.keys() <= ENVIRONMENT.keys():
        raise ConfigError(f"a profile in {path} has the fields url and api_key", pointer="#/profile")
    return {field: str(value) for field, value in values.items()}
