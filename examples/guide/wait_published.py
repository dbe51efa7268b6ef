from channels.core import BackendUnavailable, ChannelsPlugin


async def place_order(channels: ChannelsPlugin, order: dict[str, str]) -> str | None:
    """Return the id of the event, or None where the broker cannot be reached."""
    try:
        ids = await channels.wait_published(order, ["orders"])
    except BackendUnavailable:
        return None
    return ids["orders"]
