"""langchain-openai: a chat, whole and streamed; a function that it is given; an answer in a given form."""

from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Step(BaseModel):
    explanation: str
    output: str


class Solution(BaseModel):
    steps: list[Step]
    final_answer: str


def get_weather(city: str, country: str, units: str) -> str:
    """The weather in a city."""
    return f"{city}, {country}: 20 {units}"


model = ChatOpenAI(model="gpt-4o-mini", temperature=0)
print("chat:", model.invoke("Hello").content)
print("stream:", "".join(chunk.content for chunk in model.stream("Hello")))
print("calls:", model.bind_tools([get_weather]).invoke("What is the weather like?").tool_calls[0]["args"]["city"])
print("form:", model.with_structured_output(Solution).invoke("solve 8x + 31 = 2").final_answer)
print("all is well")
