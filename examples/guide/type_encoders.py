from dataclasses import dataclass
from fractions import Fraction

from channels.core import ChannelsPlugin, MemoryChannelsBackend


@dataclass
class Share:
    owner: str
    part: Fraction


channels = ChannelsPlugin(
    MemoryChannelsBackend(),
    channels=["shares"],
    type_encoders={Fraction: str},
)
