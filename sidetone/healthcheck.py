"""`python -m sidetone.healthcheck URL`: exit status 0 if the URL answers 200, for container health checks.

Only the standard library is loaded, and little of it, because every container runs this every few seconds.
"""

import http.client
import sys

_TIMEOUT_S = 4.0
_OK = 200


def check(url: str) -> str:
    """Return what is wrong with what answers at `http://HOST:PORT/PATH`, or an empty string."""
    host, slash, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", slash + path)
        response = connection.getresponse()
        said = response.read(500).decode(errors="replace").strip()
    except OSError as error:
        return f"{url} does not answer: {error}"
    finally:
        connection.close()
    return "" if response.status == _OK else f"{url} answered {response.status}: {said}"


def main() -> None:
    """Check the URL on the command line; what is wrong goes to standard output, where `docker inspect` shows it."""
    wrong = check(sys.argv[1])
    if wrong:
        print(wrong)  # noqa: T201 - see above
        sys.exit(1)


if __name__ == "__main__":
    main()
