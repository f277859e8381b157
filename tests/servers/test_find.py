"""Where binaries come from, and what is said when they are nowhere."""

import os
from pathlib import Path

import pytest

from engine.servers import find
from engine.servers.errors import ServerMissingError


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a platform without wheels, with an empty PATH."""
    monkeypatch.setattr(find, "_redis_of_wheel", lambda: None)
    monkeypatch.setattr(find, "_postgres_of_wheel", lambda: None)
    monkeypatch.setattr(find, "DEBIAN_POSTGRES", tmp_path / "absent")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv(find.REDIS_BINARY, raising=False)
    monkeypatch.delenv(find.POSTGRES_BINARIES, raising=False)


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return path


def test_url_given_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(find.REDIS_URL, "redis://elsewhere")
    assert find.given_url(find.REDIS_URL) == "redis://elsewhere"
    monkeypatch.setenv(find.REDIS_URL, "")
    assert find.given_url(find.REDIS_URL) is None


def test_wheels_come_before_path() -> None:
    assert os.access(find.redis_binary(), os.X_OK)
    assert os.access(find.postgres_binaries() / "initdb", os.X_OK)
    assert "site-packages" in str(find.postgres_binaries())


@pytest.mark.usefixtures("no_wheels")
def test_missing_servers_are_one_line_that_says_what_to_do() -> None:
    with pytest.raises(ServerMissingError, match=r"^no Redis or Valkey server found: set REDIS_URL [^\n]+$"):
        find.redis_binary()
    with pytest.raises(ServerMissingError, match=r"^no PostgreSQL server found: set DATABASE_URL [^\n]+$"):
        find.postgres_binaries()


@pytest.mark.usefixtures("no_wheels")
def test_path_is_searched_and_links_are_followed(tmp_path: Path) -> None:
    redis = make_program(tmp_path / "bin" / "redis-server")
    assert find.redis_binary() == redis
    make_program(tmp_path / "pg" / "bin" / "initdb")
    postgres = make_program(tmp_path / "pg" / "bin" / "postgres")
    (tmp_path / "bin" / "postgres").symlink_to(postgres)
    assert find.postgres_binaries() == postgres.parent.resolve()


@pytest.mark.usefixtures("no_wheels")
def test_newest_of_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "DEBIAN_POSTGRES", tmp_path / "debian")
    for version in ("9.6", "15", "17"):
        make_program(tmp_path / "debian" / version / "bin" / "postgres")
    assert find.postgres_binaries() == tmp_path / "debian" / "17" / "bin"


def test_named_binary_wins_and_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = make_program(tmp_path / "my-redis")
    monkeypatch.setenv(find.REDIS_BINARY, str(named))
    assert find.redis_binary() == named
    monkeypatch.setenv(find.REDIS_BINARY, "/no/such/server")
    with pytest.raises(ServerMissingError, match="DOSEBOOK_REDIS_SERVER=/no/such/server does not exist"):
        find.redis_binary()
