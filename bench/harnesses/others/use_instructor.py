"""instructor: an answer in a given form, by a JSON schema and by a function that must be called."""

import instructor
import openai
from pydantic import BaseModel


class Step(BaseModel):
    explanation: str
    output: str


class Solution(BaseModel):
    steps: list[Step]
    final_answer: str


for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON, instructor.Mode.TOOLS):
    client = instructor.from_openai(openai.OpenAI(), mode=mode)
    asked = [{"role": "user", "content": "solve 8x + 31 = 2"}]
    solution = client.create(model="gpt-4o-mini", messages=asked, response_model=Solution, max_retries=0)
    print(f"{mode}:", solution.final_answer)
print("all is well")
