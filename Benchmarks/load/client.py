"""Clients of a completions API that stream: what a user waits for, measured where a user is. Standard library only."""

import asyncio
import dataclasses
import json
import time


@dataclasses.dataclass
class Outcome:
    """One request. Seconds count from before its first byte was sent."""

    status: int
    seconds: float
    first_token: float | None = None
    # Between one token and the next.
    gaps: list[float] = dataclasses.field(default_factory=list)
    tokens: int = 0
    retry_after: str | None = None
    is_complete: bool = False
    text: str = ""


class Target:
    def __init__(self, host: str, port: int, path: str = "/v1/completions") -> None:
        self.host, self.port, self.path = host, port, path

    def request(self, body: dict) -> bytes:
        payload = json.dumps(body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + payload


async def stream(target: Target, body: dict) -> Outcome:
    """Sends one streaming completion on a connection of its own and reads it to its end."""
    started = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(target.host, target.port, limit=1 << 20)
    except OSError:
        return Outcome(0, time.perf_counter() - started)
    outcome = Outcome(0, 0)
    try:
        writer.write(target.request(body))
        await writer.drain()
        status = await reader.readline()
        outcome.status = int(status.split()[1]) if status else 0
        while (line := await reader.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "retry-after":
                outcome.retry_after = value.strip()
        last = started
        async for line in reader:
            # Chunk sizes stand between events: a line that is no event is one of them.
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                outcome.is_complete = True
                continue
            event = json.loads(data)
            if event.get("usage") and not event.get("choices"):
                outcome.tokens = event["usage"]["completion_tokens"]
                continue
            now = time.perf_counter()
            if outcome.first_token is None:
                outcome.first_token = now - started
            else:
                outcome.gaps.append(now - last)
            last = now
            outcome.text += "".join(choice.get("text") or "" for choice in event.get("choices", []))
    except (OSError, ValueError, asyncio.IncompleteReadError):
        outcome.is_complete = False
    finally:
        writer.close()
    outcome.seconds = time.perf_counter() - started
    if outcome.status == 200 and outcome.tokens == 0 and outcome.first_token is not None:
        # Who does not tell usage sends a token an event.
        outcome.tokens = 1 + len(outcome.gaps)
    return outcome


async def closed_loop(target: Target, clients: int, seconds: float, body) -> tuple[list[Outcome], float]:
    """So many clients, each sending its next request when the last has ended, for so long.

    `body(client, number)` makes a request. Returns what ended, and the seconds from the first request to the last end.
    """
    outcomes: list[Outcome] = []
    started = time.perf_counter()

    async def client(index: int) -> None:
        number = 0
        while time.perf_counter() - started < seconds:
            outcomes.append(await stream(target, body(index, number)))
            number += 1

    await asyncio.gather(*(client(index) for index in range(clients)))
    return outcomes, time.perf_counter() - started


def percentile(values: list[float], share: float) -> float | None:
    """The smallest value that `share` of them do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
