"""Every way out of a bottle that we know, tried outside (where it must lead somewhere) and inside (where it must not).

The lab runs once for all of them, in namespaces of its own: see `tests.support.lab`; the ways are data in
`tests.support.probes`.
"""

import pytest

from tests.support.lab import Outcome, run_lab
from tests.support.probes import CONTROL, PROBES, Probe

pytestmark = [pytest.mark.xdist_group("isolation"), pytest.mark.timeout(180)]

Results = dict[str, dict[str, Outcome]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_lab(tmp_path_factory.mktemp("lab"))


@pytest.mark.parametrize("place", ["outside", "run", "exec"])
def test_the_declared_host_is_reached(results: Results, place: str) -> None:
    reached, detail = results[place][CONTROL.name]
    assert reached, detail


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_nothing_inside_can(results: Results, probe: Probe) -> None:
    reached, detail = results["outside"][probe.name]
    for place in ("run", "exec"):
        inside, what = results[place][probe.name]
        assert inside is False, f"{place}: a bottle can {probe.what}: {what}"
    if not reached and probe.needs:
        pytest.skip(f"outside it fails too ({detail}); it needs {probe.needs}")
    assert reached, f"outside it fails too, which proves nothing: {detail}"
