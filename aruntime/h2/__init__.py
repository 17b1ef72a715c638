"""HTTP/2 for Hypercorn 0.18, in place of its own: `server.install()` before it serves, or a `listener` of ours.

    server               a connection is accepted: HTTP/2 by ALPN or by its first bytes, else Hypercorn's HTTP/1.1
      └─ connection      requests and their ends; h2 keeps the protocol's states
           ├─ frames     what comes in, each frame paid for
           ├─ outbox     what goes out, one write a turn of the loop
           └─ stream     one request and its answer, as ASGI sees them; what waits for the client's window

docs/http2.md says what differs from Hypercorn's, and why.
"""
