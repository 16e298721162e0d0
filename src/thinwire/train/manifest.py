"""The form of a checkpoint's manifest and of what stands beside its tensors, as typed data.

Digests find what was damaged; they do not say that values are of the right kind. Here every value
that training goes on with is checked, strictly: true is no number, "3" is no 3.
"""

import math
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

MAX_WORLD = 1 << 16

Count = Annotated[int, Meta(ge=0, le=2**53)]
Size = Annotated[int, Meta(ge=1, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Rate = Annotated[float, Meta(ge=0, le=1e12)]
Text = Annotated[str, Meta(max_length=10_000)]
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"
# Of files, parameters and fields: one line, so that messages can say it.
Name = Annotated[str, Meta(pattern=_PRINTABLE, max_length=10_000)]
# No tuple beside a text: msgspec 0.22 has the garbage collector crash on such a union.
Both = Annotated[list[Text], Meta(min_length=2, max_length=2)]
Phase = Annotated[str, Meta(pattern="^(serial|dense|steady)$")]
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


class Sampler(Struct, forbid_unknown_fields=True):
    """Of ``MinibatchSampler``."""

    epoch: Count
    position: Count
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    minibatch: Size
    size: Size


class Scheduler(Struct, forbid_unknown_fields=True):
    """Of torch's ``ExponentialLR``, which takes every field as an attribute of its own."""

    gamma: Annotated[float, Meta(gt=0, le=1)]
    base_lrs: Annotated[list[Rate], Meta(min_length=1)]
    last_epoch: Count
    _last_lr: Annotated[list[Rate], Meta(min_length=1)]
    verbose: bool | str = False  # until torch 2.7
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
    code: Text | Both | None = None


class Run(Struct):
    """What is the same on every worker."""

    counts: Counts
    param_groups: Annotated[list[Group], Meta(min_length=1)]
    last_epoch: dict[str, Scalar]
    sampler: Sampler | UnsetType = UNSET
    scheduler: Scheduler | UnsetType = UNSET
    selection: Selection | UnsetType = UNSET
    decay: Decay | UnsetType = UNSET
    depth: Count | UnsetType = UNSET
    inner_lr: Rate | UnsetType = UNSET
    model_parallel: Annotated[int, Meta(ge=1, le=MAX_WORLD)] = 1


class Manifest(Struct):
    """A whole manifest; what else it holds is for people."""

    recipe: dict[Name, Scalar | list[Scalar]]
    data: Text
    shapes: dict[Name, list[Count]]
    world: Annotated[int, Meta(ge=1, le=MAX_WORLD)]
    run: Run
    files: dict[Name, Annotated[str, Meta(pattern=r"^[0-9]{1,18} [0-9a-f]{64}$")]]
    arithmetic: dict[str, Text] | None = None


class Results(Struct):
    """A finished run's summary.json; what else it holds is for people."""

    steps: Count
    samples: Count
    params_sha256: Text


class Traffic(Struct, forbid_unknown_fields=True):
    """Of a ledger."""

    collectives: Count
    messages: Count
    bytes: Count


class Pending(Struct, forbid_unknown_fields=True):
    """Of the report of a step whose update is in flight."""

    phase: Phase
    samples: Rate
    nonfinite: tuple[Count, Text] | None
    residual_ratio: tuple[float, float] | None = None
    gradient_norm: float | None = None


class SgdCounts(Struct):
    """What ``OneBitSGD`` stores beside its tensors, by position of the parameters.

    ``LocalSteps`` stores the same of its anchor, and where the worker is in its round.
    """

    rank: Count
    world: Size
    ledger: dict[str, Traffic]
    axis: Text
    phase: Phase
    samples_seen: Rate
    skips_in_a_row: Count
    sequences: list[Count | None]
    kept: list[list[Text] | None]
    scalars: list[dict[str, float] | None]
    steps_taken: Count = 0  # version 0.1 did not count them
    pending: Pending | None = None
    model_rank: Count = 0
    model_world: Size = 1
    sharded: list[Count | None] = []
    steps_in_round: Count | UnsetType = UNSET
    moved_samples: Rate | UnsetType = UNSET


class SgdFacts(Struct):
    """What stands beside one worker's tensors in a run of minibatches."""

    owned: dict[Name, tuple[Count, Count]]
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

    owned: dict[Name, tuple[Count, Count]]
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
    what = what.replace("`", "").replace(f"str matching regex {_PRINTABLE!r}", "a printable name")
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
