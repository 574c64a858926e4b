"""`mnemoscope serve RUNS`: the run browser."""

import os
import secrets
import socket
import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Annotated

import tyro

TOKEN = "MNEMOSCOPE_TOKEN"


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Show the runs, trials and reproductions below a folder in a web browser, live while they train.

    Reads only. Without options only this machine can reach it; any other address asks for a token, which is made up
    and printed unless one is given.
    """

    runs: Annotated[Path, tyro.conf.Positional] = Path("runs")
    """The folder; everything below it is found."""

    host: str = "127.0.0.1"
    """Address to listen on, for instance 0.0.0.0 for every address of this machine."""

    port: int = 8420
    """0 for any that is free."""

    token: str = ""
    """What a visitor must show, on loopback too; better in the environment variable MNEMOSCOPE_TOKEN, since others can
    read command lines."""

    name: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Name under which it is asked for, besides addresses and the name of this machine; may be given several times."""

    open: bool = False
    """Open the address in this machine's web browser."""

    def run(self) -> int:
        """Serve until interrupted."""
        try:
            import uvicorn

            from mnemoscope.browser.guarding import access_for, is_loopback
            from mnemoscope.browser.index import Index
            from mnemoscope.browser.server import application
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in ("starlette", "uvicorn"):
                raise
            raise ValueError(
                f"serve needs the package {package}, which is not installed; pip install 'mnemoscope[serve]'"
            ) from None
        index = Index(self.runs)
        token = self.token or os.environ.get(TOKEN, "") or ("" if is_loopback(self.host) else secrets.token_urlsafe(24))
        with self._bound() as bound:
            port = int(bound.getsockname()[1])
            app = application(index, access_for(self.host, port, token, self.name))
            config = uvicorn.Config(
                app,
                access_log=False,  # it would hold the token
                log_level="warning",
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
            )
            address = f"http://{_named(self.host)}:{port}/" + (f"?token={token}" if token else "")
            # The first look takes longest; it need not wait for the first visitor.
            Thread(target=index.entries, daemon=True).start()
            print(f"{index.root} at {address}  (Ctrl+C stops)", flush=True)
            if self.open:
                webbrowser.open(address)
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[bound])
        return 0

    def _bound(self) -> socket.socket:
        """A socket that listens.

        Raises:
            ValueError: an address that is not one, not this machine's, or taken.
        """
        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port must be between 0 and 65535, got {self.port}")
        try:
            family = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][0]
            bound = socket.create_server((self.host, self.port), family=family)
        except OSError as error:
            why = error.strerror or str(error)
            raise ValueError(
                f"{self.host}:{self.port} cannot be listened on: {why}; choose another --port (0 for any) or --host"
            ) from None
        return bound


def _named(host: str) -> str:
    """How an address is written in a link; one that stands for all is this machine's name."""
    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
