"""A primary behind Sentinels: its URL, and which server it is, asked anew for each connection.

It keeps no connection to a Sentinel (as many as there are slots would be held), only which one has answered last.
"""

import contextlib
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import redis
from redis.connection import parse_url
from redis.sentinel import (
    MasterNotFoundError,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
FORM = "redis+sentinel://[user:password@]host[:port],host[:port],…/name[/db]"
PORT = 26379
PATIENCE = 0.5  # seconds at most for one Sentinel: the one asked first may have gone down together with the primary
_OWN = ("sentinel_username", "sentinel_password")  # in the query, where Sentinels ask for a password too
_PARTS = re.compile(  # the name as Sentinel's own settings allow it
    r"rediss?\+sentinel://([^/?]*@)?([^/@?]+)/([A-Za-z0-9_.\-]+)(?:/([0-9]*))?(?:\?(.*))?"
)

Hosts = tuple[tuple[str, int], ...]

_answered_last: dict[Hosts, tuple[str, int]] = {}


class Sentinels:
    """Those who know the primary. Threads and forked processes may share it."""

    def __init__(self, hosts: Hosts, options: Mapping[str, Any]) -> None:
        self._hosts = hosts
        self._options = options

    def discover_master(self, name: str) -> tuple[str, int]:
        """Where the primary is, from the first Sentinel that knows; MasterNotFoundError with what each has said.

        The method's name and the error are those that redis-py's pool expects.
        """
        said = []
        for host, port in sorted(self._hosts, key=lambda each: each != _answered_last.get(self._hosts)):
            try:
                with contextlib.closing(redis.Redis(host, port, **self._options)) as sentinel:
                    watched: Any = sentinel.sentinel_masters()
            except (redis.exceptions.RedisError, OSError) as error:
                said.append(f"{host}:{port} says {error}")
                continue
            state = watched.get(name)
            if state is None:
                said.append(f"{host}:{port} watches none of this name")
            elif not state["is_master"] or state["is_sdown"] or state["is_odown"]:
                said.append(f"{host}:{port} says {state['ip']}:{state['port']} is down")
            else:
                _answered_last[self._hosts] = host, port
                return str(state["ip"]), int(state["port"])
        raise MasterNotFoundError(f"no Sentinel knows a primary {name!r} that is up: {', '.join(said)}")


def pool(url: str, both: Mapping[str, Any], **options: Any) -> SentinelConnectionPool:
    """Connections to the primary of ``url``, not yet open; ValueError if the URL does not have the form.

    ``both``: redis-py's options for Sentinels and primary; ``options``: those for the primary alone.
    """
    hosts, name, found = _parsed(url)
    asked = {**both, **{key.removeprefix("sentinel_"): found.pop(key) for key in _OWN if key in found}}
    asked |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), min(PATIENCE, both["socket_timeout"]))
    kind = SentinelManagedConnection
    if url.startswith("rediss"):
        kind = SentinelManagedSSLConnection
        asked |= {"ssl": True, **{key: value for key, value in found.items() if key.startswith("ssl_")}}
    make: Any = SentinelConnectionPool  # redis-py has left it without types, as parse_url
    made: SentinelConnectionPool = make(
        name, Sentinels(hosts, asked), connection_class=kind, **{**both, **options, **found}
    )
    return made


def _parsed(url: str) -> tuple[Hosts, str, dict[str, Any]]:
    """The Sentinels, the primary's name, and what else the URL says, as redis-py's options."""
    parts = _PARTS.fullmatch(url)  # urllib takes no second host, least of all one in brackets
    if parts is None:
        raise ValueError(f"write {FORM}")
    who, places, name, database, query = parts.groups()
    hosts = tuple(_host(place) for place in places.split(","))
    parse: Any = parse_url
    found = parse(f"redis://{who or '@'}/{database or ''}?{query or ''}")
    return hosts, name, found


def _host(place: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(f"//{place.strip()}")
    if not parts.hostname:
        raise ValueError(f"write {FORM}")
    try:
        return parts.hostname, parts.port or PORT
    except ValueError:  # its message would quote what may belong to a password
        raise ValueError(f"write {FORM}") from None
