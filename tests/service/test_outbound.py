"""The guard of requests to addresses that others named: what it refuses, and that it connects where it checked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import PROBLEMS
from app.outbound import Guard, Policy, UrlNotAllowedError
from app.outbound.addresses import is_public
from app.settings import Settings

PUBLIC = "93.184.215.14"
NAMES = {
    "files.example.org": [PUBLIC, "2606:2800:21f:cb07::1"],
    "xn--fa-hia.de": [PUBLIC],
    "internal.example.org": ["10.0.0.7"],
    "both.example.org": [PUBLIC, "192.168.0.1"],
    "six.example.org": [PUBLIC, "fd00::1"],
    "mapped.example.org": ["::ffff:10.0.0.7"],
    "nat64.example.org": ["64:ff9b::7f00:1"],
    "scoped.example.org": ["fe80::1%eth0"],
    "empty.example.org": [],
    "localhost": ["127.0.0.1", "::1"],
}


def named(host: str) -> Sequence[str]:
    """A resolver with a fixed table, which like the system's takes odd spellings of loopback."""
    if host in {"127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1."}:
        return ["127.0.0.1"]
    if host.rstrip(".") not in NAMES:
        raise OSError("name not known")
    return NAMES[host.rstrip(".")]


GUARD = Guard(Policy(), named)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("https://files.example.org/a.jsonl?x=1#y", (PUBLIC, "2606:2800:21f:cb07::1")),
        ("HTTPS://FILES.Example.ORG:443/", (PUBLIC, "2606:2800:21f:cb07::1")),
        ("https://files.example.org./", (PUBLIC, "2606:2800:21f:cb07::1")),
        ("https://faß.de/", (PUBLIC,)),
        (f"https://{PUBLIC}/", (PUBLIC,)),
        ("https://[2606:4700::1111]/", ("2606:4700::1111",)),
    ],
)
def test_https_to_a_public_address_is_allowed(url: str, addresses: tuple[str, ...]) -> None:
    destination = GUARD.check(url)
    assert (destination.addresses, destination.port) == (addresses, 443)


REFUSED = {
    "plain http": "http://files.example.org/",
    "another scheme": "file:///etc/passwd",
    "gopher": "gopher://files.example.org:70/_x",
    "ftp": "ftp://files.example.org/",
    "no scheme": "//files.example.org/",
    "no host": "https:///etc/passwd",
    "relative": "files.example.org/a",
    "empty": "",
    "short loopback": "https://127.1/",
    "hexadecimal loopback": "https://0x7f000001/",
    "loopback in one number": "https://2130706433/",
    "octal loopback": "https://0177.0.0.1/",
    "loopback with a dot behind": "https://127.0.0.1./",
    "loopback": "https://127.0.0.1/",
    "full-width dots": "https://127。0。0。1/",
    "circled digits": "https://①②⑦.⓪.⓪.①/",
    "IPv6 loopback": "https://[::1]/",
    "unspecified": "https://0.0.0.0/",
    "unspecified IPv6": "https://[::]/",
    "mapped loopback": "https://[::ffff:127.0.0.1]/",
    "mapped in hexadecimal": "https://[::ffff:7f00:1]/",
    "compatible loopback": "https://[::127.0.0.1]/",
    "6to4 of loopback": "https://[2002:7f00:1::]/",
    "NAT64 of loopback": "https://[64:ff9b::7f00:1]/",
    "Teredo": "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "metadata service": "https://169.254.169.254/latest/meta-data/",
    "cloud's own address": "https://168.63.129.16/",
    "cloud's own address mapped": "https://[::ffff:168.63.129.16]/",
    "ISATAP of a private address": "https://[2001:4860::5efe:a00:7]/",
    "ISATAP with the universal bit": "https://[2001:4860::200:5efe:7f00:1]/",
    "metadata service IPv6": "https://[fd00:ec2::254]/",
    "private 10": "https://10.1.2.3/",
    "private 172": "https://172.16.0.1/",
    "private 192": "https://192.168.1.1/",
    "carrier NAT": "https://100.64.0.1/",
    "benchmark network": "https://198.18.0.1/",
    "documentation": "https://192.0.2.1/",
    "multicast": "https://224.0.0.1/",
    "broadcast": "https://255.255.255.255/",
    "reserved": "https://240.0.0.1/",
    "6to4 relay": "https://192.88.99.1/",
    "unique local": "https://[fc00::1]/",
    "link local": "https://[fe80::1]/",
    "link local with a zone": "https://[fe80::1%25eth0]/",
    "site local": "https://[fec0::1]/",
    "multicast IPv6": "https://[ff02::1]/",
    "localhost": "https://localhost/",
    "name of a private address": "https://internal.example.org/",
    "one public and one private address": "https://both.example.org/",
    "one public and one unique local address": "https://six.example.org/",
    "name of a mapped address": "https://mapped.example.org/",
    "name of a NAT64 address": "https://nat64.example.org/",
    "name of a scoped address": "https://scoped.example.org/",
    "name without addresses": "https://empty.example.org/",
    "unknown name": "https://unknown.example.org/",
    "user and password": "https://user:secret@files.example.org/",
    "user": "https://user@files.example.org/",
    "empty user": "https://:@files.example.org/",
    "SSH": "https://files.example.org:22/",
    "Redis": "https://files.example.org:6379/",
    "port 0": "https://files.example.org:0/",
    "port too high": "https://files.example.org:65536/",
    "backslash": "https://files.example.org\\@localhost/",
    "percent in the name": "https://files%2eexample.org/",
    "NUL in the name": "https://files.example.org%00.evil/",
    "space in the name": "https://files example.org/",
    "newline": "https://files.example.org/\r\nHost: evil",
    "a label too long": f"https://{'a' * 64}.example.org/",
}


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowedError) as refused:
        GUARD.check(url, pointer="#/url")
    assert refused.value.code == "url-not-allowed"
    assert PROBLEMS[refused.value.code].status == 422
    assert refused.value.errors == [{"detail": refused.value.detail, "pointer": "#/url"}]
    for address in ("10.0.0.7", "192.168.0.1", "secret"):
        assert address not in refused.value.detail, "a refusal must not be a way to ask internal name servers"


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_no_spelling_of_a_private_address_is_allowed(address: object) -> None:
    """Whatever is private as IPv4 stays so inside IPv6, and what the standard library calls private is never public."""
    text = str(address)
    if ":" not in text:
        assert is_public(type(address)(text)) is _allowed(f"https://[::ffff:{text}]/")  # type: ignore[call-arg, arg-type]
        assert is_public(type(address)(text)) is _allowed(f"https://[64:ff9b::{text}]/")  # type: ignore[call-arg, arg-type]
    elif getattr(address, "is_private", False):
        assert not _allowed(f"https://[{text}]/")


def _allowed(url: str) -> bool:
    try:
        GUARD.check(url)
    except UrlNotAllowedError:
        return False
    return True


@given(st.text(max_size=60))
def test_text_of_any_kind_is_refused_or_allowed_and_raises_nothing_else(text: str) -> None:
    with suppress(UrlNotAllowedError):
        GUARD.check(text)
    with suppress(UrlNotAllowedError):
        GUARD.check(f"https://{text}")


def test_an_allow_list_of_hosts_keeps_all_others_out() -> None:
    guard = Guard(Policy(allowed_hosts=("files.example.org", "*.example.net")), lambda _: [PUBLIC])
    for url in ("https://files.example.org/", "https://FILES.example.org./", "https://a.b.example.net/"):
        guard.check(url)
    for url in (
        "https://example.net/",
        "https://evilexample.net/",
        "https://a.files.example.org/",
        f"https://{PUBLIC}/",
    ):
        with pytest.raises(UrlNotAllowedError, match="allow-list"):
            guard.check(url)


def test_listed_networks_and_names_may_be_private_and_plain_and_nothing_else_may() -> None:
    policy = Policy(allowed_networks=("10.0.0.0/24", "localhost", "fd00::/8"), ports=frozenset({80, 443}))
    guard = Guard(policy, named)
    for url in ("http://internal.example.org/", "https://10.0.0.9/", "http://localhost/", "http://[fd00::1]/"):
        guard.check(url)
    for url in (
        "http://10.0.1.1/",
        "http://127.0.0.1/",
        "http://files.example.org/",
        "http://10.0.0.9:6379/",
        "http://10.9/",
    ):
        with pytest.raises(UrlNotAllowedError):
            guard.check(url)


def test_settings_become_the_policy(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, outbound_allowed_networks=["127.0.0.1/32"], outbound_ports=[8080], outbound_allowed_hosts=[]
    )
    assert Guard(Policy.of(settings)).check("http://127.0.0.1:8080/").addresses == ("127.0.0.1",)
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/33"):
        Settings(data_dir=tmp_path, outbound_allowed_networks=["10.0.0.0/33"])
