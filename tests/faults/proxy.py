"""A TCP proxy that a test puts between driftd and Kafka, and that misbehaves on order.

Troubles are set and taken away while connections stand. Each has a name; `hits` counts how often each did something to
a connection or to bytes on their way, so that a test can tell a fault that happened from one that did not.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with the line; all of it may be at once.

    down: connections are refused, and those that stand are cut. swallow: connections are taken and nothing comes back.
    latency: seconds that every piece waits. bandwidth: bytes a second, 0 for no limit. slice: pieces of so many bytes,
    each sent alone. limit: a connection is reset after so many bytes to the client. slow_close: seconds that a closed
    connection's other side stays open.
    """

    down: bool = False
    swallow: bool = False
    latency: float = 0.0
    bandwidth: int = 0
    slice: int = 0
    limit: int = 0
    slow_close: float = 0.0


class Proxy:
    """Listens on one port of this machine and hands everything on to another, from entering until leaving it."""

    def __init__(self, listen: int, target: int) -> None:
        self.hits: Counter[str] = Counter()
        self.trouble = Trouble()
        self._listen = listen
        self._target = target
        self._pairs: set[_Pair] = set()
        self._lock = threading.Lock()
        self._server: socket.socket | None = None
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._thread.join(2)
        self.cut()

    def set(self, **trouble: object) -> None:
        """From now on this is wrong, and nothing else."""
        self.trouble = replace(Trouble(), **trouble)  # type: ignore[arg-type]
        if self.trouble.down:
            self.cut()

    def heal(self) -> None:
        """Everything is well again; what was cut stays cut."""
        self.trouble = Trouble()

    def cut(self) -> int:
        """Close all connections in good order; how many there were."""
        return self._end("cut", reset=False)

    def reset(self) -> int:
        """Tear all connections down with a TCP reset; how many there were."""
        return self._end("reset", reset=True)

    def _end(self, name: str, *, reset: bool) -> int:
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close(reset=reset)
        self.hits[name] += len(pairs)
        return len(pairs)

    def _open(self) -> None:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", self._listen))
        server.listen(64)
        server.settimeout(0.1)
        self._server = server

    def _accept(self) -> None:
        while (server := self._server) is not None:
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if self.trouble.down:
                self.hits["down"] += 1
                _reset(client)
                continue
            try:
                upstream = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            pair = _Pair(self, client, upstream)
            with self._lock:
                self._pairs.add(pair)
            pair.start()

    def forget(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.discard(pair)


class _Pair:
    """One client's connection and the one behind it."""

    def __init__(self, proxy: Proxy, client: socket.socket, upstream: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._upstream = upstream
        self._n_answered = 0

    def start(self) -> None:
        for source, sink in ((self._client, self._upstream), (self._upstream, self._client)):
            source.settimeout(None)
            threading.Thread(target=self._pump, args=(source, sink), name="proxy-pump", daemon=True).start()

    def close(self, *, reset: bool) -> None:
        for end in (self._client, self._upstream):
            (_reset if reset else _shut)(end)
        self._proxy.forget(self)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK):
                self._carry(data, sink)
        except OSError:
            pass
        if (seconds := self._proxy.trouble.slow_close) > 0:
            self._proxy.hits["slow_close"] += 1
            time.sleep(seconds)
        self.close(reset=False)

    def _carry(self, data: bytes, sink: socket.socket) -> None:
        proxy, trouble = self._proxy, self._proxy.trouble
        if trouble.swallow:
            proxy.hits["swallow"] += 1
            return
        if trouble.latency:
            proxy.hits["latency"] += 1
            time.sleep(trouble.latency)
        if trouble.bandwidth:
            proxy.hits["bandwidth"] += 1
            time.sleep(len(data) / trouble.bandwidth)
        if trouble.limit and sink is self._client:
            self._n_answered += len(data)
            if self._n_answered > trouble.limit:
                proxy.hits["limit"] += 1
                sink.sendall(data[: max(0, trouble.limit - self._n_answered + len(data))])
                self.close(reset=True)
                return
        if trouble.slice:
            proxy.hits["slice"] += 1
            for begin in range(0, len(data), trouble.slice):
                sink.sendall(data[begin : begin + trouble.slice])
            return
        sink.sendall(data)


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # A thread that waits in recv keeps the socket from being closed; shutting it down wakes that thread.
    if end.fileno() >= 0:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RD)
    end.close()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
