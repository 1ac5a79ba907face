from __future__ import annotations

import pytest

from tests.support.influence_oracle import Setting

COUNT_EOS = {"without_eos": False, "with_eos": True}


@pytest.fixture(scope="session", params=list(COUNT_EOS))
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp(request.param), count_eos=COUNT_EOS[request.param])


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp("plain"), count_eos=False)
