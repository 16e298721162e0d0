"""The form of a checkpoint's manifest and of what stands beside its tensors, as typed data.

Digests find what was damaged; they do not say that values are of the right kind. Here every value
that training goes on with is checked, strictly: true is no number, "3" is no 3.
"""

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

MAX_WORLD = 1 << 16

Count = Annotated[int, Meta(ge=0, le=2**53)]
Size = Annotated[int, Meta(ge=1, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Rate = Annotated[float, Meta(ge=0, le=1e12)]
Text = Annotated[str, Meta(max_length=10_000)]
Scalar = str | int | float | bool | None


class Counts(Struct):
    """Of ``Counts`` and ``DenseTwin``; a former version's lack what has a default."""

    steps: Count
    samples: Count
    skipped: Count
    seconds: Seconds
    trials: Count = 0
    trial_samples: Count = 0
    trial_seconds: Seconds = 0.0
    steady_steps: Count = 0
    dense_bytes: Rate | Count = 0
    steady_dense_bytes: Rate | Count = 0


class Sampler(Struct):
    """Of ``MinibatchSampler``."""

    epoch: Count
    position: Count
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    minibatch: Size
    size: Size


class Scheduler(Struct):
    """Of torch's ``ExponentialLR``."""

    gamma: Annotated[float, Meta(gt=0, le=1)]
    base_lrs: list[Rate]
    last_epoch: Count
    _last_lr: list[Rate]
    _step_count: Count = 0
    _is_initial: bool = False
    _get_lr_called_within_step: bool = False


class Selection(Struct):
    """Of ``Selection``."""

    begun: Count
    untried: list[Size]
    tried: list[tuple[Size, float | None]]


class Decay(Struct):
    """Of ``Decay``."""

    best: float | None
    bad: Count
    fruitless: Count


class Group(Struct):
    """Of an optimiser's parameters; which of these there are, the optimiser says."""

    param_names: list[Text]
    params: list[Count]
    lr: Rate = 0.0
    initial_lr: Rate = 0.0
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    weight_decay: Rate = 0.0
    eps: Rate = 0.0
    damping: Rate = 0.0
    batch_size: Size | None = None
    adagrad: Text = "none"
    code: Any = None


class Run(Struct):
    """What is the same on every worker."""

    counts: Counts
    param_groups: Annotated[list[Group], Meta(min_length=1)]
    last_epoch: dict[str, Scalar]
    sampler: Sampler | None = None
    scheduler: Scheduler | None = None
    selection: Selection | None = None
    decay: Decay | None = None
    depth: Count | None = None
    model_parallel: Annotated[int, Meta(ge=1, le=MAX_WORLD)] = 1


class Manifest(Struct):
    """A whole manifest; what else it holds is for people."""

    recipe: dict[str, Scalar | list[Scalar]]
    data: Text
    shapes: dict[str, list[Count]]
    world: Annotated[int, Meta(ge=1, le=MAX_WORLD)]
    run: Run
    files: dict[str, Annotated[str, Meta(pattern=r"^[0-9]{1,18} [0-9a-f]{64}$")]]
    arithmetic: dict[str, Text] | None = None


class Results(Struct):
    """A finished run's summary.json; what else it holds is for people."""

    steps: Count
    samples: Count
    params_sha256: Text


class Traffic(Struct):
    """Of a ledger."""

    collectives: Count
    messages: Count
    bytes: Count


class SgdCounts(Struct):
    """What ``OneBitSGD`` stores beside its tensors; it compares the rest itself.

    By parameter, with None for one that is frozen: ``sequences``, ``scalars`` and ``kept``.
    """

    rank: Count
    world: Size
    ledger: dict[str, Traffic]
    axis: Text
    phase: Text
    samples_seen: Rate
    skips_in_a_row: Count
    sequences: list[Count | None]
    scalars: list[dict[str, Any] | None]
    kept: list[list[Text] | None]
    steps_taken: Count = 0  # version 0.1 did not count them
    bucket_groups: list[Count] = []


class SgdFacts(Struct):
    """What stands beside one worker's tensors in a run of minibatches."""

    owned: dict[str, tuple[Count, Count]]
    optimizer: SgdCounts
    steady_from: Traffic


class HessianFreeCounts(Struct):
    """What ``HessianFree`` stores beside its tensors."""

    rank: Count
    world: Size
    ledger: dict[str, Traffic]
    iteration: Count
    gauss_newton_next: bool
    passes: Rate
    loss: float | None
    curvature: Text


class HessianFreeFacts(Struct):
    """What stands beside one worker's tensors in a run of outer iterations."""

    owned: dict[str, tuple[Count, Count]]
    optimizer: HessianFreeCounts


def check_kinds(found: Any, form: type[Struct]) -> None:
    """Refuse what has not the form; numbers may be infinite or none.

    Args:
        found: from JSON.
        form: what it should be.

    Raises:
        ValueError: naming the field and what was expected there.
    """
    try:
        msgspec.convert(found, form, strict=True)
    except msgspec.ValidationError as error:
        raise ValueError(_in_our_words(str(error))) from None


def check_form(found: Any, form: type[Struct]) -> None:
    """Refuse what has not the form, and numbers that are infinite or none; see `check_kinds`."""
    check_kinds(found, form)
    # What a diverged run measured may be no number, and decides nothing.
    _check_finite({key: value for key, value in found.items() if key != "run"}, "")
    if isinstance(found.get("run"), dict):
        run = {key: value for key, value in found["run"].items() if key != "last_epoch"}
        _check_finite(run, "run")


def _in_our_words(text: str) -> str:
    r"""A sentence with the field at its beginning.

    >>> _in_our_words("Expected `int`, got `bool` - at `$.run.counts.steps`")
    'run.counts.steps: expected int, got bool'
    """
    what, _, where = text.partition(" - at ")
    what = what.replace("`", "")
    field = where.replace("`", "").removeprefix("$").removeprefix(".")
    return f"{field or 'the whole'}: {what[:1].lower()}{what[1:]}"


def _check_finite(found: Any, field: str) -> None:
    if isinstance(found, float) and not math.isfinite(found):
        raise ValueError(f"{field}: expected a finite number, got {found}")
    if isinstance(found, dict):
        for key, value in found.items():
            _check_finite(value, f"{field}.{key}" if field else key)
    elif isinstance(found, list):
        for value in found:
            _check_finite(value, field)
