"""Publish from where no plugin runs: a cron job, a management script, a task queue."""

from channels.core import AsyncPublisher, SyncPublisher


def nightly(url: str) -> dict[str, str]:
    with SyncPublisher(url) as publisher:
        return publisher.publish({"report": "done"}, "news")


async def import_rows(url: str, rows: list[str]) -> None:
    async with AsyncPublisher(url) as publisher:
        for row in rows:
            await publisher.publish({"imported": row}, ["news", "imports"])
