"""Minibatch sizes chosen during a run: costs apart, trials leave nothing behind."""

import copy
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import RunRanks
from tests.train.test_resume import figures, recipe_of, run_once
from thinwire.exchange import shared_wire
from thinwire.optim import StepReport
from thinwire.report import load_run, read_events
from thinwire.train import Recipe, make_plan, prepare
from thinwire.train.counts import Stopwatch
from thinwire.train.fields import DecayFields, SelectionFields
from thinwire.train.minibatch import MinibatchTraining
from thinwire.train.selection import Selection
from thinwire.train.state import MinibatchState
from thinwire.train.tasks import Classification
from thinwire.train.trials import select

SELECTION = SelectionFields(every=180, trial=480, margin=0.05, largest=60)
FIELDS: dict[str, Any] = {
    "minibatch": 30,
    "selection": SELECTION,
    "exchange": {"start_samples": 0},
    "log_every": 3,
}


def training_of(data: Path, folder: Path, **fields: Any) -> MinibatchTraining:
    recipe = recipe_of(data, folder, **{**FIELDS, **fields})
    return MinibatchTraining(prepare("tiny", recipe, lambda _: None), 1)


def stored(state: MinibatchState) -> dict[str, Any]:
    """All that a checkpoint stores, but what a trial may change: where it stands, and costs."""
    shared, (tensors, facts) = state.shared(), state.own()
    del shared["selection"], facts["optimizer"]["ledger"]
    costs = ("seconds", "trials", "trial_samples", "trial_seconds")
    shared["counts"] = {k: v for k, v in shared["counts"].items() if k not in costs}
    model = {name: tensor.numpy().tobytes() for name, tensor in state.model.state_dict().items()}
    own = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return copy.deepcopy({"shared": shared, "facts": facts, "model": model, "own": own})


# --- one worker, in this process ------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "optimizer": {"adagrad": "aggregate"},
            "exchange": {"code": "float32", "start_samples": 0},
        },
        {"optimizer": {"adagrad": "local"}},
    ],
    ids=str,
)
def test_between_the_trials_a_run_is_what_it_was(
    idx_folder: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    training = training_of(idx_folder, tmp_path, **fields)
    state = training.state
    for _ in range(6):
        training.step()
    before, random = stored(state), torch.get_rng_state()
    assert training.expected_step_seconds() == 0
    state.counts.watch = Stopwatch(12.0)  # two seconds a step
    for tried, steps in (([15], 480 / 15), ([15, 30], 480 / 30)):
        assert training.expected_step_seconds() == pytest.approx(2 * steps), "so a stop can wait"
        assert training.step() == []
        assert [*state.selection.tried] == tried
        assert all(0 < accuracy <= 1 for accuracy in state.selection.tried.values())
        assert not training.evaluation_due
        assert stored(state) == before
        assert torch.equal(torch.get_rng_state(), random)
    assert (state.counts.trials, state.counts.trial_samples) == (2, 960)
    (told,) = [told for told in training.step() if told.event == "selection"]
    assert training.expected_step_seconds() == 0
    assert told.fields["sizes"] == [15, 30, 60]
    assert told.fields["trial_samples"] == 1440
    assert state.counts.steps == 7, "the last trial is followed by a step of the chosen size"
    assert state.counts.samples == 180 + told.fields["minibatch"]
    training.close()


def test_every_sample_of_an_epoch_is_trained_on_once(idx_folder: Path, tmp_path: Path) -> None:
    training = training_of(idx_folder, tmp_path)
    seen: list[Tensor] = []
    plain = training._train

    def record(minibatch: Tensor, totals: Tensor, **measure: bool) -> Any:
        if totals is training.state.since_event:
            seen.append(minibatch)
        return plain(minibatch, totals, **measure)

    training._train = record  # type: ignore[method-assign]
    chosen = []
    while not training.finished:
        chosen += [t.fields["minibatch"] for t in training.step() if t.event == "selection"]
    assert len(chosen) == 6, "at 180, 360 ... 1080 samples"
    assert {len(minibatch) for minibatch in seen} >= {30, *chosen}
    samples = torch.cat(seen)
    for epoch in (samples[:600], samples[600:]):
        assert torch.equal(epoch.sort().values, torch.arange(600))
    training.close()


def test_no_size_is_tried_in_the_cold_start(idx_folder: Path, tmp_path: Path) -> None:
    for mode in ("serial", "float32"):
        exchange = {"start": mode, "start_samples": 420}
        training = training_of(idx_folder, tmp_path, exchange=exchange)
        while not training.state.counts.trials:
            training.step()
        assert training.state.counts.samples == 420
        training.close()


def raise_error(state: MinibatchState, totals: Tensor) -> list[StepReport]:
    raise FloatingPointError


def skip(state: MinibatchState, totals: Tensor) -> list[StepReport]:
    return [StepReport("steady", 1.0, (0, "weight"))]


def lose(state: MinibatchState, totals: Tensor) -> list[StepReport]:
    totals[0] = math.nan
    return []


def blow_up(state: MinibatchState, totals: Tensor) -> list[StepReport]:
    next(iter(state.model.parameters())).data[0, 0] = math.inf
    return []


@pytest.mark.parametrize("fail", [raise_error, skip, lose, blow_up])
def test_a_trial_that_is_not_finite_fails(idx_folder: Path, tmp_path: Path, fail: Any) -> None:
    training = training_of(idx_folder, tmp_path)
    state, wire = training.state, shared_wire(None, training.ledger)
    for _ in range(6):
        training.step()
    before = stored(state)

    def train(minibatch: Tensor, totals: Tensor) -> list[StepReport]:
        """Perfect answers, but large minibatches fail; as in the run they come to an end."""
        totals[2] += len(minibatch)
        if state.sampler.minibatch > 30:
            return fail(state, totals)  # type: ignore[no-any-return]
        return [StepReport("steady", len(minibatch))]

    told = [select(state, SELECTION, Classification(10), wire, train) for _ in range(3)]
    assert told[:2] == [[], []]
    assert told[2][0].fields["accuracies"] == [1.0, 1.0, None]
    assert state.sampler.minibatch == 30
    assert "60: failed" in told[2][0].line
    assert stored(state) == before
    training.close()


def test_sizes_grow_no_faster_and_no_further_than_allowed(idx_folder: Path, tmp_path: Path) -> None:
    """With a margin of 1 every size does: the largest is taken each time."""
    fields = SelectionFields(every=60, trial=640, margin=1.0, growth=3.0, largest=80)
    training = training_of(idx_folder, tmp_path, minibatch=10, selection=fields)
    chosen = []
    while not training.finished:
        chosen += [t.fields["minibatch"] for t in training.step() if t.event == "selection"]
    assert chosen[:3] == [30, 80, 80]
    assert set(chosen[3:]) == {80}
    training.close()


@pytest.mark.parametrize("code", ["sign", "float32"])
def test_a_run_stopped_between_trials_is_the_same_run(
    idx_folder: Path, tmp_path: Path, code: str
) -> None:
    fields = {**FIELDS, "exchange": {"code": code, "start_samples": 0}, "optimizer": {"lr": 0.05}}
    straight = run_once(0, 1, idx_folder, tmp_path / "a", None, fields)[0]
    assert straight is not None
    resumed, starts = None, 0
    while resumed is None and starts < 50:
        resumed, agreed, _ = run_once(0, 1, idx_folder, tmp_path / "b", 1, fields)
        starts += 1
        assert agreed == (0 if resumed else signal.SIGTERM)
    assert resumed is not None, "each start gets further, also where it is stopped after a trial"
    assert starts > 10
    del straight["trial_seconds"], resumed["trial_seconds"]
    assert figures(resumed) == figures(straight)
    one, other = (load_run(tmp_path / name) for name in "ab")
    assert len(other.selections) == len(one.selections) == 6
    assert straight["trials"] == sum(len(event["sizes"]) for event in one.selections)
    for event, expected in zip(other.selections, one.selections, strict=True):
        for key in ("step", "samples", "minibatch", "sizes", "accuracies", "trial_samples"):
            assert event[key] == expected[key]


def test_a_checkpoint_that_knows_no_selection_is_taken_up(idx_folder: Path, tmp_path: Path) -> None:
    assert run_once(0, 1, idx_folder, tmp_path, 3, {})[1] == signal.SIGTERM
    job = prepare("tiny", recipe_of(idx_folder, tmp_path), lambda _: None)
    checkpoint = make_plan(job).checkpoint
    assert checkpoint is not None
    run = checkpoint.facts["run"]
    del run["selection"], run["decay"], run["counts"]["trials"]
    state = MinibatchState(job, 1)
    state.restore(checkpoint, 0, 1)
    assert state.selection == Selection()
    assert checkpoint.progress == state.counts.progress == (4, 0)
    state.optimizer.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"every": -1}, "selection.every: expected >= 0, got -1"),
        ({"margin": math.nan}, "selection.margin: expected >= 0, got nan"),
        ({"growth": 0.5}, r"selection.growth: expected >= 1, got 0\.5"),
        ({"largest": 0}, "selection.largest: expected >= 1, got 0"),
        ({"trial": 100, "largest": 51}, "selection.trial: expected >= 408, got 100"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelectionFields(**fields)


def test_the_first_size_must_be_allowed() -> None:
    fields = SelectionFields(every=1000, largest=512)
    with pytest.raises(
        ValueError, match=r"selection\.largest: expected >= minibatch, which is 1024"
    ):
        Recipe(selection=fields)
    with pytest.raises(
        ValueError, match=r"selection\.every: algorithm hessian-free does not use it"
    ):
        Recipe(algorithm="hessian-free", selection=SelectionFields(every=5))


# --- over real ranks ------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_agree_and_another_number_of_them_goes_on(
    run_ranks: RunRanks, idx_folder: Path, tmp_path: Path
) -> None:
    """Stopped after the first of three trials; then two workers, or one, try what is left."""
    fields = {
        **FIELDS,
        "optimizer": {"adagrad": "aggregate", "lr_decay": 1.0},
        "decay": DecayFields(held_out=100),
    }
    straight = run_ranks(2, run_once, idx_folder, tmp_path / "a", None, fields)[0][0]
    results = run_ranks(2, run_once, idx_folder, tmp_path / "b", 6, fields)
    assert {agreed for _, agreed, _ in results} == {signal.SIGTERM}
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    resumed = run_ranks(2, run_once, idx_folder, tmp_path / "b", None, fields)[0][0]
    for summary in (straight, resumed):
        assert summary["replicas_identical"]
        del summary["trial_seconds"]
    assert figures(resumed) == figures(straight)
    traffic = {part["stage"]: part["collectives"] for part in straight["traffic"]}
    assert traffic["trial updates"] == traffic["trial gradients"] > 0
    assert straight["trial_bytes_per_worker"] > 0
    events = read_events(tmp_path / "a" / "events.jsonl")
    sizes = {size for e in events if e["event"] == "selection" for size in e["sizes"]}
    assert sizes
    assert all(size % 2 == 0 for size in sizes)
    alone, _, said = run_once(0, 1, idx_folder, tmp_path / "c", None, fields)
    assert "step 6, written by 2 workers" in said
    assert alone is not None
    assert alone["trials"] > 10
    first = load_run(tmp_path / "c").selections[0]
    assert first["sizes"] == [14, 30, 60], "those the two workers began with"
