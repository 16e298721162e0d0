"""``thinwire plan`` as a user runs it, in this process."""

from pathlib import Path
from typing import Any

import pytest

from tests.plan.examples import profile
from thinwire.cli import main
from thinwire.cli.plan.runs import load_fitted, seconds_per_step
from thinwire.plan import read_profile, write_profile
from thinwire.report import EventLog, load_run

END = {"steps": 40, "communications": 80, "seconds": 4.0}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write_profile(profile(), tmp_path / "profile.json")
    return tmp_path


def write_run(
    folder: Path,
    method: str,
    minibatch: int,
    steps: int,
    curvature: str | None = None,
    **settings: object,
) -> Path:
    """A run that halves its error every ``steps`` updates; of ten products an iteration."""
    with EventLog(folder / "events.jsonl") as log:
        recipe: dict[str, Any] = {"minibatch": minibatch}
        more: dict[str, Any] = {}
        if curvature is not None:
            recipe = {"hessian_free": {"curvature_batch": 300, "curvature": curvature, **settings}}
            more = {"products": 10, "candidates": 4, "trials": 3}
        log.write(
            "start", schema=1, method=method, workers=2, train_samples=6000, recipe=recipe, params=9
        )
        for epoch in range(1, 5):
            at = {"step": epoch * steps, "samples": epoch * steps * minibatch}
            at |= {"communications": epoch * steps * 2, "seconds": epoch * 1.0}
            alpha = {"alpha": 0.5 if epoch == 1 else 1.0} if more else {}
            log.write("step", **at, phase="steady", loss=1.0, **more, **alpha)
            log.write("epoch", **at, epoch=epoch, train_error=0.5**epoch, test_error=0.6**epoch)
        log.write("end", method=method, workers=2, **END)
    return folder


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


def test_what_runs_say(here: Path) -> None:
    run = write_run(here / "a", "1-bit SGD", 256, 40)
    fitted = load_fitted([run], 0.25, "train")
    (found,) = fitted.reached["1-bit"]
    assert (found.minibatch, found.steps, found.samples) == (256, 80, 80 * 256)
    assert not fitted.jobs
    assert seconds_per_step(load_run(run)) == pytest.approx([1 / 40] * 3)
    with pytest.raises(ValueError, match="no run reached 1 % test error"):
        load_fitted([run], 0.01, "test")


def test_how_a_run_of_automatic_curvature_decided_is_seen_by_what_it_sent(here: Path) -> None:
    run = write_run(here / "a", "Hessian-free, CG", 9000, 2, "auto")
    assert load_fitted([run], 0.25, "train").jobs["Hessian-free, CG"].replicated
    often = {"step": 10, "products": 10, "candidates": 4, "trials": 3, "alpha": 1.0}
    with EventLog(run / "events.jsonl") as log:
        log.write("step", **often, communications=500)
    assert not load_fitted([run], 0.25, "train").jobs["Hessian-free, CG, sharded"].replicated


def test_runs_of_one_method_with_other_settings_are_not_averaged(here: Path) -> None:
    runs = [
        write_run(here / "a", "Hessian-free, CG", 9000, 2, "sharded", damping=1, iterations=4),
        write_run(here / "b", "Hessian-free, CG", 9000, 4, "sharded", damping=2, iterations=4),
        write_run(here / "c", "Hessian-free, CG", 9000, 4, "sharded", damping=2, iterations=5),
        write_run(here / "d", "Hessian-free, CG", 9000, 4, "replicated", damping=3, iterations=4),
    ]
    fitted = load_fitted(runs, 0.25, "train")
    assert {name: len(found) for name, found in fitted.reached.items()} == {
        "Hessian-free, CG, sharded, damping 1": 1,
        "Hessian-free, CG, sharded, damping 2": 2,
        "Hessian-free, CG": 1,
    }
    assert fitted.jobs.keys() == fitted.reached.keys()


def test_a_hessian_free_run_that_does_not_tell_its_iterations_is_refused(here: Path) -> None:
    run = write_run(here / "a", "Hessian-free, CG", 9000, 2)
    with pytest.raises(ValueError, match=r"a: expected train_samples, hessian_free.curvature_ba"):
        load_fitted([run], 0.25, "train")
    run = write_run(here / "b", "Hessian-free, CG", 9000, 2, "sharded")
    with EventLog(run / "events.jsonl") as log:
        log.write("step", step=9, products=3)
    with pytest.raises(ValueError, match=r"b: expected products, candidates, trials, alpha in ev"):
        load_fitted([run], 0.25, "train")


def test_a_run_of_several_minibatch_sizes_fits_no_law(here: Path) -> None:
    run = write_run(here / "a", "1-bit SGD", 256, 40)
    with EventLog(run / "events.jsonl") as log:
        log.write("selection", step=200, before=256, minibatch=256)
    assert load_fitted([run], 0.25, "train").reached["1-bit"][0].minibatch == 256
    with EventLog(run / "events.jsonl") as log:
        log.write("selection", step=201, before=256, minibatch=512)
    with pytest.raises(ValueError, match="expected one minibatch size all along"):
        load_fitted([run], 0.25, "train")


MISTAKES = [
    (["--workers", "0..4"], "--workers: expected numbers >= 1"),
    (["--bandwidth", "fast"], "--bandwidth: expected a rate such as"),
    (["--latency", "5"], "--latency: expected a time such as"),
    (["--minibatch", ""], "--minibatch: expected numbers"),
    (["--efficiency", "2"], "--efficiency: expected in (0, 1], got 2.0"),
    (["--per-node", "0"], "--per-node: expected >= 1"),
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
    assert "add --bandwidth" in capsys.readouterr().err


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
