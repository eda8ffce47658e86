"""Gates for tests: each is stopped after its test and must end silently."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import MADE, Gate

StartGate = Callable[..., Gate]


@pytest.fixture(autouse=True)
def sockets_closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


@pytest.fixture
def start_gate(tmp_path: Path, sockets_closed: None) -> Iterator[StartGate]:
    gates: list[Gate] = []
    numbers = itertools.count()

    def start(*entries: dict[str, Any], **options: Any) -> Gate:
        folder = tmp_path / f"gate{next(numbers)}"
        folder.mkdir()
        gate = Gate(folder, entries, **options)
        gates.append(gate)
        assert gate.answer == {"ready": True}
        return gate

    try:
        yield start
        for gate in gates:
            gate.stop()
    finally:
        for gate in gates:
            gate.kill()
