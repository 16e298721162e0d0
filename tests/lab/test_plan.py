"""The laboratory's pure parts: rates, commands, counters, overhead."""

import doctest
import importlib

import pytest

from benchmarks import lab
from benchmarks.lab import Counters, Network, compare, parse_rate, rate_text
from benchmarks.lab.__main__ import main
from benchmarks.lab.launch import node_command
from benchmarks.lab.overhead import HEADER_BYTES, SEGMENT_BYTES, wire_seconds

PROC_NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo:     100       1    0    0    0     0          0         0      100       1    0
  eth0: 2000000    1500    0    0    0     0          0         0  3000000    2500    0
"""


@pytest.mark.parametrize(
    "module", ["rate", "overhead", "network", "launch", "counters", "build", "system"]
)
def test_doctests(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"benchmarks.lab.{module}")).failed == 0


@pytest.mark.parametrize("text", ["100mbit", "1gbit", "2500kbit", "64bit", "none"])
def test_rates_survive_the_round_trip(text: str) -> None:
    assert rate_text(parse_rate(text)) == text


@pytest.mark.parametrize(
    "text", ["", "100", "100mb", "100mbps", "-1gbit", "0mbit", "1e3kbit", "1 gbit x"]
)
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate: expected one such as 100mbit"):
        parse_rate(text)


@pytest.mark.parametrize("hosts", [0, -1, 65])
def test_numbers_of_hosts_out_of_range_are_refused(hosts: int) -> None:
    with pytest.raises(ValueError, match="hosts: expected 1 to 64"):
        Network(hosts)


def test_every_wire_is_throttled_in_both_directions() -> None:
    network = Network(3, 10**8, "wire")
    commands = [" ".join(command) for command in network.build()]
    throttles = [command for command in commands if "tbf" in command]
    assert sum(command.startswith("tc -n wire-host") for command in throttles) == 3
    assert sum(command.startswith("tc -n wire-switch") for command in throttles) == 3
    assert all("rate 100mbit" in command for command in throttles)
    assert commands[0] == "ip netns add wire-switch"
    assert "ip -n wire-host2 addr add 10.86.0.3/24 dev eth0" in commands


def test_nothing_is_built_outside_the_namespaces() -> None:
    for command in Network(2, None).build():
        assert command[:2] in (["ip", "netns"], ["ip", "-n"], ["tc", "-n"])
        assert command[2] in ("add", "exec", *Network(2).namespaces)
    assert not any("tbf" in command for command in Network(2, None).build())


@pytest.mark.parametrize("rate", [10**6, 10**8, 10**9, 10**10])
def test_bursts_stay_short(rate: int) -> None:
    """What a wire may save up is a quarter of a millisecond, or a few packets."""
    network = Network(2, rate)
    assert network.burst >= 2 * 1514
    assert network.burst <= max(8 * 1024, rate / 8 * 251e-6)


def test_a_host_runs_an_ordinary_torchrun_node() -> None:
    network = Network(4, None, "x")
    command = node_command(network, 2, ["train.py", "--epochs", "3"], "python3")
    assert command[:5] == ["ip", "netns", "exec", "x-host2", "python3"]
    text = " ".join(command[5:])
    assert text == (
        "-m torch.distributed.run --nnodes 4 --nproc-per-node 1 --node-rank 2 "
        "--master-addr 10.86.0.1 --master-port 29400 --local-addr 10.86.0.3 train.py --epochs 3"
    )
    assert "--no-python" not in node_command(network, 0, ["-m", "package"])
    assert node_command(network, 0, ["thinwire", "doctor"])[-3:] == [
        "--no-python",
        "thinwire",
        "doctor",
    ]


def test_counters_of_an_interface() -> None:
    counters = lab.own_counters("eth0", PROC_NET_DEV)
    assert counters == Counters(3_000_000, 2_000_000, 2500, 1500)
    assert counters - Counters(1, 2, 3, 4) == Counters(2_999_999, 1_999_998, 2497, 1496)
    assert counters.tx_payload == 3_000_000 - 66 * 2500
    with pytest.raises(ValueError, match="expected an interface of this namespace, got 'eth1'"):
        lab.own_counters("eth1", PROC_NET_DEV)


def test_overhead() -> None:
    """A full frame is 1514 bytes for 1448 of payload; acknowledgements carry nothing."""
    assert (HEADER_BYTES, SEGMENT_BYTES) == (66, 1448)
    full, acknowledgements = 1000, 300
    sent = Counters(1514 * full + 66 * acknowledgements, 0, full + acknowledgements, 0)
    comparison = compare(1_440_000, sent)
    assert comparison.payload == 1448 * full
    assert comparison.headers == 66 * (full + acknowledgements)
    assert comparison.unexplained == pytest.approx(8000 / 1_440_000)
    assert compare(0, sent).unexplained == 0
    assert wire_seconds(1_448_000, 10**8) == pytest.approx(1514 * 8 * 1000 / 10**8)
    assert wire_seconds(10**9, None) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--rate", "fast"], "rate: expected one such as 100mbit"),
        (["up", "--hosts", "0"], "hosts: expected 1 to 64, got 0"),
        (["run", "--"], "run: expected a command after --"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_without_root_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda tool: f"/sbin/{tool}")
    assert main(["up"]) == 2
    assert capsys.readouterr().err == (
        "lab: the laboratory needs root, for network namespaces: run it with sudo\n"
    )
    monkeypatch.setattr("shutil.which", lambda tool: None)
    assert main(["down"]) == 2
    assert "install iproute2" in capsys.readouterr().err
