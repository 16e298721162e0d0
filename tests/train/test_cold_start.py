"""A cold start and the length of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.test_resume import recipe_of
from thinwire.train import prepare, train
from thinwire.train.display import Display
from thinwire.train.minibatch import MinibatchTraining


def test_a_run_that_never_leaves_its_cold_start_has_no_steady_step(
    idx_folder: Path, tmp_path: Path
) -> None:
    job = prepare("tiny", recipe_of(idx_folder, tmp_path, epochs=1), lambda _: None)
    cold = replace(job.recipe.exchange, start="serial", start_samples=10**6)
    job = replace(job, recipe=replace(job.recipe, exchange=cold))
    summary = train(job, Display(1, None))
    assert summary is not None
    assert summary["times"] is None


def test_a_serial_start_may_last_as_long_as_the_run(idx_folder: Path, tmp_path: Path) -> None:
    job = prepare("tiny", recipe_of(idx_folder, tmp_path, epochs=2), lambda _: None)
    samples = 2 * len(job.dataset.train)
    for start, refused in ((samples, False), (samples + 1, True)):
        cold = replace(job.recipe.exchange, start="serial", start_samples=start)
        of_two = replace(job, recipe=replace(job.recipe, exchange=cold))
        if refused:
            with pytest.raises(ValueError, match=r"exchange\.start_samples: .* at most the 1,"):
                MinibatchTraining(of_two, 2)
        else:
            MinibatchTraining(of_two, 2).close()
