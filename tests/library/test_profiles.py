"""Which service a command talks to: options, then a named profile, the environment, the default profile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spice_select.cli.profiles import choose_service, in_front
from spice_select.errors import ConfigError

FILE = """
[default]
url = "http://one.example.org"

[production]
url = "https://two.example.org"
api_key = "spk_two"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("SPICE_API_URL", "SPICE_API_KEY", "SPICE_PROFILE"):
        monkeypatch.setenv(name, "")  # so that what a test leaves behind is undone
        monkeypatch.delenv(name)
    (tmp_path / "spice-select").mkdir()
    (tmp_path / "spice-select" / "config.toml").write_text(FILE)
    return tmp_path / "spice-select" / "config.toml"


@pytest.mark.parametrize(
    ("options", "environment", "service"),
    [
        ((None, None, None), {}, ("http://one.example.org", None)),
        ((None, None, "production"), {}, ("https://two.example.org", "spk_two")),
        ((None, None, None), {"SPICE_PROFILE": "production"}, ("https://two.example.org", "spk_two")),
        ((None, None, None), {"SPICE_API_URL": "http://env"}, ("http://env", None)),
        ((None, None, "production"), {"SPICE_API_URL": "http://env"}, ("https://two.example.org", "spk_two")),
        (("http://given", None, None), {"SPICE_API_KEY": "spk_env"}, ("http://given", "spk_env")),
        (("http://given", None, "production"), {}, ("http://given", None)),
        (("http://given", "spk_given", "production"), {}, ("http://given", "spk_given")),
        ((None, "spk_given", None), {"SPICE_API_KEY": "spk_env"}, (None, "spk_given")),
        ((None, None, "default"), {"SPICE_API_KEY": "spk_env"}, ("http://one.example.org", None)),
    ],
)
def test_a_key_goes_to_its_own_service(
    options: tuple[str | None, str | None, str | None],
    environment: dict[str, str],
    service: tuple[str | None, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    choose_service(*options)
    assert (os.environ.get("SPICE_API_URL"), os.environ.get("SPICE_API_KEY")) == service


@pytest.mark.parametrize("text", ["[default", "default = 3", '[default]\nhost = "x"'])
def test_a_file_that_is_no_good_is_named(home: Path, text: str) -> None:
    home.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        choose_service(None, None, None)


def test_a_missing_profile_lists_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match="default, production"):
        choose_service(None, None, "staging")


def test_the_options_may_stand_anywhere_but_behind_two_dashes() -> None:
    typed = ["jobs", "list", "--url", "http://a", "--json", "--api-key=k", "--", "--profile", "x"]
    assert in_front(typed) == ["--url", "http://a", "--api-key=k", "jobs", "list", "--json", "--", "--profile", "x"]
    assert in_front(["jobs", "--url"]) == ["--url", "jobs"]


def test_a_command_says_how_to_start_a_service_where_nothing_listens() -> None:
    command = [sys.executable, "-m", "spice_select", "jobs", "list", "--url", "http://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "http://127.0.0.1:9" in done.stderr
    assert "`spice-select serve` starts one" in done.stderr
