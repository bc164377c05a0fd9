"""The secrets of a checkout: made once, kept, and completed when there are more."""

import json
from pathlib import Path

import pytest

from infra.local import paths
from infra.local.layout import Secrets
from infra.local.progress import RefusalError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the place where a new checkout will keep its secrets."""
    monkeypatch.setattr(paths, "STATE", tmp_path)
    return tmp_path / "secrets.json"


def test_secrets_are_made_once_and_kept_private(file: Path) -> None:
    first = Secrets.load()
    assert file.stat().st_mode & 0o777 == 0o600
    assert Secrets.load() == first


def test_what_an_older_checkout_lacks_is_made_and_the_rest_stays(file: Path) -> None:
    secrets = Secrets.load()
    older = secrets.model_dump(exclude={"reader_private_key"})
    file.write_text(json.dumps(older))
    completed = Secrets.load()
    assert completed.model_dump(exclude={"reader_private_key"}) == older
    assert completed.reader_private_key != secrets.reader_private_key
    assert file.stat().st_mode & 0o777 == 0o600
    assert Secrets.load() == completed


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"secret"'])
def test_a_damaged_file_is_told(file: Path, content: str) -> None:
    Secrets.load()
    file.write_text(content)
    with pytest.raises(RefusalError, match="damaged"):
        Secrets.load()


def test_a_secret_of_another_kind_is_told(file: Path) -> None:
    older = Secrets.load().model_dump()
    file.write_text(json.dumps(older | {"secret_key": 7}))
    with pytest.raises(RefusalError, match="damaged"):
        Secrets.load()
