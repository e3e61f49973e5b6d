"""Work on several threads: order, errors, calls inside of calls."""

import threading
from collections.abc import Iterator

import pytest

from clutr.envs.workers import run_parts, use_workers, worker_count


@pytest.fixture(autouse=True)
def default_workers() -> Iterator[None]:
    """How many threads work is left as it was."""
    yield
    use_workers(None)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_results_come_in_the_order_of_the_parts(workers: int) -> None:
    use_workers(workers)
    assert worker_count() == workers
    assert run_parts(lambda x: x * x, list(range(20))) == [x * x for x in range(20)]
    assert run_parts(lambda x: x, []) == []


def test_threads_work_side_by_side() -> None:
    use_workers(2)
    both = threading.Barrier(2, timeout=60)
    assert sorted(run_parts(lambda _: both.wait(), [0, 1])) == [0, 1]  # one thread alone would wait in vain


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_is_raised_and_the_next_call_works(workers: int) -> None:
    use_workers(workers)

    def divide(x: int) -> float:
        return 1 / x

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run_parts(divide, [1, 0, 2])
    assert run_parts(divide, [1, 2]) == [1, 0.5]


def test_calls_inside_of_calls() -> None:
    use_workers(3)
    assert run_parts(lambda x: sum(run_parts(lambda y: x * y, [1, 2, 3, 4])), list(range(40))) == [
        10 * x for x in range(40)
    ]


def test_parts_share_the_threads() -> None:
    use_workers(5)
    assert run_parts(lambda _: worker_count(), [0, 1]) == [2, 2]
    assert run_parts(lambda _: worker_count(), list(range(9))) == [1] * 9
    assert worker_count() == 5


def test_fewer_than_one_is_refused() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        use_workers(0)
