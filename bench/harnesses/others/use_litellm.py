"""litellm: a chat, whole and streamed; a function that it is given; an error as its own class."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet what a model costs

import litellm

ASK = {"model": "openai/gpt-4o-mini", "api_base": os.environ["OPENAI_BASE_URL"], "api_key": "none"}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]


def says(words: str, **more: object) -> list[object]:
    return litellm.completion(**ASK, messages=[{"role": "user", "content": words}], **more)


print("chat:", says("Hello").choices[0].message.content)
print("stream:", "".join(chunk.choices[0].delta.content or "" for chunk in says("Hello", stream=True)))
print("calls:", says("What is the weather like?", tools=TOOLS).choices[0].message.tool_calls[0].function.arguments)
try:
    litellm.completion(**ASK | {"model": "openai/nobody"}, messages=[{"role": "user", "content": "Hello"}])
except litellm.NotFoundError as error:
    print("error:", error.status_code)
print("all is well")
