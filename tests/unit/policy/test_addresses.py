"""The address guard: what a name may lead to. The same answer for every spelling of an address."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.policy.addresses import decide, parse_networks

V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address)
# Addresses at the edges of special networks say more than random ones.
EDGES = [
    address
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *(
            "192.168.0.0/16",
            "198.18.0.0/15",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/96",
            "fc00::/7",
            "fe80::/10",
            "fec0::/10",
        ),
        *("ff00::/8", "100::/64", "64:ff9b:1::/48"),
    )
    for network in (ip_network(text),)
    for number in (int(network[0]) - 1, int(network[0]), int(network[-1]), int(network[-1]) + 1)
    if 0 <= number < 2**network.max_prefixlen
    for address in ((IPv4Address if network.version == 4 else IPv6Address)(number),)
]
ADDRESSES = st.sampled_from(EDGES) | V4 | V6

REFUSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.0.1": "link-local",
    "169.254.169.254": "cloud metadata",
    "169.254.170.2": "cloud metadata",
    "100.100.100.200": "cloud metadata",
    "168.63.129.16": "cloud metadata",
    "192.0.0.192": "cloud metadata",
    "192.0.0.1": "reserved",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "::0.0.0.2": "reserved",
    "::7f00:1": "reserved",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "febf::1": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "100::1": "reserved",
    "fd00:ec2::254": "cloud metadata",
    "fd20:ce::254": "cloud metadata",
    "64:ff9b:1::1": "reserved",
}
ALLOWED = ["93.184.216.34", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "2606:2800:220:1::1", "fd12:3456::1"]
PRIVATE = ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fd12:3456::1", "fc00::1"]


def carriers(inner: IPv4Address) -> dict[str, IPv6Address]:
    """IPv6 addresses that carry an IPv4 address."""
    number = int(inner)
    return {
        "mapped": IPv6Address(int(IPv6Address("::ffff:0:0")) | number),
        "nat64": IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        "6to4": IPv6Address(0x2002 << 112 | number << 80 | 1),
        "teredo client": IPv6Address(0x20010000 << 96 | int(IPv4Address("93.184.216.34")) << 64 | number ^ 0xFFFFFFFF),
        "teredo server": IPv6Address(0x20010000 << 96 | number << 64 | int(IPv4Address("93.184.216.34")) ^ 0xFFFFFFFF),
    }


@pytest.mark.parametrize(("address", "kind"), REFUSED.items())
def test_refused(address: str, kind: str) -> None:
    decision = decide(address, False)
    assert not decision.allow
    assert decision.rule == f"address guard: {kind}"
    assert address in decision.reason
    assert kind in decision.reason


@pytest.mark.parametrize("address", ALLOWED)
def test_allowed(address: str) -> None:
    assert decide(address, False).allow


@pytest.mark.parametrize("address", PRIVATE)
def test_private_is_refused_to_wildcards(address: str) -> None:
    decision = decide(address, False, wildcard=True)
    assert (decision.allow, decision.rule) == (False, "address guard: private")


@pytest.mark.parametrize("address", REFUSED)
def test_literal_is_its_own_permission(address: str) -> None:
    decision = decide(address, True)
    assert (decision.allow, decision.rule) == (True, "address in the manifest")


@settings(deadline=None)
@given(ADDRESSES)
def test_what_the_standard_library_calls_special_is_refused(address: IPv4Address | IPv6Address) -> None:
    decision = decide(str(address), False)
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if special or (address.version == 4 and address.is_reserved):
        assert not decision.allow
    if isinstance(address, IPv4Address) and address.is_global and not address.is_multicast:
        assert decision.allow == (str(address) not in REFUSED)


@settings(deadline=None)
@given(ADDRESSES)
def test_private_ones_differ_only_for_wildcards(address: IPv4Address | IPv6Address) -> None:
    if decide(str(address), False, wildcard=True).allow:
        assert decide(str(address), False).allow
    elif decide(str(address), False).allow and address.version == 4:
        assert not address.is_global


@settings(deadline=None)
@given(st.sampled_from([a for a in EDGES if a.version == 4]) | V4, st.booleans())
def test_what_carries_a_refused_address_is_refused(inner: IPv4Address | IPv6Address, wildcard: bool) -> None:
    assert isinstance(inner, IPv4Address)
    decision = decide(str(inner), False, wildcard=wildcard)
    for kind, outer in carriers(inner).items():
        assert decide(str(outer), False, wildcard=wildcard).allow == decision.allow, kind


@settings(deadline=None)
@given(V6, st.booleans())
def test_every_spelling_gets_the_same_answer(address: IPv6Address, wildcard: bool) -> None:
    answers = {
        decide(text, False, wildcard=wildcard).rule for text in (str(address), address.exploded, str(address).upper())
    }
    assert len(answers) == 1


@settings(deadline=None)
@given(ADDRESSES, ADDRESSES, st.data())
def test_allowed_networks_admit_exactly_their_members(
    address: IPv4Address | IPv6Address, base: IPv4Address | IPv6Address, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, base.max_prefixlen))
    network = ip_network((base, length), strict=False)
    decision = decide(str(address), False, parse_networks([str(network)]))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if (mapped or address) in network:
        assert (decision.allow, decision.rule) == (True, f"allow_addresses {network}")
    else:
        assert decision.rule == decide(str(address), False).rule


def test_allowed_network_admits_the_mapped_spelling_too() -> None:
    allowed = parse_networks(["127.0.0.0/8"])
    assert decide("::ffff:127.0.0.1", False, allowed).allow
    assert not decide("64:ff9b::127.0.0.1", False, allowed).allow
    assert decide("64:ff9b::127.0.0.1", False, parse_networks(["64:ff9b::/96"])).allow


@settings(deadline=None)
@given(
    st.text(max_size=20)
    | st.sampled_from(["127.1", "0x7f000001", "2130706433", "010.0.0.1", "1.2.3.4\0", "", "%", "::%"])
)
def test_what_is_no_address_is_refused(text: str) -> None:
    try:
        ipaddress.ip_address(text.partition("%")[0] if ":" in text else text)
    except ValueError:
        assert not decide(text, False).allow


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/",
        "10.0.0.0/a",
        "10/8",
        "::/129",
        "",
        "/8",
        "x",
        "1.2.3.4/ 8",
        "1.2.3.4/²",
    ],
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_networks([text])


@settings(deadline=None)
@given(ADDRESSES, st.data())
def test_networks_are_read_as_the_standard_library_reads_them(
    base: IPv4Address | IPv6Address, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, base.max_prefixlen))
    address = data.draw(ADDRESSES)
    (network,) = parse_networks([f"{base}/{length}"])
    member = (32 if address.version == 4 else 128, int(address)) in network
    assert member == (address in ip_network((base, length), strict=False))
