"""Finding the nodes of a cluster: where they can be dialled. Who lives is said by the store alone."""

from cajun_fast.discovery.base import Discovery, StaticDiscovery
from cajun_fast.discovery.dns import DnsDiscovery
from cajun_fast.discovery.store import StoreDiscovery

__all__ = ["Discovery", "DnsDiscovery", "StaticDiscovery", "StoreDiscovery"]
