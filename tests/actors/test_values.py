"""Small values: dead letters, registry, ids, settings, props, ports."""

from __future__ import annotations

import logging
import random
import uuid
from typing import Any

import pytest

from cajun_fast.actors import (
    Actor,
    ActorSettings,
    ActorSystem,
    Context,
    DeadLetter,
    DeadLetters,
    Directive,
    MailboxPolicy,
    Registry,
    random_ids,
    registry,
)
from cajun_fast.actors.props import make_props
from cajun_fast.clock import ManualClock
from cajun_fast.errors import ConfigError, NotRunningError, UnknownActorTypeError
from cajun_fast.ports import Address, Ports

from .conftest import Recorder

# ---- Dead letters ----------------------------------------------------------------------------------------


def test_dead_letters_are_counted_by_reason_and_the_last_ones_kept() -> None:
    clock = ManualClock()
    letters = DeadLetters(clock, keep=2)
    for n in range(5):
        letters.record("x", n, "expired" if n % 2 else "stopped")
    assert letters.counts == {"stopped": 3, "expired": 2}
    assert letters.total == 5
    assert [letter.message for letter in letters] == [3, 4]
    assert next(iter(letters)) == DeadLetter("x", 3, "expired", None, clock.now_ns())
    letters.clear()
    assert (len(letters), letters.total) == (0, 5)


def test_dead_letters_are_logged_at_a_bounded_rate_and_the_rest_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    letters = DeadLetters(clock, logged_per_second=2)
    for n in range(100):
        letters.record("x", n, "stopped")
    assert len(caplog.messages) == 2
    clock.advance(0.5)
    letters.record("x", 100, "stopped")
    assert len(caplog.messages) == 3
    assert caplog.messages[-1].endswith("and 98 more that were not logged")


def test_no_dead_letter_is_logged_at_rate_zero(caplog: pytest.LogCaptureFixture) -> None:
    letters = DeadLetters(ManualClock(), logged_per_second=0)
    letters.record("x", 1, "stopped")
    assert caplog.messages == []
    assert letters.total == 1


def test_subscribers_hear_of_each_and_a_failing_one_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    letters = DeadLetters(ManualClock())
    heard: list[Any] = []

    def failing(letter: DeadLetter) -> None:
        raise OSError("no")

    letters.subscribe(failing)
    end = letters.subscribe(lambda letter: heard.append(letter.message))
    letters.record("x", 1, "stopped")
    end()
    end()
    letters.record("x", 2, "stopped")
    assert heard == [1]
    assert "a subscriber to dead letters failed" in caplog.text


async def test_a_message_to_nobody_is_a_dead_letter(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        system.pid("nobody").tell("hello")
    assert [(letter.target, letter.message) for letter in system.dead_letters] == [("nobody", "hello")]
    assert "'nobody'" in caplog.text


# ---- Registry --------------------------------------------------------------------------------------------


def test_a_registered_name_finds_its_type() -> None:
    types = Registry()

    @types.actor("account", mailbox_capacity=7)
    class Account(Recorder):
        pass

    kind = types.lookup("account")
    assert kind.target is Account
    assert kind.props.mailbox_capacity == 7
    assert types.names() == ["account"]


def test_an_unknown_name_is_answered_with_the_known_ones_and_the_remedy() -> None:
    types = Registry()
    types.actor("account")(Recorder)
    with pytest.raises(UnknownActorTypeError, match=r"'acount'.*known: account.*--import"):
        types.lookup("acount")


def test_a_name_means_one_type_and_a_reloaded_module_replaces_its_own() -> None:
    types = Registry()

    def made() -> type[Actor]:
        class Account(Recorder):
            pass

        return Account

    types.actor("account")(made())
    again = made()
    types.actor("account")(again)
    assert types.lookup("account").target is again
    with pytest.raises(ConfigError, match=r"taken by .*Account"):
        types.actor("account")(Recorder)


@pytest.mark.parametrize(
    ("name", "props"), [("", {}), (7, {}), ("x", {"size": 3}), ("x", {"mailbox_capacity": -1})]
)
def test_a_wrong_registration_is_refused(name: Any, props: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Registry().actor(name, **props)


async def test_props_of_spawn_go_before_those_of_the_type_and_those_before_the_settings() -> None:
    @registry.actor("test-props", mailbox_capacity=3, supervision=Directive.STOP)
    class Typed(Recorder):
        pass

    class Derived(Typed):
        pass

    async with ActorSystem("n1", settings=ActorSettings(mailbox_policy=MailboxPolicy.FAIL)) as system:
        await system.spawn(Typed, "typed", mailbox_capacity=2)
        await system.spawn(Derived, "derived")
        typed, derived = system.cell("typed"), system.cell("derived")
        assert typed is not None
        assert derived is not None
        props = typed.recipe.props
        assert (props.mailbox_capacity, props.mailbox_policy) == (2, MailboxPolicy.FAIL)
        assert props.supervision.rules is Directive.STOP
        assert derived.recipe.props.mailbox_capacity == 10_000


# ---- The rest --------------------------------------------------------------------------------------------


def test_random_ids_come_from_the_generator_that_is_handed_in() -> None:
    first, second = random_ids(random.Random(7)), random_ids(random.Random(7))
    made = first("counter")
    assert made == second("counter")
    assert made != first("counter")
    assert uuid.UUID(made.removeprefix("counter-")).version == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mailbox_capacity", 0),
        ("mailbox_capacity", True),
        ("mailbox_policy", "block"),
        ("supervision", Directive.STOP),
        ("time_slice", 0),
        ("batch", 0),
        ("stop_timeout", -1.0),
        ("dead_letters_kept", -1),
        ("dead_letters_logged_per_second", "many"),
        ("waiting_limit", 0),
        ("waiting_bytes", 0),
        ("waiting_bytes_total", 0),
        ("max_asks", 0),
        ("guarantee", 2),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{field}={value!r}"):
        ActorSettings(**{field: value})


def test_a_policy_has_a_name() -> None:
    assert make_props(mailbox_policy="drop-oldest").mailbox_policy is MailboxPolicy.DROP_OLDEST


async def test_a_system_without_a_network_says_so() -> None:
    network = Ports().network
    with pytest.raises(NotRunningError, match="without a network"):
        await network.listen("127.0.0.1", 0, lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(NotRunningError, match="without a network"):
        await network.dial(Address("127.0.0.1", 1), lambda: None, timeout=1.0)  # type: ignore[arg-type, return-value]


async def test_what_an_empty_actor_receives_is_answered_with_what_is_missing(system: ActorSystem) -> None:
    class Empty(Actor):
        pass

    pid = await system.spawn(Empty)
    with pytest.raises(Exception, match="has no receive"):
        await pid.ask(1)
    for call in (Empty().get_state, lambda: Empty().set_state(1)):
        with pytest.raises(NotImplementedError, match="give it get_state"):
            call()
    assert Empty().pre_start() is Empty().post_stop() is Empty().pre_restart(OSError(), 1) is None


def test_an_actor_is_a_plain_object_in_a_test_without_a_system() -> None:
    actor = Recorder()
    context: Context = None  # type: ignore[assignment]
    assert actor.receive(1, context) == [1]
    with pytest.raises(NotRunningError):
        actor.context  # noqa: B018
