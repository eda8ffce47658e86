"""Files in the work folder that the host runs because something names them: git's configuration, or PATH.

Where the repository's configuration already runs `tools/clean.sh` as a filter or includes `../.gitconfig`, those files
are as good as configuration, though their names say nothing.
"""

# paths are hostile text, joined by spelling
# ruff: noqa: PTH113, PTH118, PTH120
import os
from collections.abc import Iterable, Sequence
from functools import cache

from claude_bottle.workfolder.files import is_inside, read_regular, show
from claude_bottle.workfolder.gitconfig import CONFIG_LIMIT_BYTES, read_config
from claude_bottle.workfolder.hooks import MAX_REPOSITORIES, checkout_of
from claude_bottle.workfolder.walk import Rule
from claude_bottle.workfolder.watched import key_rule, load_key_rules

MAX_INCLUDES = 16
"""configuration files followed per repository"""


def named_files(git_dirs: Sequence[str], roots: Sequence[str]) -> dict[str, Rule]:
    """Files below the roots that a repository's configuration includes or runs.

    A plain configuration costs one file read, any other one run of git (3 ms).
    """
    found: dict[str, Rule] = {}
    for git_dir in git_dirs[:MAX_REPOSITORIES]:
        configs = [f"{git_dir}/config", f"{git_dir}/config.worktree"]
        for config in configs:  # grows by what they include
            for path, rule in _named_in(config, checkout_of(git_dir, None), roots):
                if any(is_inside(path, root) for root in roots):
                    found.setdefault(path, rule)
                    configs += [path] if rule.is_config and len(configs) < MAX_INCLUDES and path not in configs else []
    return found


def path_folders(roots: Sequence[str], path: str | None = None) -> tuple[str, ...]:
    """Folders of the user's PATH below the roots, such as an activated virtual environment's."""
    value = os.environ.get("PATH", "") if path is None else path
    folders = (os.path.realpath(folder) for folder in value.split(os.pathsep) if folder.startswith("/"))
    return tuple(dict.fromkeys(folder for folder in folders if any(is_inside(folder, root) for root in roots)))


def _named_in(config: str, checkout: str, roots: Sequence[str]) -> Iterable[tuple[str, Rule]]:
    text = read_regular(config, CONFIG_LIMIT_BYTES)
    if text is None or not any(word in text.lower() for word in _words()):
        return
    for key, value in read_config(text, roots) or ():
        if not value or key_rule(key, value, existed=False) is None:
            continue
        if key.startswith("include") and key.endswith(".path"):
            path = os.path.normpath(os.path.join(os.path.dirname(config), value))
            yield path, Rule("git reads it as configuration, by include.path", is_config=True)
        else:
            for word in value.split():
                path = os.path.normpath(os.path.join(checkout, word.strip("!\"';")))
                if os.path.isfile(path):
                    yield path, Rule(f"git runs or reads it, by {show(key)}")


@cache
def _words() -> tuple[bytes, ...]:
    """A word of every key that matters, the least common one: no such word in a text, no such key."""
    words = set()
    for rules in load_key_rules().values():
        for rule in rules:
            if not rule.value and not rule.only_changed:
                last = rule.pattern.rpartition(".")[2]
                words.add(rule.pattern.partition(".")[0] if "*" in last else last)
    return tuple(word.encode() for word in sorted(words))
