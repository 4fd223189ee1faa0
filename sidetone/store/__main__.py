"""`python -m sidetone.store`: the store alone."""

from __future__ import annotations

import argparse
import logging
import sys

from sidetone.store.about import ABOUT
from sidetone.store.errors import StoreStartError
from sidetone.store.server import DEFAULT_PORT, StoreServer, run_store


def _announce(server: StoreServer) -> None:
    """One line on stdout, for whoever started this process on port 0."""
    sys.stdout.write(f"{server.host} {server.port}\n")
    sys.stdout.flush()


def main() -> int:
    """Serve until a signal; 0 if it ended in order, 1 if it could not start."""
    parser = argparse.ArgumentParser(
        "sidetone store", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="TCP port; 0 takes a free one (%(default)s)")
    parser.add_argument("--data-dir", required=True, help="where the data are kept; made if missing")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (%(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run_store(options.data_dir, options.host, options.port, on_ready=_announce)
    except StoreStartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
