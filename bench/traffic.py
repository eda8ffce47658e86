"""The gate's own figures: throughput, connections, latency, idle connections; by `load`, which outruns every gate."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles

from bench.load import Load
from bench.processes import MemoryGroup, cpu_s, memory_group, pss_bytes, tree
from bench.report import Row, Target
from bench.rounds import Figures, Samples, run_rounds, show_progress
from bench.routes import OURS, ROUTES, Route, open_routes
from bench.scale import Scale

CLIENTS = 8
MEGABYTE = 1e6
GATES = (OURS, "socat", "haproxy")
"""ways that hold idle connections"""


def throughput(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """One and eight streams from the server to the client: how fast, and what the gate's processor pays."""
    with ExitStack() as stack:
        routes = _routes(load, folder, stack)
        for streams, words in ((1, "one stream"), (8, "eight streams")):

            def measure(way: str, streams: int = streams) -> Figures:
                return transfer(load, routes[way], streams, scale.transfer_s)

            samples = run_rounds(tuple(ROUTES), scale.rounds, measure, warm_up=scale.warm_up)
            fast = (Target(3.3, "socat", at_least=True),)
            yield Row(f"throughput, {words}", "Gbit/s", OURS, samples.of("rate"), fast), samples
            cheap = (Target(0.15, "socat"),)
            yield Row(f"gate CPU, {words}", "s/GB", OURS, samples.of("cpu"), cheap), Samples(())


def transfer(load: Load, route: Route, streams: int, duration_s: float) -> Figures:
    """Run one bulk transfer; socat's children live as long as the connections, so they are still there to be asked."""
    before = cpu_s(tree(route.pid)) if route.pid else 0.0
    with load.bulk(route.port, streams, duration_s) as done:
        used = cpu_s(tree(route.pid)) - before if route.pid else 0.0
    rate = done.size_bytes * 8 / done.duration_s / 1e9
    return {"rate": rate, "cpu": used / (done.size_bytes / 1e9)}


def connections(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """Eight clients that open, use once and close."""
    with ExitStack() as stack:
        routes = _routes(load, folder, stack)

        def measure(way: str) -> Figures:
            return {"rate": load.churn(routes[way].port, CLIENTS, scale.churn_s)}

        samples = run_rounds(tuple(ROUTES), scale.rounds, measure, warm_up=scale.warm_up)
        targets = (Target(8, "socat", at_least=True), Target(0.9, "haproxy", at_least=True))
        yield Row("new connections, 8 clients", "1/s", OURS, samples.of("rate"), targets), samples


def latency(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """64 bytes there and back on an open connection."""
    with ExitStack() as stack:
        routes = _routes(load, folder, stack)

        def measure(way: str) -> Figures:
            cuts = quantiles(load.ping(routes[way].port, scale.pings), n=100)
            return {"p50": cuts[49], "p99": cuts[98]}

        samples = run_rounds(tuple(ROUTES), scale.rounds, measure, warm_up=scale.warm_up)
        yield Row("64 bytes round trip, p50", "us", OURS, samples.of("p50")), samples
        yield Row("64 bytes round trip, p99", "us", OURS, samples.of("p99")), Samples(())


def idle(load: Load, folder: Path, scale: Scale) -> Iterator[tuple[Row, Samples]]:
    """Memory of the gate with idle connections; a fresh gate each, once, because memory does not vary."""
    samples = Samples(GATES)
    for way in GATES:

        def measure(way: str) -> Figures:
            return hold_idle(load, way, folder, scale.idle)

        samples.take(way, measure)
        show_progress()
    most = max(scale.idle)
    for count in (0, *scale.idle):
        words = f"{count:,} idle connections" if count else "at rest"
        target = (Target(0.7, "haproxy"),) if count == most else ()
        yield Row(f"{words}, PSS", "MB", OURS, samples.of(f"pss {count}"), target), samples
        yield Row(f"{words}, with kernel", "MB", OURS, samples.of(f"group {count}"), target), Samples(())


def hold_idle(load: Load, way: str, folder: Path, counts: tuple[int, ...]) -> Figures:
    """Open more and more connections through a fresh gate and weigh it each time."""
    figures: dict[str, float] = {}
    with memory_group() as group, ExitStack() as stack:
        (upstream,) = stack.enter_context(load.serve(1))
        opening = open_routes([way], lambda _: upstream, folder)
        if group is not None:
            with group.entered():
                route = stack.enter_context(opening)[way]
        else:
            route = stack.enter_context(opening)[way]
        figures |= weigh(route, group, 0)
        held = 0
        for count in counts:
            stack.enter_context(load.hold(route.port, count - held))
            held = count
            figures |= weigh(route, group, count)
    return figures


def weigh(route: Route, group: MemoryGroup | None, count: int) -> Figures:
    """Return the memory of a gate, and with the kernel's where a control group counts it."""
    figures = {f"pss {count}": pss_bytes(tree(route.pid or 0)) / MEGABYTE}
    if group is not None:
        figures[f"group {count}"] = group.used_bytes() / MEGABYTE
    return figures


def _routes(load: Load, folder: Path, stack: ExitStack) -> Mapping[str, Route]:
    """Open every way, each to a port of its own of one server: closed connections of one do not meet another's."""
    ports = stack.enter_context(load.serve(len(ROUTES)))
    upstreams = dict(zip(ROUTES, ports, strict=True))
    return stack.enter_context(open_routes(tuple(ROUTES), upstreams.__getitem__, folder))
