"""A thin wire on one machine: hosts as network namespaces behind a throttled switch.

    python -m benchmarks.lab up --hosts 4 --rate 100mbit
    python -m benchmarks.lab run -- examples/ddp_two_lines.py
    python -m benchmarks.lab down

``docs/lab.md`` explains it. From Python: ``with lab(hosts=4, rate="100mbit") as network: ...``.
"""

from benchmarks.lab.build import down, find, lab, up
from benchmarks.lab.counters import Counters, own_counters
from benchmarks.lab.launch import Run, run
from benchmarks.lab.network import Network
from benchmarks.lab.overhead import Comparison, compare
from benchmarks.lab.rate import parse_rate, rate_text
from benchmarks.lab.system import LabError

__all__ = [
    "Comparison",
    "Counters",
    "LabError",
    "Network",
    "Run",
    "compare",
    "down",
    "find",
    "lab",
    "own_counters",
    "parse_rate",
    "rate_text",
    "run",
    "up",
]
