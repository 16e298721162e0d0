import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from thinwire.models import fit_normalisation

INPUTS = arrays.arrays(
    "float32",
    st.tuples(st.integers(2, 20), st.integers(1, 5)),
    elements=st.floats(-100, 100, width=32),
)


@given(INPUTS)
def test_over_all_values_mean_is_0_and_variance_1(values: object) -> None:
    inputs = torch.as_tensor(values)
    made = fit_normalisation(inputs, "all")(inputs).double()
    assert made.mean().item() == pytest.approx(0, abs=1e-3)
    if inputs.std() > 1e-2:
        assert made.std().item() == pytest.approx(1, rel=1e-3)


@given(INPUTS)
def test_each_feature_has_mean_0_and_variance_1_or_is_constant(values: object) -> None:
    inputs = torch.as_tensor(values)
    made = fit_normalisation(inputs, "feature")(inputs).double()
    assert made.isfinite().all()
    deviations = inputs.double().std(dim=0)
    varying = deviations > 1e-2
    assert made.mean(0).abs().max() < 2e-3
    torch.testing.assert_close(
        made.std(0)[varying], torch.ones(int(varying.sum())).double(), rtol=1e-3, atol=0
    )


def test_features_that_are_constant_in_training_are_shifted_only() -> None:
    inputs = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    made = fit_normalisation(inputs, "feature")
    assert made(torch.tensor([[2.0, 6.0]])).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("by", ["all", "feature", "none"])
def test_one_training_sample_is_enough(by: str) -> None:
    inputs = torch.tensor([[1.0, 2.0, 3.0]])
    assert fit_normalisation(inputs, by)(inputs).isfinite().all()  # type: ignore[arg-type]


def test_none_changes_nothing() -> None:
    inputs = torch.rand(5, 3)
    assert torch.equal(fit_normalisation(inputs, "none")(inputs), inputs)
