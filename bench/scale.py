"""How much is measured: the whole benchmark in some minutes, or a few seconds to see that all of it runs."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes and durations of the measurements."""

    rounds: int
    """rounds of each measurement"""
    warm_up: bool
    """whether a round before does not count"""
    transfer_s: float
    """seconds of one bulk transfer"""
    churn_s: float
    """seconds of opening and closing connections"""
    pings: int
    """round trips of one measurement"""
    idle: tuple[int, ...]
    """numbers of idle connections, rising"""
    repository_bytes: int
    """size of the repository to clone"""
    cat_bytes: int
    """size of the file to cat"""
    starts: int
    """starts of a bottle per round; each takes a tenth of a second only"""
    bottles: int
    """bottles at once"""


FULL = Scale(
    rounds=5,
    warm_up=True,
    transfer_s=0.8,
    churn_s=0.8,
    pings=3000,
    idle=(1000, 9500),
    repository_bytes=100 << 20,
    cat_bytes=1 << 30,
    starts=4,
    bottles=50,
)

QUICK = Scale(
    rounds=1,
    warm_up=False,
    transfer_s=0.05,
    churn_s=0.05,
    pings=50,
    idle=(20, 50),
    repository_bytes=1 << 20,
    cat_bytes=4 << 20,
    starts=1,
    bottles=2,
)
