"""The openai package against this server: a chat that goes on, a stream with usage, an error. HTTP/2 in clear text.

python examples/openai_sdk.py [http://127.0.0.1:8000] [demo]
"""

import os
import sys

import openai


def main(url: str = "http://127.0.0.1:8000", model: str = "demo") -> None:
    client = openai.OpenAI(
        base_url=f"{url}/v1",
        api_key=os.environ.get("OPENAI_API_KEY", "none"),  # a server of this machine alone asks for none
        http_client=openai.DefaultHttpxClient(http1=False, http2=True),  # leave it out for HTTP/1.1
    )
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is a canary rollout?"}
    ]
    first = client.chat.completions.create(model=model, messages=messages, max_completion_tokens=60, temperature=0)
    print(first.choices[0].message.content)

    messages.append({"role": "assistant", "content": first.choices[0].message.content})
    messages.append({"role": "user", "content": "And a rollback?"})
    stream = client.chat.completions.create(
        model=model,
        messages=messages,
        max_completion_tokens=60,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f"\n[{chunk.usage.prompt_tokens} + {chunk.usage.completion_tokens} tokens]")

    try:
        client.chat.completions.create(model=model, messages=messages, temperature=3)
    except openai.BadRequestError as error:
        print(f"refused by name: {error.param}")


if __name__ == "__main__":
    main(*sys.argv[1:])
