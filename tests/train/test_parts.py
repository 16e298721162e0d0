import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.nn import functional as F

from thinwire.data import Dataset, TensorSource
from thinwire.exchange import Ledger, shared_wire
from thinwire.train.display import Display, describe_step
from thinwire.train.evaluate import evaluate
from thinwire.train.prepare import normalise, writable_folder
from thinwire.train.tasks import Classification
from thinwire.train.twin import DenseTwin

METRICS = Classification(10).metrics
STEP = {
    "epoch": 1.5,
    "loss": 0.25,
    "error": 0.125,
    "samples_per_second": 1234.0,
    "bytes_sent": 2_500_000,
    "compression": 29.9,
    "samples": 90,
}


def test_data_is_normalised_by_the_training_inputs_alone() -> None:
    inputs = torch.rand(50, 4) * 3 + 2
    split = TensorSource(inputs, torch.zeros(50, dtype=torch.int64))
    constant = TensorSource(torch.full((5, 4), 2.0), torch.zeros(5, dtype=torch.int64))
    result, found = normalise(Dataset(split, constant, 10, "made up"), "all")
    assert result.train.inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert result.train.inputs.std().item() == pytest.approx(1, abs=1e-5)
    expected = ((2 - inputs.mean()) / inputs.std()).item()
    assert result.test.inputs[0, 0].item() == pytest.approx(expected)
    assert torch.equal(found(constant.inputs), result.test.inputs)


def test_evaluate_is_the_plain_mean() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    split = TensorSource(torch.randn(5000, 4), torch.randint(0, 3, (5000,)))
    found = evaluate(model, split, shared_wire(None, Ledger()), F.cross_entropy, Classification(3))
    logits = model(split.inputs)
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, split.targets).item())
    assert found["error"] == pytest.approx(
        (logits.argmax(1) != split.targets).double().mean().item()
    )


def test_outputs_that_are_no_classes_have_no_errors() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5)).eval()
    split = TensorSource(torch.randn(50, 4), torch.randint(0, 3, (50,)))

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs.sum(1) - targets).square().mean()

    found = evaluate(model, split, shared_wire(None, Ledger()), loss, Classification(10))
    mean = pytest.approx(loss(model(split.inputs), split.targets).item())
    assert found == {"loss": mean, "error": None, "accuracy": None}
    assert not model.training, "as it was"


def test_writable_folder_names_the_folder(tmp_path: Path) -> None:
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"run folder .*file: cannot be written"):
        writable_folder(tmp_path / "file")


def test_steady_counts_begin_when_the_cold_start_ends() -> None:
    twin, ledger = DenseTwin(params=100, workers=4), Ledger()
    for phase in ("dense", "dense", "steady"):
        ledger.record("gradients", messages=3, bytes=10)
        ledger.record("evaluation", messages=3, bytes=1000)
        twin.add_step(phase, ledger)
    assert twin.steady_steps == 1
    assert twin.steady_bytes(ledger) == 10
    assert (twin.bytes_per_worker, twin.steady_dense_bytes) == (1800, 2400)


def test_display_prints_plain_lines_when_not_a_terminal() -> None:
    output = io.StringIO()
    with Display(100, Console(file=output), metrics=METRICS) as display:
        display.step(STEP)
    line = output.getvalue()
    for part in ("1.50", "0.2500", "12.50 %", "1234 samples/s", "2.50 MB", "29.9x"):
        assert part in line
    assert "\x1b" not in line


def test_display_is_live_on_a_terminal_and_silent_without_a_console() -> None:
    output = io.StringIO()
    with Display(
        100, Console(file=output, force_terminal=True, width=140), metrics=METRICS
    ) as display:
        display.step(STEP)
    assert "29.9x" in output.getvalue()
    with Display(100, None) as display:
        display.step(STEP)
        display.say("nothing")
    assert "-" in describe_step({**STEP, "compression": None}, METRICS)
