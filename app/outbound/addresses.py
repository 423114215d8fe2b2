"""Which network addresses are public. Stricter than ``ipaddress.is_global``, whose answers differ between Pythons."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Protocol assignments, 6to4 relays, and the address at which a cloud talks to its machines (Azure's WireServer).
_NOT_PUBLIC_4 = [IPv4Network(net) for net in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")]
_UNICAST_6 = IPv6Network("2000::/3")
# Tunnels, documentation, benchmarks: inside the unicast block, and none of them a host of the public network.
_NOT_PUBLIC_6 = [IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = {0x00005EFE, 0x02005EFE}
"""Third quarter of an IPv6 address whose last quarter is the IPv4 address that packets are tunnelled to (RFC 5214)."""


def plain(address: Address) -> Address:
    """The address that packets go to: IPv4 addresses written inside IPv6 ones (mapped, NAT64) come out as IPv4."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether an address belongs to a host of the public network."""
    address = plain(address)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return address in _UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)


def literal(host: str) -> Address | None:
    """The address that a host spells out, or None for a name.

    Raises:
        ValueError: It reads like an address but is not written as one: ``127.1``, ``0x7f000001``, ``2130706433``.
            Resolvers take these for addresses, so a check of the name alone would let them pass.
    """
    try:
        return ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2].lower()
        if last.isdigit() or last.startswith("0x") or ":" in host or "%" in host:
            raise
        return None
