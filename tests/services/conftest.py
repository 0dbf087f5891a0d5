from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.member import Asker
from tests.support.servers_proc import keydeck_server, running


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A member of this module's own; tests use names of their own."""
    with running(keydeck_server(tmp_path_factory.mktemp("member") / "data")) as server:
        asker = Asker(server)
        yield asker
        asker.channel.close()
