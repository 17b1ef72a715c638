"""Servers in clear text and over TLS, for what must be so on both."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from certificates import Pair, make_pair
from h2_house import App, Serve, Served, served

from aruntime.h2.limits import H2Limits


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate for 127.0.0.1 and its key."""
    return make_pair(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(params=["clear", "tls"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Each way to a server in turn."""
    certificate: Pair | None = None
    if request.param == "tls":
        certificate = request.getfixturevalue("certificate")

    def serving(app: App, limits: H2Limits | None = None, **settings: Any) -> AbstractAsyncContextManager[Served]:
        return served(app, limits, certificate, **settings)

    return serving
