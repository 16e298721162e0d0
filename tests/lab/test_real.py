"""A real laboratory: hosts see each other, bytes are counted, nothing stays behind."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks import lab
from tests.lab.conftest import NAME, namespaces

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SEND = """
import time, torch, torch.distributed as dist, thinwire
from thinwire.exchange import Ledger, TwoStage, shared_wire
from thinwire.quantize import Columns, SignCode
dist.init_process_group("gloo")
rank, ledger, columns = dist.get_rank(), Ledger(), Columns.from_lengths([2048] * 4096)
own, wire, code = TwoStage(columns, rank, 2), shared_wire(None, ledger), SignCode()
dist.barrier()
started = time.monotonic()
for _ in range(6):
    own.reduce(code, 1.0, wire, "gradients")
    own.distribute(code, own.worker.values, wire, "updates")
dist.barrier()
seconds = time.monotonic() - started
print(f"ledger {ledger.total().bytes} seconds {seconds}", flush=True)
dist.destroy_process_group()
"""
FAIL = """
import sys, time, torch.distributed as dist
dist.init_process_group("gloo")
sys.exit(7) if dist.get_rank() == 1 else time.sleep(600)
"""


def script(folder: Path, text: str) -> str:
    path = folder / "script.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_ledger_agrees_with_the_kernel(network: lab.Network, tmp_path: Path) -> None:
    assert (network.hosts, network.rate) == (2, 200_000_000)
    lines: list[str] = []
    done = lab.run(network, [script(tmp_path, SEND)], say=lines.append)
    assert done.code == 0, lines
    assert done.failed is None
    for host, traffic in enumerate(done.traffic):
        told = next(line for line in lines if line.startswith(f"host{host} | ledger"))
        ledger, seconds = int(told.split()[3]), float(told.split()[5])
        comparison = lab.compare(ledger, traffic)
        assert ledger > 6_000_000
        assert 0 <= comparison.unexplained <= 0.03
        bits = 8 * (traffic.tx_bytes - 200_000)  # some of it is the rendezvous, before the clock
        assert bits / seconds <= 1.05 * network.rate, "the wire is faster than it should be"


def test_the_first_failure_ends_the_run(network: lab.Network, tmp_path: Path) -> None:
    started, lines = time.monotonic(), []
    done = lab.run(network, [script(tmp_path, FAIL)], say=lines.append)
    assert done.failed == 1, lines
    assert done.code != 0
    assert time.monotonic() - started < 90
    assert any("exitcode  : 7" in line for line in lines)


def test_down_cleans_up_after_a_crash(network: lab.Network) -> None:
    command = [sys.executable, "-m", "benchmarks.lab", "run", "--name", NAME, "--", "sleep", "600"]
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    host = network.host(1)
    deadline = time.monotonic() + 60
    while "sleep" not in process_names(host):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(lab.LabError, match="is in use by process"):
        lab.up(network)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    pids = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, check=True)
    assert lab.down(NAME)
    assert namespaces() == []
    assert not any(runs(pid) for pid in pids.stdout.split())
    assert not lab.down(NAME)


def runs(pid: str) -> bool:
    """Whether there is such a process, other than one that only waits to be collected."""
    path = Path("/proc", pid, "stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def process_names(namespace: str) -> list[str]:
    pids = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True
    )
    names = []
    for pid in pids.stdout.split():
        path = Path("/proc", pid, "comm")
        if path.exists():
            names.append(path.read_text().strip())
    return names


def test_a_build_that_fails_leaves_nothing(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        lab.down(NAME)
    except lab.LabError as error:
        pytest.skip(str(error))
    build = lab.Network.build
    monkeypatch.setattr(lab.Network, "build", lambda self: [*build(self), ["ip", "nonsense"]])
    with pytest.raises(lab.LabError, match="`ip nonsense` failed"):
        lab.up(lab.Network(2, None, NAME))
    assert namespaces() == []


TRAIN = """
import hashlib, time, torch, torch.distributed as dist, thinwire
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = torch.nn.Linear(200, 200)
optimizer = thinwire.OneBitSGD(model.named_parameters(), lr=0.1, momentum=0.5)
for step in range(120):
    torch.manual_seed(1 + step * world + rank)
    optimizer.zero_grad()
    model(torch.randn(8, 200)).square().mean().backward()
    optimizer.step()
    time.sleep(0.02)
    if rank == 0 and step == 20:
        print("under way", flush=True)
raw = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
print(f"hash {hashlib.sha256(raw).hexdigest()}", flush=True)
dist.destroy_process_group()
"""


@pytest.mark.parametrize("seconds", [2, 20])
def test_a_link_that_is_cut_for_a_while_changes_nothing(
    network: lab.Network, tmp_path: Path, seconds: int
) -> None:
    path, cuts = script(tmp_path, TRAIN), list[threading.Thread]()

    def cut() -> None:
        set_link(network, "down")
        time.sleep(seconds)
        set_link(network, "up")

    def train(*, undisturbed: bool) -> list[str]:
        lines: list[str] = []

        def say(line: str) -> None:
            lines.append(line)
            if line.endswith("under way") and not undisturbed:
                cuts.append(threading.Thread(target=cut))
                cuts[-1].start()

        done = lab.run(network, [path], say=say)
        assert done.code == 0, lines
        return sorted(line.split()[-1] for line in lines if " hash " in line)

    right = train(undisturbed=True)
    assert len(right) == 2
    assert train(undisturbed=False) == right
    cuts[0].join()


def set_link(network: lab.Network, state: str) -> None:
    """Take host 1 off the switch, or put it back."""
    into = ["ip", "netns", "exec", network.switch]
    subprocess.run([*into, "ip", "link", "set", "port1", state], check=True)
