"""``thinwire plan`` as a user runs it, in this process."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.plan.examples import profile, write_run
from thinwire.cli import main
from thinwire.plan import read_profile, write_profile
from thinwire.report import EventLog


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write_profile(profile(), tmp_path / "profile.json")
    return tmp_path


def test_it_prints_and_draws(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--workers", "1..8", "--bandwidth", "1Gbit/s", "--model-parallel", "2"]
    assert main(["plan", *flags, "--minibatch", "512,4096"]) == 0
    printed = capsys.readouterr().out
    for word in (
        "samples/s",
        "speed-up",
        "K-hat",
        "dense",
        "fp16",
        "1-bit",
        "1-bit DB",
        "1-bit MP2",
    ):
        assert word in printed
    for name in ("plan-512.svg", "plan-4096.svg"):
        svg = (here / name).read_text()
        assert svg.startswith("<svg ")
        assert "perfect scaling" in svg


def test_it_says_what_to_expect_of_two_machines(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--workers", "1..8", "--bandwidth", "1Gbit/s", "--minibatch", "512,4096"]
    assert main(["plan", *flags]) == 0
    printed = capsys.readouterr().out
    assert "With 2 machines at 1 Gbit/s and minibatch 512 expect 1,883 samples/s from" in printed
    assert "With 2 machines at 1 Gbit/s and minibatch 4,096 expect" in printed
    assert "Warning" not in printed


def test_local_steps_of_a_recipe_are_planned(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.toml").write_text("minibatch = 777\n[local]\nevery = 16\ndelay = 4\n")
    flags = ["--workers", "1..8", "--bandwidth", "1Gbit/s"]
    for more, sizes, name in (
        (["--recipe", "mine.toml"], "minibatch 777", "1-bit H16 D4"),
        (["--recipe", "mine.toml", "--delay", "0", "--every", "2"], "minibatch 777", "1-bit H2"),
        (["--recipe", "mnist-local", "--minibatch", "512"], "minibatch 512", "1-bit H8"),
        (["--every", "8"], "minibatch 1,024", "1-bit H8"),
        (["--recipe", "mine.toml", "--every", "0", "--delay", "0"], "minibatch 777", "H-hat"),
    ):
        assert main(["plan", *flags, *more]) == 0
        printed = capsys.readouterr().out
        for word in (sizes, name, "H-hat", "B/sample"):
            assert word in printed
        assert (" H" in printed.split("speed-up")[0]) == name.startswith("1-bit H")


def test_rounds_by_a_code_that_no_profile_measures_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.toml").write_text('[local]\nevery = 16\n[exchange]\ncode = "4-bit"\n')
    assert main(["plan", "--bandwidth", "1Gbit/s", "--recipe", "mine.toml"]) == 2
    said = "--recipe: expected exchange.code sign or float32, as profiles have, got 4-bit"
    assert said in capsys.readouterr().err


def test_runs_of_local_steps_are_fitted_and_planned(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(here / "a", "1-bit SGD", 256, 40)]
    local = {"recipe": {"minibatch": 256, "local": {"every": 8, "delay": 2}}}
    with EventLog(here / "b" / "events.jsonl") as log:
        log.write("start", schema=1, method="1-bit SGD, 8 local steps, 2 late", **local)
        log.write("epoch", step=10, samples=2560, test_error=0.1)
    flags = ["--target", "20", "--workers", "1,4", "--fit", str(runs[0]), str(here / "b")]
    assert main(["plan", *flags]) == 0
    printed = capsys.readouterr().out
    assert "1-bit H8 D2: runs of minibatch 256 only" in printed
    assert "1-bit H8 D2*" not in printed


def test_a_noisy_calibration_is_warned_of_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A disturbed measurement: 1000 samples took three times as long as ten times 100 do.
    noisy = replace(profile().compute, sizes=(100, 1000), seconds=(0.1, 3.0))
    write_profile(profile(compute=noisy), here / "profile.json")
    flags = ["--workers", "1,2", "--bandwidth", "10Gbit/s", "--minibatch", "1000,2000"]
    assert main(["plan", *flags]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Warning" in line)
    assert "on 2 workers at minibatch 1,000 is predicted to be" in line
    assert "repeat `thinwire plan --calibrate` on a quiet machine" in line


def test_square_brackets_are_printed_as_they_are(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        write_run(here / "a", "1-bit SGD", 256, 40),
        write_run(here / "[bold]", "dense SGD", 256, 4000),
        write_run(here / "c", "Hessian-free, [red]", 9000, 2, "sharded"),
    ]
    flags = ["--target", "14", "--workers", "1,2", "--fit", *map(str, runs)]
    with EventLog(here / "[bold]" / "events.jsonl") as log:
        log.write("start", schema=1, method="dense SGD", recipe={"minibatch": 256})
        log.write("epoch", step=0, samples=0, test_error=0.9)
    assert main(["plan", *flags]) == 0
    printed = capsys.readouterr().out
    assert "[section 2.3]" in printed
    assert "[red], sharded" in printed
    assert "dense: never reached the target: [bold]" in printed


def test_other_metrics_than_errors_are_fitted(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(here / "a", "1-bit SGD", 256, 40)
    with EventLog(run / "events.jsonl") as log:
        log.write("epoch", step=200, samples=200 * 256, test_loss=0.3)
    flags = ["--metric", "test_loss", "--target", "0.4", "--workers", "1,2", "--fit", str(run)]
    assert main(["plan", *flags]) == 0
    assert "time to 0.4 test loss" in capsys.readouterr().out
    assert "seconds to 0.4 test loss" in (here / "plan-target.svg").read_text()
    assert main(["plan", "--metric", "test_los", "--fit", str(run)]) == 2
    said = "--metric: expected test, train or one of test_loss, test_error, train_loss, train_error"
    assert said in capsys.readouterr().err


def test_sgd_and_hessian_free_stand_on_one_axis(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        write_run(here / "a", "1-bit SGD", 256, 40),
        write_run(here / "b", "1-bit SGD", 1024, 20),
        write_run(here / "c", "Hessian-free, CG", 9000, 2, "sharded"),
        write_run(here / "e", "Hessian-free, CG", 9000, 4, "replicated"),
        write_run(here / "d", "dense SGD", 256, 4000),
    ]
    assert main(["plan", "--target", "20", "--workers", "1,4", "--fit", *map(str, runs)]) == 0
    printed = capsys.readouterr().out
    assert "time to 20 % test error" in printed
    assert "1-bit DB*" in printed
    counts = "an iteration is 1.5 gradients and 2.0 losses of 6,000 samples; 10.0 products and 4.0"
    assert f"Hessian-free, CG, sharded: {counts} losses of 300, shared out" in printed
    assert f"Hessian-free, CG: {counts} losses of 300, by every worker" in printed
    assert "fp16*" in printed
    assert "measured at N = 256..1,024" in printed
    assert "Hessian-free" in (here / "plan-target.svg").read_text()


HUGE = "1" + "0" * 400
MISTAKES = [
    (
        ["--workers", "1e18"],
        "--workers: expected numbers >= 1 such as 1..1024 or 1,2,4, got '1e18'",
    ),
    (["--workers", "4097"], "--workers: expected numbers >= 1 and at most 4096, got '4097'"),
    (["--workers", f"1..{HUGE}"], "--workers: expected numbers >= 1 and at most 4096, got '1000"),
    (["--workers", "8..4"], "--workers: expected an ascending range such as 1..1024, got '8..4'"),
    (["--workers", ",".join(map(str, range(1, 99)))], "--workers: expected at most 64 numbers"),
    (["--minibatch", "nan"], "--minibatch: expected numbers >= 1 such as"),
    (["--minibatch", "99999999999"], "--minibatch: expected numbers >= 1 and at most 2147483648"),
    (["--minibatch", "1..1000000"], "--minibatch: expected at most 16 numbers, got 21"),
    (["--bandwidth", "nan"], "--bandwidth: expected a rate such as"),
    (
        ["--bandwidth", f"{HUGE}bit"],
        "--bandwidth: expected a rate from 1B/s to 1e+18B/s, got '1000",
    ),
    (["--bandwidth", "0.001bit"], "--bandwidth: expected a rate from 1B/s to"),
    (["--inner-bandwidth", "inf"], "--inner-bandwidth: expected a rate such as"),
    (["--latency", "9999999s"], "--latency: expected at most 1e+06 s, got '9999999s'"),
    (["--latency", "-1s"], "--latency: expected a time such as"),
    (["--per-node", HUGE], "--per-node: expected 1 to 4096, got an integer of 1329 bits"),
    (["--per-node", "-1"], "--per-node: expected 1 to 4096, got -1"),
    (["--model-parallel", "5000"], "--model-parallel: expected 1 to 4096, got 5000"),
    (["--efficiency", "nan"], "--efficiency: expected 0.001 to 1, got nan"),
    (["--efficiency", "1e-300"], "--efficiency: expected 0.001 to 1, got 1e-300"),
    (["--every", "-1"], "--every: expected 0 to 1.04858e+06, got -1"),
    (["--every", "4", "--delay", "4"], "--delay: expected less than --every, which is 4, got 4"),
    (["--delay", "1"], "--delay: expected less than --every, which is 0, got 1"),
    (["--recipe", "mnist-loca"], "no recipe 'mnist-loca': did you mean 'mnist-local'?"),
    (["--bucket-mb", "nan"], "--bucket-mb: expected 1e-06 to 1e+06, got nan"),
    (["--bucket-mb", "inf"], "--bucket-mb: expected 1e-06 to 1e+06, got inf"),
    (["--bucket-mb", "-1"], "--bucket-mb: expected 1e-06 to 1e+06, got -1.0"),
    (["--target", "nan"], "--target: expected -1e+12 to 1e+12, got nan"),
    (["--layers", "1000000", "1000000"], "--layers: expected at most 10000000000 parameters, got"),
    (["--layers", HUGE, "1"], "--layers: expected two to 500 widths from 1 to 10000000, got an"),
    (["--layers", "-1", "3"], "--layers: expected two to 500 widths from 1 to 10000000, got -1 3"),
    (
        ["--calibrate", "--sizes", "1..9999999"],
        "--sizes: expected numbers >= 1 and at most 1048576",
    ),
    (["--workers", "0..4"], "--workers: expected numbers >= 1"),
    (["--bandwidth", "fast"], "--bandwidth: expected a rate such as"),
    (["--latency", "5"], "--latency: expected a time such as"),
    (["--minibatch", ""], "--minibatch: expected numbers"),
    (["--efficiency", "2"], "--efficiency: expected 0.001 to 1, got 2.0"),
    (["--target", "0"], "--target: expected per cent between 0 and 100, got 0"),
    (["--per-node", "0"], "--per-node: expected 1 to 4096, got 0"),
    (["--profile", "none.json"], "none.json: no such profile; `thinwire plan --calibrate`"),
    (["--fit", "nowhere"], "nowhere: not a run folder"),
    (["--bandwith", "1Gbit/s"], "did you mean '--bandwidth'?"),
    (["--calibrate", "--workers", "1,2"], "--workers: with --calibrate expected one number"),
    (["--out", "no/such/folder.svg"], "No such file or directory"),
]


@pytest.mark.parametrize(("flags", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_mistakes_are_one_line(
    flags: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_profile_without_network_asks_for_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(profile(link=None), here / "profile.json")
    assert main(["plan"]) == 2
    assert "--bandwidth: expected a line rate such as 1Gbit/s" in capsys.readouterr().err


def test_calibration_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    small = ["--layers", "8", "16", "4", "--sizes", "2,4"]
    assert main(["plan", "--calibrate", "--profile", "new.json", *small]) == 0
    assert "no network measured" in capsys.readouterr().out
    made = read_profile(here / "new.json")
    assert made.link is None
    assert made.values == 8 * 16 + 16 + 16 * 4 + 4
    assert made.compute.sizes == (2, 4)
    assert min(made.collect, made.post, made.apply, made.product_ratio) > 0
