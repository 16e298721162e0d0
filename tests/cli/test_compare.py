"""``thinwire compare``: several recipes, one report; finished runs are not trained again."""

from pathlib import Path

import pytest

from tests.cli.test_train import run, summary_of
from thinwire.cli import main
from thinwire.cli.compare import arguments_of, split_arguments
from thinwire.cli.usage import UsageError
from thinwire.report import load_run

TINY = [
    *("--model.hidden", "12", "--epochs", "1", "--evaluate-every", "0.5"),
    *("--hessian-free.iterations", "2", "--hessian-free.curvature-batch", "100"),
]


@pytest.mark.slow
def test_runs_are_trained_once_and_reported_together(idx_folder: Path, tmp_path: Path) -> None:
    arguments = ["compare", "mnist-sgd", "mnist-hf-gauss-newton", "--data", str(idx_folder)]
    arguments += ["--out", str(tmp_path), *TINY]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert "To reach a training error: mnist-hf-gauss-newton" in printed
    assert "- scalar communication: one sum of a few numbers" in printed
    sgd, newton = (load_run(tmp_path / name) for name in ("mnist-sgd", "mnist-hf-gauss-newton"))
    assert [event["epoch"] for event in sgd.epochs] == [320 / 600, 1.0]
    assert all(event["exact"] for event in (*sgd.epochs, *newton.epochs))
    assert (sgd.result["steps"], newton.result["steps"]) == (10, 2)
    page = (tmp_path / "report.html").read_text()
    assert "How it is counted" in page
    before = (tmp_path / "mnist-sgd" / "summary.json").read_bytes()
    assert run(*arguments).stdout.count("this run has finished") == 2
    assert (tmp_path / "mnist-sgd" / "summary.json").read_bytes() == before


@pytest.mark.slow
def test_two_workers_and_the_paper_s_two_hidden_layers(idx_folder: Path, tmp_path: Path) -> None:
    arguments = ["mnist-hf-bicgstab", "mnist-hf-hybrid", "--data", idx_folder, "--out", tmp_path]
    done = run("compare", *arguments, "--workers", "2", *TINY[6:], "--model.hidden", "12", "8")
    assert done.returncode == 0, done.stderr
    for name in ("mnist-hf-bicgstab", "mnist-hf-hybrid"):
        summary = summary_of(tmp_path / name)
        assert (summary["workers"], summary["steps"]) == (2, 2)
        assert summary["params"] == 36 * 12 + 12 + 12 * 8 + 8 + 8 * 10 + 10


def test_a_flag_reaches_the_recipes_that_read_it() -> None:
    recipes, given = split_arguments(["mnist-sgd", "mnist-hf-cg", "--minibatch=128", "--seed", "2"])
    assert dict(arguments_of(recipes, given)) == {
        "mnist-sgd": ["mnist-sgd", "--minibatch=128", "--seed", "2"],
        "mnist-hf-cg": ["mnist-hf-cg", "--seed", "2"],
    }
    with pytest.raises(UsageError, match="minibatch: algorithm hessian-free does not use it"):
        arguments_of(["mnist-hf-cg"], [["--minibatch", "128"]])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--seed", "1"], "expected at least one recipe"),
        (["mnist-sgd", "mnist-hf"], "did you mean 'mnist-hf-"),
        (["mnist-sgd", "mnist-sgd"], "mnist-sgd is named twice"),
        (["mnist-sgd", "--ouy", "x"], "did you mean '--out'"),
        (["mnist-sgd", "--out", "a", "b"], "--out: expected one folder"),
        (["mnist-sgd", "--resume", "elsewhere"], "expected auto or never"),
        (["mnist-sgd", "--hessian-free.damping", "1"], "hessian_free.damping: algorithm sgd"),
        (["mnist-sgd", "--data", "/nowhere"], "/nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_clear_line(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    more = [] if "--out" in args or "--data" not in args else ["--out", str(tmp_path)]
    assert main(["compare", *args, *more]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_under_a_launcher_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["compare", "mnist-sgd"]) == 2
    assert "thinwire report" in capsys.readouterr().err


def test_help_tells_recipes_and_counting_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "mnist-hf-hybrid" in printed
    assert "- vector communication:" in printed
