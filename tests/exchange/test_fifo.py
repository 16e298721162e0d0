import threading

import pytest

from thinwire.exchange import Fifo


def test_jobs_run_in_order_on_one_other_thread() -> None:
    fifo = Fifo("test")
    seen: list[tuple[int, int]] = []
    futures = [fifo.submit(lambda i=i: seen.append((i, threading.get_ident()))) for i in range(100)]
    for future in futures:
        future.result(timeout=10)
    fifo.close()
    assert [i for i, _ in seen] == list(range(100))
    assert {ident for _, ident in seen}.isdisjoint({threading.get_ident()})
    assert len({ident for _, ident in seen}) == 1


def test_an_exception_goes_to_its_own_caller() -> None:
    fifo = Fifo("test")
    bad = fifo.submit(lambda: 1 // 0)
    good = fifo.submit(lambda: 42)
    with pytest.raises(ZeroDivisionError):
        bad.result(timeout=10)
    assert good.result(timeout=10) == 42
    fifo.close()


def test_a_closed_one_takes_no_more_jobs() -> None:
    fifo = Fifo("test")
    last = fifo.submit(lambda: 42)
    fifo.close()
    fifo.close()
    assert last.done()
    with pytest.raises(RuntimeError, match="'test' takes no more jobs: it was closed"):
        fifo.submit(lambda: 43)


def test_the_thread_of_a_dropped_one_ends_after_its_last_job() -> None:
    fifo, gate = Fifo("test"), threading.Event()
    future = fifo.submit(lambda: gate.wait(20))
    thread = fifo._thread
    assert thread is not None
    del fifo
    assert not future.done()
    gate.set()
    thread.join(20)
    assert future.result(timeout=10)
    assert not thread.is_alive()
