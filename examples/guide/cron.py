"""A cron job: no event loop, one event, and the end."""

import sys

from channels.core import BackendException, SyncPublisher


def main(broker: str) -> None:
    with SyncPublisher(broker) as publisher:
        publisher.publish({"report": "ready"}, "reports")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BackendException as error:
        sys.exit(f"not published: {error}")
