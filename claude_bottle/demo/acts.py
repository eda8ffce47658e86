"""What the agent does in the demo: acts that have to work, and acts that have to be refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.demo.services import GREETING
from claude_bottle.demo.stage import MOTD, REPORTS, SUBJECT, Stage, git

DNS_QUERY = r"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06secret\x07example\x00\x00\x01\x00\x01"
"""a question for `secret.example`, which is how data leaves by DNS"""
HEADER_BYTES = 12

AS_AGENT = "-c user.name=Agent -c user.email=agent@example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing the agent tries."""

    shown: str
    """what a person would type, or what it is"""
    script: str
    """what bash runs"""
    effect: Callable[[str], str] = lambda printed: ""
    """told what the act printed: what has come of it, as seen outside; empty when nothing has"""
    why: str = ""
    """for acts that have to be refused: what stands in the way"""


def allowed_acts(stage: Stage) -> tuple[Act, ...]:
    """Plain tools on the declared host."""
    files, work = stage.forge.files, stage.work
    return (
        Act(
            shown="ssh forge cat motd",
            script="ssh forge cat motd",
            effect=lambda printed: f'it says "{MOTD}"' if printed.strip() == MOTD else "",
        ),
        Act(
            shown="git clone forge:app.git",
            script="git clone --quiet forge:app.git",
            effect=lambda _: "the working tree is there" if _text(work / "app/greeting.txt") == "hello\n" else "",
        ),
        Act(
            shown="git commit && git push",
            script="cd app\necho hello, everyone >greeting.txt\n"
            f"git {AS_AGENT} commit --quiet --all --message '{SUBJECT}'\ngit push --quiet",
            effect=lambda _: _pushed(stage),
        ),
        Act(
            shown="rsync -a forge:reports .",
            script="rsync -a forge:reports .",
            effect=lambda _: _same_files(files / "reports", work / "reports"),
        ),
        Act(
            shown="scp app/greeting.txt forge:inbox/",
            script="scp -q app/greeting.txt forge:inbox/",
            effect=lambda _: "the server has it" if _text(files / "inbox/greeting.txt") == "hello, everyone\n" else "",
        ),
    )


def refused_acts(stage: Stage, ports: dict[str, int]) -> tuple[Act, ...]:
    """What the manifest does not name; `ports` are those of `services`."""
    prod = stage.prod
    return (
        Act(
            shown="ssh prod true",
            script="ssh prod true",
            why="not in the manifest, so no such name",
        ),
        Act(
            shown=f"ssh -p {prod.port} {prod.address} true",
            script=f"ssh -p {prod.port} {prod.address} true",
            why="nothing listens there inside",
        ),
        *(_tcp(address, port) for address, port in ports.items() if address != "dns"),
        Act(
            shown=f"DNS query to {stage.forge.address}:{ports['dns']}",
            script=f"exec 3<>/dev/udp/{stage.forge.address}/{ports['dns']}\nprintf '{DNS_QUERY}' >&3\n"
            f"bytes=$(timeout 2 dd bs=512 count=1 status=none <&3 | wc -c)\n[ $bytes -gt {HEADER_BYTES} ]",
            why="no DNS; the gate looks names up",
        ),
        Act(
            shown="ls ~/.ssh",
            script="ls ~/.ssh",
            why="the home folder inside is an empty one",
        ),
        Act(
            shown="cat ~/.ssh/id_ed25519",
            script="cat ~/.ssh/id_ed25519",
            why="the key stays outside and signs from there",
        ),
    )


def _tcp(address: str, port: int) -> Act:
    own = address.startswith("127.")
    return Act(
        shown=f"TCP to {address}:{port}",
        script=f"exec 3<>/dev/tcp/{address}/{port}\nread -r -t 5 line <&3\n[ \"$line\" = '{GREETING}' ]",
        why="the bottle has a loopback of its own" if own else "no interface, no route",
    )


def _pushed(stage: Stage) -> str:
    shown = git(stage.repository, "log", "-1", "--format=%h %s", "main")
    return f"main on the server: {shown}" if shown.endswith(SUBJECT) else ""


def _same_files(one: Path, other: Path) -> str:
    names = sorted(path.name for path in one.iterdir())
    same = len(names) == REPORTS and all(_text(one / name) == _text(other / name) for name in names)
    return f"{REPORTS} files, the same on both sides" if same else ""


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
