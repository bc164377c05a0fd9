"""A load of HTTP requests from this machine on this machine, bounded in number and time."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from time import perf_counter, sleep

import httpx

CLIENTS = 8


class LoadError(Exception):
    """An answer that was not the expected one: there is nothing to measure then."""


async def requests_per_second(
    port: int, request: Callable[[int], bytes], *, number: int, expect: int
) -> float:
    """Send `number` requests over eight connections, one at a time on each; give how many a second.

    A request is the whole HTTP/1.1 message. Raises LoadError for an answer with another status.
    """
    numbers = iter(range(number))
    async with asyncio.timeout(120):
        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(send(port, request, numbers, expect=expect))
        return number / (perf_counter() - started)


async def send(
    port: int, request: Callable[[int], bytes], numbers: Iterator[int], *, expect: int
) -> list[float]:
    """Send the requests with these numbers, one at a time; give the seconds that each took.

    Raises LoadError for an answer with another status.
    """
    took: list[float] = []
    status = f"HTTP/1.1 {expect} ".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        message = request(number)
        began = perf_counter()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        lowered = head.lower()
        start = lowered.index(b"content-length: ") + 16
        body = await reader.readexactly(int(lowered[start : lowered.index(b"\r\n", start)]))
        took.append(perf_counter() - began)
        if not head.startswith(status):
            raise LoadError(f"{head.decode()}{body.decode()}")
    writer.close()
    return took


def wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a server answers. Raises LoadError when it ends instead."""
    with httpx.Client(trust_env=False, timeout=1) as http:
        while process.poll() is None:
            try:
                # PostgREST answers 503 until it knows the schema; a function may break here.
                if http.get(f"http://127.0.0.1:{port}/").status_code != 503:
                    return
            except httpx.HTTPError:
                pass
            sleep(0.02)
    raise LoadError(f"the server ended with {process.returncode}")


def post(path: str, body: bytes, *headers: str) -> bytes:
    """Write a POST request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
