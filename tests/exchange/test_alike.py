"""Workers that were not given the same thing are told so, all of them, with the field."""

import pytest

from thinwire.exchange import DifferentWorkersError, Ledger, check_alike, own_wire, simulate


def test_the_same_facts_pass_and_cost_32_bytes_a_worker() -> None:
    def work(rank: int, world: int) -> int:
        ledger = Ledger()
        check_alike({"lr": 0.1, "shapes": ((2, 3), (3,))}, own_wire(None, None, ledger), "test")
        return ledger.total("agreement").bytes

    assert simulate(4, work) == [3 * 32] * 4


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ([{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.1}], "lr .* 0.1 on workers 0, 2; 0.2 on worker 1"),
        ([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1, "b": 4}], "^test: b is not"),
        ([{"a": 1, "names": "x" * 500}, {"a": 1}, {"a": 1}], "nothing on workers 1, 2"),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 2}], "order"),
    ],
)
def test_every_worker_is_told_the_first_field_that_differs(
    facts: list[dict[str, object]], said: str
) -> None:
    def work(rank: int, world: int) -> None:
        with pytest.raises(DifferentWorkersError, match=said):
            check_alike(facts[rank], own_wire(None, None, Ledger()), "test")

    simulate(3, work)
