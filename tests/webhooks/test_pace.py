"""How much an endpoint is sent at once, on a clock of the test's own."""

from control_plane.delivery.pace import Pace


def test_who_has_not_answered_yet_gets_two_and_more_with_each_answer():
    pace = Pace()
    assert pace.limit(10, None, 0) == 2
    for answers in range(1, 20):
        pace.answered(0)
        assert pace.limit(10, None, 0) == min(2 + answers, 10)
    assert pace.limit(1, None, 0) == 1


def test_who_answers_no_more_gets_four_until_it_does():
    pace = Pace()
    for _ in range(100):
        pace.answered(10)
    assert pace.limit(50, 10, 11) == 50
    assert pace.limit(50, 10, 11.1) == 4
    # Nothing was on its way: it could not answer.
    assert pace.limit(50, None, 60) == 50
    assert pace.limit(50, 60, 60.5) == 50
    pace.answered(61)
    assert pace.limit(50, 60, 61.9) == 50


def test_who_did_not_answer_in_time_begins_anew():
    pace = Pace()
    for _ in range(100):
        pace.answered(0)
    pace.hung()
    assert pace.limit(50, None, 0) == 2
    pace.answered(1)
    assert pace.limit(50, None, 1) == 3
