"""Quota, the 60-second rule, push registration and call limits, as OpenD applies them."""

from __future__ import annotations

import pytest

from hk_tick_collector.opend_sim.limits import RateLimiter
from hk_tick_collector.opend_sim.subscriptions import Refused, SubscriptionBook
from tests.clock import ManualClock

TENCENT, HSBC, AIA = ("HK.00700", 4), ("HK.00005", 4), ("HK.01299", 4)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(0)


@pytest.fixture
def book(clock: ManualClock) -> SubscriptionBook:
    return SubscriptionBook(monotonic=clock.monotonic)


def test_quota_counts_a_code_and_type_once_for_all_connections(book: SubscriptionBook) -> None:
    book.subscribe(1, [TENCENT, HSBC], 2, True)
    book.subscribe(2, [TENCENT], 2, True)
    assert book.used() == 2
    assert book.keys_of(2) == [TENCENT]
    with pytest.raises(Refused, match="quota exceeded: 1 more wanted, 0 of 2 left"):
        book.subscribe(2, [TENCENT, AIA], 2, True)
    assert book.keys_of(2) == [TENCENT]


def test_quota_frees_when_the_last_connection_drops_a_code(book: SubscriptionBook) -> None:
    book.subscribe(1, [TENCENT], 1, True)
    book.subscribe(2, [TENCENT], 1, True)
    book.drop_connection(1)
    assert book.used() == 1
    assert book.push_to(TENCENT) == (2,)
    book.drop_connection(2)
    assert book.used() == 0
    assert book.push_to(TENCENT) == ()


def test_a_subscription_is_held_for_sixty_seconds(book: SubscriptionBook, clock: ManualClock) -> None:
    book.subscribe(1, [TENCENT], 9, True)
    clock.advance(30)
    book.subscribe(1, [HSBC], 9, True)
    clock.advance(31)
    with pytest.raises(Refused, match=r"HK\.00005 was subscribed 31 s ago; .* after 60 s"):
        book.unsubscribe(1, [TENCENT, HSBC])
    assert book.holds(1, TENCENT)
    clock.advance(29)
    book.unsubscribe(1, [TENCENT, HSBC])
    assert book.used() == 0


def test_subscribing_again_does_not_start_the_sixty_seconds_again(book: SubscriptionBook, clock: ManualClock) -> None:
    book.subscribe(1, [TENCENT], 9, True)
    clock.advance(60)
    book.subscribe(1, [TENCENT], 9, True)
    book.unsubscribe(1, [TENCENT])
    assert not book.holds(1, TENCENT)


def test_only_what_is_held_can_be_given_back_or_registered(book: SubscriptionBook) -> None:
    book.subscribe(1, [TENCENT], 9, True)
    with pytest.raises(Refused, match=r"HK\.00700 is not subscribed"):
        book.unsubscribe(2, [TENCENT])
    with pytest.raises(Refused, match="subscribe before"):
        book.register_push(2, [TENCENT], True)


def test_push_registration_is_per_connection(book: SubscriptionBook) -> None:
    book.subscribe(1, [TENCENT], 9, False)
    book.subscribe(2, [TENCENT], 9, True)
    assert book.push_to(TENCENT) == (2,)
    book.register_push(1, [TENCENT], True)
    assert book.push_to(TENCENT) == (1, 2)
    book.subscribe(1, [TENCENT], 9, None)
    assert book.push_to(TENCENT) == (1, 2)
    book.register_push(2, [TENCENT], False)
    assert book.push_to(TENCENT) == (1,)


def test_calls_are_limited_over_thirty_seconds(clock: ManualClock) -> None:
    limiter = RateLimiter({3202: 2}, clock.monotonic)
    for _ in range(50):
        limiter.admit(3010)
    limiter.admit(3202)
    clock.advance(20)
    limiter.admit(3202)
    with pytest.raises(Refused, match="3202 may be called 2 times in 30 s; next call in 10 s"):
        limiter.admit(3202)
    clock.advance(10)
    limiter.admit(3202)
    with pytest.raises(Refused):
        limiter.admit(3202)
