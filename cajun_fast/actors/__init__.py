"""Actors: state that is changed by one message at a time. ``ActorSystem`` runs them on one node."""

from cajun_fast._core.context import Context, Reply
from cajun_fast.actors.actor import Actor
from cajun_fast.actors.dead_letters import DeadLetter, DeadLetters
from cajun_fast.actors.deaths import Terminated
from cajun_fast.actors.groups import Group
from cajun_fast.actors.ids import counted_ids, random_ids
from cajun_fast.actors.ports import LocalRouter, Router
from cajun_fast.actors.props import MailboxPolicy, Props
from cajun_fast.actors.registry import Registry, actor, lookup, registry
from cajun_fast.actors.settings import ActorSettings
from cajun_fast.actors.supervision import Directive, Supervision
from cajun_fast.actors.system import ActorSystem, SystemView
from cajun_fast.actors.timers import Timer

__all__ = [
    "Actor",
    "ActorSettings",
    "ActorSystem",
    "Context",
    "DeadLetter",
    "DeadLetters",
    "Directive",
    "Group",
    "LocalRouter",
    "MailboxPolicy",
    "Props",
    "Registry",
    "Reply",
    "Router",
    "Supervision",
    "SystemView",
    "Terminated",
    "Timer",
    "actor",
    "counted_ids",
    "lookup",
    "random_ids",
    "registry",
]
