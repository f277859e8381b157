"""One PostgreSQL server (15 to 18) on a unix socket, configured by config/postgres/postgresql.conf.

It refuses to be root: as root we run it under `postgres` or `nobody`, with binaries and data where that
account can reach them. The socket folder is closed to all others, since local connections need no
password. A new cluster is made beside its place and renamed, so that an interrupted `initdb` leaves none.
"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from engine.servers import find
from engine.servers.account import public_folder, reachable_binaries, unprivileged_account
from engine.servers.child import Launch
from engine.servers.data_dir import DataDir, reachable_by_all
from engine.servers.errors import DataDirError, ServerFailedError
from engine.servers.server import CONFIG, Server, connect, server_environment

CONFIG_FILE = CONFIG / "postgres" / "postgresql.conf"
OUR_CONFIG = "dosebook.conf"
SOCKET_PORT = 5432
SUPERUSER = "postgres"


class PostgresServer(Server):
    """Starts a server on `data`; `name` tells several in one directory apart.

    `port` adds TCP on loopback without a password, for tests; 0 means socket only. `settings` override
    the configuration file.
    """

    # SIGTERM waits for clients to leave; SIGINT rolls back what is open and stops.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        data: DataDir,
        *,
        name: str = "postgres",
        port: int = 0,
        settings: dict[str, str] | None = None,
    ) -> None:
        super().__init__(name, data)
        self.port = port
        self.socket_dir = data.run_dir / name
        self._settings = settings or {}
        self._account = unprivileged_account()

    @property
    def url(self) -> str:
        """Address of the database `postgres` for asyncpg."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Address of a database of this server for asyncpg."""
        host = quote(str(self.socket_dir))
        return f"postgresql://{SUPERUSER}@/{quote(database)}?host={host}&port={self._socket_port}"

    async def create_database(self, name: str) -> str:
        """Make an empty database and return its address (tests want one each)."""
        import asyncpg

        connection = await asyncpg.connect(self.url)
        try:
            quoted = name.replace('"', '""')
            await connection.execute(f'CREATE DATABASE "{quoted}"')
        finally:
            await connection.close()
        return self.url_of(name)

    @property
    def _socket_port(self) -> int:
        """Names the socket file, also when no TCP port is open."""
        return self.port or SOCKET_PORT

    @property
    def directory(self) -> Path:
        """The cluster's files: in the data directory, or where a link in it points (see `_place`)."""
        return (self.data.path / self.name).resolve()

    def prepare(self) -> None:
        """Lock the data, make the cluster if there is none, write our settings, open the socket folder."""
        self.claim()
        try:
            self._place()
            self._prepare_cluster()
            self._prepare_socket_dir()
        except BaseException:
            self.spawned()
            raise

    def launch(self) -> Launch:
        """The postmaster in the foreground."""
        options = {"listen_addresses": "127.0.0.1" if self.port else "", **self._settings}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        postgres = str(self._binaries() / "postgres")
        place = ("-D", str(self.directory), "-k", str(self.socket_dir), "-p", str(self._socket_port))
        return Launch(
            argv=(postgres, *place, *arguments),
            log=self.data.log_of(self.name),
            env=server_environment(),
            cwd=Path("/"),
            account=self._account,
            fds=self.held_claim(),
        )

    def is_ready(self) -> bool:
        """Whether this very process (not a predecessor's file) says that it takes connections."""
        try:
            connect(self.socket_dir / f".s.PGSQL.{self._socket_port}").close()
            lines = (self.directory / "postmaster.pid").read_text().split()
        except OSError:
            return False
        return bool(lines) and lines[0] == str(self.pid) and lines[-1] == "ready"

    def _binaries(self) -> Path:
        folder = find.postgres_binaries()
        return reachable_binaries(folder) if self._account else folder

    def _place(self) -> None:
        """Where the server's account cannot enter the data directory, link to a public folder instead.

        The link is the only record of that folder: a directory that was removed and made again starts
        with a new, empty cluster, never with an old one.
        """
        place = self.data.path / self.name
        closed = self._account is not None and not reachable_by_all(self.data.path)
        if closed and self._account and not place.exists():
            place.unlink(missing_ok=True)
            place.symlink_to(public_folder(self._account))

    def _prepare_cluster(self) -> None:
        if not (self.directory / "PG_VERSION").exists():
            self._make_cluster()
        self._check_version()
        self._refuse_foreign_server()
        target = self.directory / OUR_CONFIG
        target.write_text(CONFIG_FILE.read_text())
        self._give(target)

    def _make_cluster(self) -> None:
        """Run initdb in a scratch folder beside the place, then rename."""
        scratch = self.directory.with_name(f"{self.directory.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        self._give(scratch)
        command = [str(self._binaries() / "initdb"), "-D", str(scratch), "-U", SUPERUSER, "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--no-instructions"]
        command += ["--no-sync"] if self.data.temporary else []
        self._run(command)
        with (scratch / "postgresql.conf").open("a") as config:
            config.write(f"\ninclude '{OUR_CONFIG}'\n")
        scratch.rename(self.directory)

    def _run(self, command: list[str]) -> None:
        account = self._account
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=server_environment(),
            cwd="/",
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        if done.returncode != 0:
            raise ServerFailedError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()}")

    def _check_version(self) -> None:
        """Files of another major version cannot be opened: say so before the server does at length."""
        made_by = (self.directory / "PG_VERSION").read_text().strip()
        version = subprocess.run(
            [str(self._binaries() / "postgres"), "--version"], check=True, capture_output=True, text=True
        ).stdout
        ours = re.search(r"\d+", version)
        if ours and ours.group() != made_by:
            raise DataDirError(
                f"{self.directory} was made by PostgreSQL {made_by}, this server is {ours.group()}: choose"
                " another --data-dir, or name that version's folder in DOSEBOOK_POSTGRES_BIN"
            )

    def _refuse_foreign_server(self) -> None:
        """With our lock in hand, only a server started by others can still use the files.

        Its pid file names a process that works in the directory; any other process has been given the
        number since (a container's numbers repeat), and the file is stale.
        """
        pid_file = self.directory / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = pid_file.read_text().split("\n", 1)[0]
        if _works_in(pid, self.directory):
            raise DataDirError(
                f"{self.directory} is in use by a PostgreSQL that runs as process {pid}:"
                " stop it or choose another --data-dir"
            )
        pid_file.unlink()

    def _prepare_socket_dir(self) -> None:
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        self._give(self.socket_dir)
        (self.socket_dir / f".s.PGSQL.{self._socket_port}").unlink(missing_ok=True)
        (self.socket_dir / f".s.PGSQL.{self._socket_port}.lock").unlink(missing_ok=True)

    def _give(self, path: Path) -> None:
        """Hand a file of ours to the server's account."""
        if self._account:
            os.chown(path, self._account.uid, self._account.gid)


def _works_in(pid: str, directory: Path) -> bool:
    """Whether the process lives and has the directory as its own; without /proc, whether it lives at all."""
    if not pid.isdigit():
        return False
    if Path("/proc/self/cwd").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == directory
        except OSError:
            return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
