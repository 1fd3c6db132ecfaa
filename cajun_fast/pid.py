"""The handle on an actor, under the name that the rest of the package imports it by."""

from cajun_fast._core.lane import Pid

__all__ = ["Pid"]
