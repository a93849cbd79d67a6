"""How requests are made up and sent.

Streams of events do not end by themselves: what comes behind the head within a moment of the last is taken for the answer. Headers
that a server does not know it must pass over (RFC 9110, section 5.1), so that none is expected to refuse one.
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
        pass  # nothing more came
    response._content, response._content_consumed = b"".join(parts), True
    response.close()
    return response


requests.Session.send = bounded


@schemathesis.hook
def filter_case(context, case):
    return "x-schemathesis-unknown-property" not in (case.headers or {})
