"""Several streams at once over one HTTP/2 connection, with httpx; the last is left early, which frees it in the engine.

python examples/httpx_stream.py [http://127.0.0.1:8000] [demo]
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import httpx

QUESTIONS = ["What is a canary rollout?", "What is a deadline?", "What does a scheduler do?"]


async def ask(client: httpx.AsyncClient, model: str, question: str) -> AsyncIterator[str]:
    """The answer's text, piece by piece. RuntimeError when the server says no, before or in the stream."""
    body = {"model": model, "stream": True, "max_tokens": 60, "messages": [{"role": "user", "content": question}]}
    async with client.stream(
        "POST", "/v1/chat/completions", json=body, headers={"x-request-timeout-ms": "30000"}
    ) as reply:
        if reply.status_code != 200:
            raise RuntimeError((await reply.aread()).decode())
        async for line in reply.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:  # the status is spent once a stream has begun
                raise RuntimeError(event["error"]["message"])
            yield event["choices"][0]["delta"].get("content") or ""


async def whole(client: httpx.AsyncClient, model: str, question: str) -> None:
    text = "".join([piece async for piece in ask(client, model, question)])
    print(f"{question}\n    {text}")


async def beginning(client: httpx.AsyncClient, model: str, question: str) -> None:
    """Leave after a few pieces: the server cancels the sequence as soon as it sees that."""
    pieces = ask(client, model, question)
    text = ""
    async for piece in pieces:
        text += piece
        if len(text) > 20:
            break
    await pieces.aclose()  # type: ignore[attr-defined]
    print(f"{question}\n    {text}... (left)")


async def main(url: str = "http://127.0.0.1:8000", model: str = "demo") -> None:
    # http1=False: HTTP/2 with prior knowledge, since clear text cannot negotiate it.
    async with httpx.AsyncClient(base_url=url, http1=False, http2=True, timeout=60) as client:
        await asyncio.gather(*(whole(client, model, question) for question in QUESTIONS[:-1]))
        await beginning(client, model, QUESTIONS[-1])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
