"""Rendered ssh files, judged by the real `ssh -G` and `ssh-keygen -F`."""

import functools
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.errors import PlanError
from claude_bottle.manifest.model import Bottle, SSHEntry
from claude_bottle.ssh_client import (
    AGENT_SOCKET,
    KNOWN_HOSTS_PATH,
    Listener,
    plan_destinations,
    plan_listeners,
    render_hosts,
    render_known_hosts,
    render_ssh_config,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDRUTCMYfVfr4W2jNJHa1WGCchrRHlSk4uNwYNS8lWV7"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILtUTCMYfVfr4W2jNJHa1WGCchrRHlSk4uNwYNS8lWV8"
PRIVATE = Path("/home/me/.ssh/id_ed25519")

FORGE = SSHEntry("forge", "git.example.com", 22, "git", PRIVATE, (KEY,))
ADMIN = SSHEntry("admin", "git.example.com", 2222, "root", None, (OTHER_KEY,))


@functools.cache
def ssh_g(config: str, *arguments: str) -> Mapping[str, list[str]]:
    """What `ssh -G` says with this configuration alone, values by lower-case key."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(config)
        file.flush()
        argv = ["ssh", "-T", "-G", "-F", file.name, *arguments]
        done = subprocess.run(argv, check=True, text=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.stderr == ""
    settings: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, []).append(value)
    return settings


def config_of(*entries: SSHEntry) -> str:
    return render_ssh_config(plan_destinations(Bottle(ssh=entries)))


def keys_found(bottle: Bottle, name: str, folder: Path) -> set[str]:
    """The keys that OpenSSH finds under `name` in the rendered known_hosts."""
    file = folder / "known_hosts"
    file.write_text(render_known_hosts(bottle))
    done = subprocess.run(["ssh-keygen", "-F", name, "-f", file], text=True, capture_output=True, check=False)
    return {line.split(" ", 1)[1] for line in done.stdout.splitlines() if not line.startswith("#")}


class TestAddresses:
    def test_each_entry_has_its_own_address_in_manifest_order(self) -> None:
        bottle = Bottle(ssh=tuple(SSHEntry(f"h{n}", f"h{n}.example.com") for n in range(513)))
        addresses = [destination.address for destination in plan_destinations(bottle)]
        assert addresses[:2] == ["127.1.0.1", "127.1.0.2"]
        assert addresses[254:257] == ["127.1.0.255", "127.1.1.0", "127.1.1.1"]
        assert addresses[512] == "127.1.2.1"

    def test_entries_with_one_hostname_share_the_address_of_the_first(self) -> None:
        other = SSHEntry("x", "x.example.com")
        upper = SSHEntry("up", "GIT.example.com")
        destinations = plan_destinations(Bottle(ssh=(other, FORGE, ADMIN, upper)))
        assert [destination.address for destination in destinations] == ["127.1.0.1", *["127.1.0.2"] * 3]

    @pytest.mark.parametrize(
        ("hostname", "address"),
        [("192.0.2.7", "192.0.2.7"), ("127.0.0.1", "127.0.0.1"), ("2001:DB8:0::1", "2001:db8::1")],
    )
    def test_a_literal_is_its_own_address(self, hostname: str, address: str) -> None:
        (destination,) = plan_destinations(Bottle(ssh=(SSHEntry("a", hostname),)))
        assert destination.address == address

    @pytest.mark.parametrize(
        ("entry", "key"),
        [
            (SSHEntry("a b", "a.example.com"), "Host"),
            (SSHEntry("*", "a.example.com"), "Host"),
            (SSHEntry('a"b', "a.example.com"), "Host"),
            (SSHEntry("a\nProxyCommand id", "a.example.com"), "Host"),
            (SSHEntry("-oProxyCommand=id", "a.example.com"), "Host"),
            (SSHEntry("localhost", "a.example.com"), "Host"),
            (SSHEntry("a", "a.example.com", User="x\nProxyCommand id"), "User"),
            (SSHEntry("a", "a.example.com", User='"x"'), "User"),
            (SSHEntry("a", "a.example.com", User="%h"), "User"),
            (SSHEntry("a", "a.example.com", User=""), "User"),
            (SSHEntry("a", "a.example.com", User="-x"), "User"),
            (SSHEntry("a", "a example.com"), "Hostname"),
            (SSHEntry("a", "127.1.0.9"), "Hostname"),
        ],
    )
    def test_what_a_config_file_would_read_otherwise_is_refused(self, entry: SSHEntry, key: str) -> None:
        with pytest.raises(PlanError) as caught:
            plan_destinations(Bottle(ssh=(FORGE, entry)))
        assert caught.value.where == f"ssh[1].{key}"

    def test_an_alias_twice_is_refused_without_regard_to_case(self) -> None:
        with pytest.raises(PlanError, match=r"ssh\[1\]\.Host: 'Forge' is the alias of ssh\[0\]"):
            plan_destinations(Bottle(ssh=(FORGE, SSHEntry("Forge", "other.example.com"))))


class TestListeners:
    def test_each_entry_has_gate_port_and_real_port(self) -> None:
        listeners = plan_listeners(plan_destinations(Bottle(ssh=(FORGE, ADMIN))))
        assert set(listeners) == {
            Listener(0, "127.0.0.1", 30000),
            Listener(0, "127.1.0.1", 30000),
            Listener(0, "127.1.0.1", 22),
            Listener(1, "127.0.0.1", 30001),
            Listener(1, "127.1.0.1", 30001),
            Listener(1, "127.1.0.1", 2222),
        }

    def test_among_equals_the_first_entry_wins(self) -> None:
        same = SSHEntry("forge-two", "git.example.com", 22)
        chosen = {
            (each.address, each.port): each.entry
            for each in plan_listeners(plan_destinations(Bottle(ssh=(FORGE, same))))
        }
        assert chosen["127.1.0.1", 22] == 0

    @pytest.mark.parametrize("hostname", ["127.0.0.1", "git.example.com"])
    def test_gate_ports_win_over_real_ports(self, hostname: str) -> None:
        """A real port 30001 of the first entry would otherwise take the second entry's gate port."""
        entries = (SSHEntry("a", hostname, 30001), SSHEntry("b", hostname, 22))
        destinations = plan_destinations(Bottle(ssh=entries))
        chosen = {(each.address, each.port): each.entry for each in plan_listeners(destinations)}
        assert chosen["127.0.0.1", 30001] == 1
        assert chosen[destinations[0].address, 30001] == 1

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a.example.com", "b.example.com", "127.0.0.1"]), st.sampled_from([22, 30000, 30001])
            ),
            max_size=6,
        )
    )
    def test_no_socket_twice_and_every_alias_leads_to_its_own_entry(self, hosts: list[tuple[str, int]]) -> None:
        bottle = Bottle(ssh=tuple(SSHEntry(f"e{n}", host, port) for n, (host, port) in enumerate(hosts)))
        destinations = plan_destinations(bottle)
        listeners = plan_listeners(destinations)
        chosen = {(each.address, each.port): each.entry for each in listeners}
        assert len(chosen) == len(listeners)
        for index, destination in enumerate(destinations):
            assert chosen["127.0.0.1", 30000 + index] == index
            assert chosen[destination.address, 30000 + index] == index


class TestConfig:
    def test_an_alias_leads_to_the_gate_port_with_its_user_key_and_host_key(self) -> None:
        settings = ssh_g(config_of(FORGE, ADMIN), "forge")
        assert settings["hostname"] == ["127.1.0.1"]
        assert settings["port"] == ["30000"]
        assert settings["user"] == ["git"]
        assert settings["hostkeyalias"] == ["forge"]
        assert settings["identityfile"] == ["/etc/ssh/claude-bottle/30000.pub"]
        assert settings["identitiesonly"] == ["yes"]
        assert settings["identityagent"] == [AGENT_SOCKET]

    def test_an_alias_with_a_port_keeps_address_and_host_key(self) -> None:
        settings = ssh_g(config_of(FORGE, ADMIN), "-p", "2222", "admin")
        assert (settings["hostname"], settings["port"]) == (["127.1.0.1"], ["2222"])
        assert settings["hostkeyalias"] == ["admin"]
        assert "identityagent" not in settings

    def test_a_real_name_leads_to_its_real_port(self) -> None:
        settings = ssh_g(config_of(FORGE), "git.example.com")
        assert (settings["hostname"], settings["port"], settings["user"]) == (["git.example.com"], ["22"], ["git"])
        assert settings["identityfile"] == ["/etc/ssh/claude-bottle/30000.pub"]

    def test_a_real_name_means_the_entry_on_port_22_else_the_first(self) -> None:
        config = config_of(ADMIN, FORGE)
        assert ssh_g(config, "git.example.com")["port"] == ["22"]
        assert ssh_g(config, "git.example.com")["user"] == ["git"]
        assert ssh_g(config, "-p", "2222", "git.example.com")["port"] == ["2222"]
        high = config_of(ADMIN, SSHEntry("third", "git.example.com", 2200))
        assert ssh_g(high, "git.example.com")["port"] == ["2222"]

    def test_a_real_name_offers_the_first_key_of_each_port(self) -> None:
        """Deploy keys: the alias chooses the key, the name has the first entry's."""
        deploy = SSHEntry("forge-docs", "git.example.com", 22, "git", Path("/k2"), (KEY,))
        keyed = SSHEntry("admin", "git.example.com", 2222, "root", Path("/k3"), (KEY,))
        config = config_of(FORGE, deploy, keyed)
        folder = "/etc/ssh/claude-bottle"
        assert ssh_g(config, "forge-docs")["identityfile"] == [f"{folder}/30001.pub"]
        assert ssh_g(config, "git.example.com")["identityfile"] == [f"{folder}/30000.pub", f"{folder}/30002.pub"]

    def test_an_alias_that_is_its_own_hostname_serves_every_port_of_that_name(self) -> None:
        own = SSHEntry("git.example.com", "git.example.com", 2200, "me", None, (KEY,))
        config = config_of(FORGE, own)
        settings = ssh_g(config, "git.example.com")
        assert (settings["port"], settings["user"]) == (["30001"], ["me"])
        assert "hostkeyalias" not in settings  # with -p 22 the host key is another
        assert ssh_g(config, "-p", "22", "git.example.com")["port"] == ["22"]

    def test_an_alias_wins_over_another_entrys_real_name(self, tmp_path: Path) -> None:
        evil = SSHEntry("git.example.com", "elsewhere.example.com", 22, None, None, (OTHER_KEY,))
        bottle = Bottle(ssh=(FORGE, evil))
        settings = ssh_g(render_ssh_config(plan_destinations(bottle)), "git.example.com")
        assert (settings["hostname"], settings["port"]) == (["127.1.0.2"], ["30001"])
        assert keys_found(bottle, "git.example.com", tmp_path) == {OTHER_KEY}
        assert keys_found(bottle, "forge", tmp_path) == {KEY}

    def test_upper_case_names_are_found_as_written_and_in_lower_case(self) -> None:
        config = config_of(SSHEntry("Forge", "Git.Example.com", 2222))
        assert ssh_g(config, "Forge")["port"] == ssh_g(config, "forge")["port"] == ["30000"]
        assert ssh_g(config, "Git.Example.com")["port"] == ssh_g(config, "git.example.com")["port"] == ["2222"]

    @pytest.mark.parametrize("literal", ["192.0.2.7", "2001:db8::1"])
    def test_a_literal_is_found_by_itself(self, literal: str) -> None:
        config = config_of(SSHEntry("a", literal, 2222, "me"))
        assert ssh_g(config, literal)["port"] == ["2222"]
        assert ssh_g(config, "a")["hostname"] == [literal]

    @pytest.mark.parametrize("name", ["forge", "git.example.com", "undeclared.example.com"])
    def test_every_host_is_checked_strictly_and_nothing_is_forwarded(self, name: str) -> None:
        settings = ssh_g(config_of(FORGE), name)
        assert settings["stricthostkeychecking"] == ["true"]
        assert settings["globalknownhostsfile"] == [KNOWN_HOSTS_PATH]
        assert settings["userknownhostsfile"] == ["/dev/null"]
        assert settings["updatehostkeys"] == ["false"]
        assert settings["checkhostip"] == ["no"]
        assert settings["forwardagent"] == settings["forwardx11"] == ["no"]
        assert settings["addkeystoagent"] == ["false"]

    def test_a_host_certificate_is_checked_against_the_real_name(self) -> None:
        signed = SSHEntry("forge", "git.example.com", 2222, "git", None, (f"@cert-authority {KEY}",))
        assert ssh_g(config_of(signed), "forge")["hostkeyalias"] == ["git.example.com"]

    def test_no_entries_is_a_valid_config(self) -> None:
        assert ssh_g(config_of(), "anything")["stricthostkeychecking"] == ["true"]

    @given(st.text(min_size=1), st.one_of(st.none(), st.text()))
    def test_any_texts_are_refused_or_one_word_each(self, alias: str, user: str | None) -> None:
        try:
            config = config_of(SSHEntry(alias, "git.example.com", 22, user))
        except PlanError:
            return
        lines = [line.split() for line in config.split("\n\n")[0].splitlines()]
        assert [words[0] for words in lines] == ["Host", "HostName", "Port", "HostKeyAlias"] + ["User"] * (
            user is not None
        )
        assert [words[-1] for words in lines[3:]] == [alias] + [user] * (user is not None)
        assert all(len(words) == 2 for words in lines[1:])


class TestKnownHosts:
    @pytest.mark.parametrize("name", ["forge", "git.example.com", "[127.0.0.1]:30000", "[git.example.com]:30000"])
    def test_a_key_is_found_under_every_way_to_the_entry(self, tmp_path: Path, name: str) -> None:
        assert keys_found(Bottle(ssh=(FORGE, ADMIN)), name, tmp_path) == {KEY}

    @pytest.mark.parametrize("name", ["admin", "[git.example.com]:2222", "[127.0.0.1]:30001"])
    def test_a_real_port_other_than_22_is_part_of_the_name(self, tmp_path: Path, name: str) -> None:
        assert keys_found(Bottle(ssh=(FORGE, ADMIN)), name, tmp_path) == {OTHER_KEY}

    def test_one_line_per_key(self) -> None:
        both = SSHEntry("forge", "git.example.com", 22, None, None, (KEY, f"@cert-authority {OTHER_KEY}"))
        names = "git.example.com,[127.0.0.1]:30000,[git.example.com]:30000"
        assert render_known_hosts(Bottle(ssh=(both,))) == f"{names} {KEY}\n@cert-authority {names} {OTHER_KEY}\n"

    @pytest.mark.parametrize("key", [f"{KEY}\n* {OTHER_KEY}", "ssh-ed25519", f"@revoked {KEY}", f"{KEY} comment", ""])
    def test_what_is_no_key_is_refused(self, key: str) -> None:
        with pytest.raises(PlanError) as caught:
            render_known_hosts(Bottle(ssh=(SSHEntry("a", "a.example.com", KnownHostKey=(key,)),)))
        assert caught.value.where == "ssh[0].KnownHostKey"


class TestHosts:
    def parse(self, *entries: SSHEntry, hostname: str = "dev") -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in render_hosts(plan_destinations(Bottle(ssh=entries)), hostname).splitlines():
            assert re.fullmatch(r"[0-9a-f.:]+( [a-z0-9._-]+)+", line), line
            address, *names = line.split()
            for name in names:
                found.setdefault(name, []).append(address)
        return found

    def test_names_aliases_own_name_and_localhost(self) -> None:
        assert self.parse(FORGE, ADMIN) == {
            "localhost": ["127.0.0.1", "::1"],
            "git.example.com": ["127.1.0.1"],
            "forge": ["127.1.0.1"],
            "admin": ["127.1.0.1"],
            "dev": ["127.0.0.1"],
            "ip6-localhost": ["::1"],
            "ip6-loopback": ["::1"],
        }

    def test_a_real_name_wins_over_an_alias_and_both_over_the_bottles_own_name(self) -> None:
        entries = (SSHEntry("b.example.com", "a.example.com"), SSHEntry("dev", "b.example.com"))
        found = self.parse(*entries)
        assert found["b.example.com"] == ["127.1.0.2"]
        assert found["dev"] == ["127.1.0.2"]

    def test_a_literal_has_no_line_but_its_alias_has(self) -> None:
        found = self.parse(SSHEntry("six", "2001:db8::1"), SSHEntry("192.0.2.7", "192.0.2.7"))
        assert found["six"] == ["2001:db8::1"]
        assert "192.0.2.7" not in found

    @pytest.mark.parametrize("hostname", ["a b", "x\n6.6.6.6 git.example.com", "123", "a-"])
    def test_an_own_name_that_is_no_host_name_has_no_line(self, hostname: str) -> None:
        assert self.parse(FORGE, hostname=hostname) == self.parse(FORGE, hostname="localhost")
