"""Hooks of schemathesis for the generation and sending of requests.

A stream of events does not end by itself: it is read until no data arrives for `MOMENT` seconds. A server must ignore header fields that
it does not know (RFC 9110, section 5.1), so cases that expect a refusal of an unknown header are left out.
"""

import requests
import schemathesis

MOMENT = 0.5
send = requests.Session.send


def bounded(session, request, **options):
    if not (request.path_url or "").split("?")[0].endswith("/events"):
        return send(session, request, **options)
    options["stream"] = True
    response = send(session, request, **options)
    parts, connection = [], response.raw.connection
    if connection is not None and connection.sock is not None:
        connection.sock.settimeout(MOMENT)
    try:
        parts.extend(response.iter_content(None))
    except requests.exceptions.ConnectionError:
        pass  # no more data arrived in time
    response._content, response._content_consumed = b"".join(parts), True
    response.close()
    return response


requests.Session.send = bounded


@schemathesis.hook
def filter_case(context, case):
    return "x-schemathesis-unknown-property" not in (case.headers or {})
