"""HTTP/2 for Hypercorn 0.18, in place of its own: `install()` before it serves.

    server.Server        a connection is accepted: HTTP/2 by ALPN or by its first bytes, else Hypercorn's HTTP/1.1
      └─ connection      frames in and out, one write a turn of the loop; h2 keeps the protocol's states
           └─ stream     one request and its answer, as ASGI sees them; what waits for the client's window

Hypercorn keeps its configuration, its workers, its sockets, TLS and lifespan. docs/http2.md says what differs, and why.
"""
