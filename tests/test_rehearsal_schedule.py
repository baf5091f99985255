"""What is due, and the days until the interview: held against FSRS itself and against the calendar."""

from datetime import UTC, date, datetime, timedelta

import fsrs
import pytest
import rehearsing
from hypothesis import given, settings
from hypothesis import strategies as st
from rehearsing import NOON, review

from helpers.rehearsal import progress, schedule
from helpers.rehearsal.questions import open_bank
from helpers.rehearsal.state import Plan


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return open_bank(rehearsing.small_bank(tmp_path_factory.mktemp("bank")))


def days(number):
    return timedelta(days=number)


def test_the_due_date_is_that_of_fsrs_replayed_from_the_reviews():
    rule = fsrs.Scheduler(learning_steps=(), relearning_steps=(), maximum_interval=21, enable_fuzzing=False)
    card = fsrs.Card(card_id=7)
    reviews = []
    for rating, moment in ((3, NOON), (3, NOON + days(3)), (1, NOON + days(12)), (4, NOON + days(13))):
        card, _ = rule.review_card(card, fsrs.Rating(rating), review_datetime=moment)
        reviews.append(review("data-explain", moment, rating))
    memory = schedule.memories(reviews[::-1], Plan())["data-explain"]
    assert memory.due == card.due
    assert memory.card.stability == pytest.approx(card.stability)


def test_a_forgotten_question_comes_back_before_a_known_one():
    reviews = [review("data-explain", NOON, 1), review("data-compare", NOON, 4)]
    memories = schedule.memories(reviews, Plan())
    assert NOON < memories["data-explain"].due < memories["data-compare"].due <= NOON + days(21)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), min_size=1, max_size=8),
    st.integers(2, 90),
    st.text("abcdef", min_size=1, max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_before_the_interview_every_question_comes_once_more(reviewed, left, name):
    """Whatever the answers were: due after the last review, and not later than the eve of the interview."""
    interview = NOON.date() + days(left)
    reviews = [
        review(name, NOON + days(day) + timedelta(minutes=n), rating) for n, (day, rating) in enumerate(reviewed)
    ]
    memory = schedule.memories(reviews, Plan(interview))[name]
    uncapped = schedule.memories(reviews, Plan())[name]
    assert memory.due <= uncapped.due
    assert memory.due > memory.last
    eve = interview - days(1)
    if memory.last.astimezone().date() < eve - days(schedule.LAST_LOOK_DAYS):
        assert memory.due.astimezone().date() <= eve
    assert memory.card.stability == uncapped.card.stability, "the date changes when, not what is remembered"


def test_the_last_looks_are_spread_over_the_last_week(bank):
    interview = NOON.date() + days(30)
    reviews = [review(name, NOON + days(20), 4) for name in bank]
    due = {memory.due.astimezone().date() for memory in schedule.memories(reviews, Plan(interview)).values()}
    assert len(due) >= 4
    assert max(due) <= interview - days(1)


def test_after_the_interview_the_date_is_no_cap():
    reviews = [review("data-explain", NOON, 4)]
    plain = schedule.memories(reviews, Plan())["data-explain"].due
    assert schedule.memories(reviews, Plan(NOON.date() - days(3)))["data-explain"].due == plain


def test_today_has_changed_then_due_then_new_questions(bank):
    reviews = [review("data-explain", NOON - days(30)), review("data-compare", NOON - days(2), 1),
               review("data-design", NOON - days(40), rev=0), review("inference-explain", NOON, 4)]  # fmt: skip
    waiting = schedule.waiting(bank, reviews, Plan(), now=NOON)
    why = [(one.question, one.why) for one in waiting]
    assert why[0] == ("data-design", "changed")
    assert {question for question, why in why if why == "due"} == {"data-explain", "data-compare"}
    assert "inference-explain" not in dict(why)
    assert len(why) == 35
    assert [w for _, w in why] == sorted((w for _, w in why), key=["changed", "due", "new"].index)


def test_new_questions_take_turns_over_the_areas_and_the_weakest_begins(bank):
    reviews = [review("inference-explain", NOON, score=0.9), review("overfitting-explain", NOON, score=0.1)]
    new = schedule.new_ones(bank, reviews)
    areas = [bank[name].area for name in new]
    assert len({*areas[:6]}) == 6
    assert areas.index("overfitting") < areas.index("inference")
    assert len(new) == 34


@pytest.mark.parametrize("minutes", [1, 10, 20, 45, 600])
def test_today_fills_its_minutes_and_not_more(bank, minutes):
    asked = schedule.due_today(bank, [], Plan(minutes_a_day=minutes), now=NOON)
    total = sum(one.minutes for one in asked)
    assert asked, "while there is any time, one question is asked"
    assert total <= minutes or len(asked) == 1
    assert total > minutes - 6 or len(asked) == len(bank)


def test_what_was_rehearsed_today_counts_and_an_interview_does_not(bank):
    used = [review("data-explain", NOON, seconds=600.0)]
    asked = schedule.due_today(bank, used, Plan(minutes_a_day=20), now=NOON)
    assert sum(one.minutes for one in asked) <= 10
    mock = [review("data-explain", NOON, seconds=600.0, mock="a")]
    assert sum(one.minutes for one in schedule.due_today(bank, mock, Plan(minutes_a_day=20), now=NOON)) > 10
    assert schedule.due_today(bank, [review("x", NOON, seconds=1300.0)], Plan(minutes_a_day=20), now=NOON) == []


def test_the_days_ahead_go_to_the_eve_and_count_each_new_question_once(bank):
    plan = Plan(NOON.date() + days(12), 60)
    ahead = schedule.days_ahead(bank, [], plan, now=NOON)
    assert [day.date for day in ahead] == [NOON.date() + days(n) for n in range(12)]
    assert sum(day.new for day in ahead) == len(bank)
    assert all(day.minutes <= 60 for day in ahead)
    assert ahead[0].again == 0
    assert sum(day.again for day in ahead) > 0


def test_without_a_date_two_weeks_are_shown_and_a_far_date_ends_somewhere(bank):
    assert len(schedule.days_ahead(bank, [], Plan(), now=NOON)) == 14
    assert len(schedule.days_ahead(bank, [], Plan(NOON.date() + days(900), 1), now=NOON)) == schedule.HORIZON_DAYS


# --- statistics ----------------------------------------------------------------------------------------------


def test_retention_counts_only_what_was_seen_on_another_day_before():
    reviews = [review("a", NOON), review("a", NOON + timedelta(hours=1), 1)]  # the same day: no test of memory
    reviews += [review("a", NOON + days(2), 3), review("a", NOON + days(6), 1), review("b", NOON + days(6), 1)]
    found = progress.retention(reviews)
    assert found.reviews == 2
    assert found.known == 0.5
    assert 0 < found.predicted < 1
    assert progress.retention(reviews[:1]) is None


def test_the_load_puts_what_is_overdue_on_today(bank):
    reviews = [review("data-explain", NOON - days(60), 3), review("data-compare", NOON, 4)]
    load = progress.load(bank, reviews, Plan(), now=NOON)
    assert list(load) == [NOON.date() + days(n) for n in range(14)]
    assert load[NOON.date()] == 1
    assert sum(load.values()) <= 2


def test_the_weakest_area_stands_first_and_unseen_ones_count_as_not_remembered(bank):
    reviews = [review(f"data-{kind}", NOON, 4, score=1.0) for kind in rehearsing.KINDS]
    found = progress.areas(bank, reviews, now=NOON)
    assert (found[-1].area, found[-1].seen, found[-1].remembered) == ("data", 6, pytest.approx(1.0))
    assert {one.remembered for one in found[:-1]} == {0.0}


def test_the_picture_shows_the_areas_and_the_load(bank):
    left, right = progress.draw(bank, [review("data-explain", NOON, score=0.7)], Plan(), now=NOON)
    assert left.get_xlabel() == "mean score of the latest answers"
    assert sum(bar.get_height() for bar in right.patches) == 1
    assert "Weakest area" in left.get_title(loc="left")


def test_local_days_begin_at_local_midnight():
    start = schedule.start_of(date(2026, 11, 25))
    assert start.tzinfo == UTC
    assert start.astimezone() == datetime(2026, 11, 25).astimezone()
