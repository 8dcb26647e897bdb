"""The time that work would take on an idle machine, told from its wall and processor time on a busy one."""

from collections.abc import Sequence

import pytest

from atoll_stages.train.unloaded_time import UnloadedTime


def measured(pieces: Sequence[tuple[float, float]], *, on_cpu: bool = True, cpus: float = 2) -> UnloadedTime:
    """Pieces of work with these wall and processor times, by clocks that the test turns."""
    wall, cpu = 100.0, 7.0
    times = [(wall, cpu)]
    for more_wall, more_cpu in pieces:
        wall, cpu = wall + more_wall, cpu + more_cpu
        times.append((wall, cpu))
    walls, cpu_times = iter([item[0] for item in times]), iter([item[1] for item in times])
    work = UnloadedTime(on_cpu, cpus, wall_clock=lambda: next(walls), cpu_clock=lambda: next(cpu_times))
    work.begin()
    for _ in pieces:
        work.end()
    return work


def test_on_an_idle_machine_it_is_the_wall_time() -> None:
    work = measured([(1.0, 1.7)] * 20)
    assert work.total() == pytest.approx(20.0)
    assert work.median() == pytest.approx(1.0)
    assert work.cpu_before == 7.0


@pytest.mark.parametrize("load", [1.5, 3.0, 10.0])
def test_a_load_that_lasts_is_left_out(load: float) -> None:
    """The wall time grows with the load, the processor time hardly."""
    work = measured([(load, 1.75)] * 20)
    assert work.total() == pytest.approx(20.0, rel=0.15)


def test_a_load_that_comes_and_goes_is_left_out() -> None:
    work = measured([(1.0, 1.7), (9.0, 1.8), (1.0, 1.7), (4.0, 1.75)] * 10)
    assert work.total() == pytest.approx(40.0, rel=0.1)
    assert work.median() == pytest.approx(1.0, rel=0.1)


def test_work_that_cannot_keep_many_processors_busy_counts_as_it_was() -> None:
    """Small batches on 64 processors: what an idle machine shows is what it takes."""
    assert measured([(1.0, 5.0)] * 20, cpus=64).total() == pytest.approx(20.0)


def test_work_on_a_gpu_counts_by_the_wall_clock() -> None:
    assert measured([(1.0, 0.2)] * 20, on_cpu=False).total() == pytest.approx(20.0)


def test_a_single_disturbed_piece_does_not_move_the_typical_one() -> None:
    assert measured([(1.0, 1.7)] * 4 + [(60.0, 8.0)]).median() == pytest.approx(1.0)
