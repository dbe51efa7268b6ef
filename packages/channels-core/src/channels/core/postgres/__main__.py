"""Print the SQL of the tables: ``python -m channels.core.postgres > migration.sql``."""

import argparse
import sys

from channels.core.postgres._schema import schema_sql


def main() -> None:
    """Print it for the options given."""
    parser = argparse.ArgumentParser(prog="python -m channels.core.postgres", description=__doc__)
    parser.add_argument("--schema", default="channels", help="default: %(default)s")
    parser.add_argument("--no-history", action="store_true", help="for backends with history=0")
    parser.add_argument("--no-notify", action="store_true", help="for backends with notify=False")
    parser.add_argument("--grant-to", metavar="ROLE", help="grant a role what a backend needs")
    options = parser.parse_args()
    sys.stdout.write(
        schema_sql(
            options.schema,
            history=not options.no_history,
            notify=not options.no_notify,
            grant_to=options.grant_to,
        )
    )


if __name__ == "__main__":
    main()
