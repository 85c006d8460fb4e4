"""`python -m tests.broker`: a broker to try things on by hand, until Ctrl-C."""

from __future__ import annotations

import signal
import sys

import click

from tests.broker.broker import Broker
from tests.broker.installation import NoBroker


def main() -> int:
    """Print the address alone on the first line, so that a script can read it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        broker = Broker()
    except NoBroker as error:
        click.echo(f"no broker: {error}", err=True)
        return 1
    try:
        broker.start()
        click.echo(broker.bootstrap)
        click.echo(f"kafka://{broker.bootstrap}, data in {broker.home}; Ctrl-C ends it", err=True)
        signal.pause()
    except NoBroker as error:
        click.echo(f"no broker: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("stopping", err=True)
    finally:
        broker.stop()
        broker.discard()
    return 0


if __name__ == "__main__":
    sys.exit(main())
