"""What browser and server say to each other, one JSON object per WebSocket message."""

from typing import Annotated, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
ClientId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-zA-Z-]{8,40}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
Strategy = Literal["backoff", "dropleft", "disconnect"]


class Person(msgspec.Struct, frozen=True, order=True):
    """Somebody in a room: one browser tab."""

    name: Name
    id: ClientId


# -- what is published to the channels -----------------------------------------------------


class Said(msgspec.Struct, tag="said"):
    """A message in a room."""

    who: Person
    text: Text
    at: float
    """Seconds since the epoch."""


class Drop(msgspec.Struct, tag="drop"):
    """One of many events that are published in a hurry."""

    who: Person
    flood: str
    number: int
    of: int


class Roster(msgspec.Struct):
    """Who is in which room of one server process."""

    process: str
    rooms: dict[str, list[Person]]


# -- from the browser ----------------------------------------------------------------------


class Join(msgspec.Struct, tag="join"):
    """The first frame: who it is, and where to go on."""

    who: Person
    since: dict[str, str] = {}
    """The id of the last event that the browser has, for each channel."""
    slow: Strategy | None = None
    """Be slow, with this strategy for the backlog."""


class Say(msgspec.Struct, tag="say"):
    text: Text


class Flood(msgspec.Struct, tag="flood"):
    pass


FromBrowser = Join | Say | Flood


# -- to the browser ------------------------------------------------------------------------


class Joined(msgspec.Struct, tag="joined"):
    """Subscribed: what follows are first the events that were missed."""

    room: str
    keeps_history: bool
    recovered: bool | None
    replayed: int
    positions: dict[str, str]


class Delivery(msgspec.Struct, tag="event"):
    channel: str
    id: str | None
    data: msgspec.Raw


class Missing(msgspec.Struct, tag="missing"):
    """At this place of the stream events of a channel are missing."""

    channel: str
    dropped: bool
    """Whether this client was too slow for them."""


class People(msgspec.Struct, tag="people"):
    here: list[Person]
    counts: dict[str, int]


class Backlog(msgspec.Struct, tag="backlog"):
    """How a slow client is doing."""

    waiting: int
    limit: int
    dropped: int
    handed: int
    replays: bool
    """Whether history is among what waits, which the limit does not count."""


class Refused(msgspec.Struct, tag="refused"):
    """A message that was not published."""

    text: str
    why: str


ToBrowser = Joined | Delivery | Missing | People | Backlog | Refused
