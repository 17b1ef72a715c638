"""The example programs of the openai packages for Python and Node, as they are, on models of the names they ask for.

`make_repository` publishes the puppet (puppet.py) under each of those names; a server loads one when it is asked for.
The programs are read from a checkout of each project, and nothing in them is changed. What
a program needs that no server of language models has (sound, pictures, another company's cloud) is listed with the
reason instead of run.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from installed import HERE, Packages, checkout, environment, node_modules
from puppet import Script, call, write
from ran import Ran, run

from aruntime.control.repository import publish

PYTHON = Packages("openai_python", ("openai==3.57.0", "rich"))
NODE = Packages("openai_node", tuple("openai@6.49.0 tsx@4 zod@4 express@4 dotenv@17 zod-to-json-schema@3".split()))
OTHERS = Packages(
    "others", ("langchain-openai==1.7.4", "litellm==1.110.2", "instructor==1.17.0", "llm==0.36", "openai>=2,<4")
)

MODELS = (
    *("gpt-3.5-turbo", "gpt-3.5-turbo-instruct", "gpt-4", "gpt-4-1106-preview", "gpt-4o-2024-08-06", "gpt-4o-mini"),
    *("gpt-5", "gpt-5.2", "gpt-5.5"),
)
ON_DEMAND = '[residency]\nload = "on-demand"\nidle_s = 20.0\n[limits]\ncache_bytes = 8_388_608\n'

_STEP = {"explanation": "Subtract 31 from both sides.", "output": "8x = -29"}
_SOLVED = json.dumps({"steps": [_STEP], "final_answer": "x = -29/8"})
_ORDERS = {
    "table_name": "orders",
    "columns": ["id", "status"],
    "conditions": [{"column": "status", "operator": "=", "value": "fulfilled"}],
    "order_by": "asc",
}
_FORM = {"type": "form", "label": "User Profile", "children": [], "attributes": [{"name": "id", "value": "profile"}]}
_CITY = {"city": "San Francisco", "country": "US"}
SCRIPTS = (
    Script(call("get_weather", **_CITY), words="New York", tool="get_weather"),
    Script(call("get_weather", **_CITY, units="c"), words="weather", tool="get_weather"),
    Script(call("Query", **_ORDERS), words="my orders", tool="Query"),
    Script(call("query", **_ORDERS), words="my orders", tool="query"),
    Script(call("query", location="here", **_ORDERS), words="last 10 orders", tool="query"),
    Script(call("list", genre="historical"), words="Mockingbird", tool="list"),
    Script(call("listBooks", genre="historical"), words="Mockingbird", tool="listBooks"),
    Script(_SOLVED, words="solve 8x"),
    Script(_SOLVED.replace(". ", ".  "), words="weather"),
    Script(json.dumps(_FORM), words="User Profile Form"),
)
OTHERWISE = "This is a test."

# What each program prints when it got what it came for.
_TEXT = OTHERWISE
PYTHON_PROGRAMS = {
    "demo.py": _TEXT,
    "async_demo.py": _TEXT,
    "streaming.py": '"object": "text_completion"',
    "parsing.py": "answer: ",
    "parsing_stream.py": "answer: ",
    "parsing_tools.py": "Table.",
    "parsing_tools_stream.py": "parsed_arguments=GetWeather(",
    "httpx2_client.py": _TEXT,
    "responses_input_tokens.py": "input tokens: ",
    "responses/streaming.py": "parsed=MathResponse(",
    "responses/streaming_tools.py": "ResponseCompletedEvent",
    "responses/structured_outputs.py": "answer: ",
    "responses/structured_outputs_tools.py": "table name: Table.",
    "responses/background.py": "ResponseTextDoneEvent",
    "responses/background_async.py": "ResponseTextDoneEvent",
    "responses/background_streaming.py": "parsed=MathResponse(",
    "responses/background_streaming_async.py": "parsed=MathResponse(",
}
NODE_PROGRAMS = {
    "chat-completions/demo.ts": _TEXT,
    "chat-completions/types.ts": _TEXT,
    "chat-completions/chat-params-types.ts": _TEXT,
    "chat-completions/stream.ts": f"content: '{_TEXT}'",
    "chat-completions/logprobs.ts": "logprob: ",
    "chat-completions/parsing.ts": "answer: ",
    "chat-completions/parsing-stream.ts": "final_answer: ",
    "chat-completions/parsing-tools.ts": "table_name: ",
    "chat-completions/parsing-tools-stream.ts": "tool_calls.function.arguments.done",
    "chat-completions/parsing-run-tools.ts": "parsed function arguments",
    "chat-completions/tool-call-helpers.ts": "functionCallResult",
    "chat-completions/tool-call-helpers-zod.ts": "functionCallResult",
    "chat-completions/tool-calls-stream.ts": _TEXT,
    "chat-completions/function-call.ts": "function_call",
    "chat-completions/function-call-diy.ts": "function_call",
    "chat-completions/function-call-stream.ts": "function_call",
    "chat-completions/function-call-stream-raw.ts": "function_call",
    "chat-completions/ui-generation.ts": "label: ",
    "client/errors.ts": "Caught NotFoundError!",
    "client/raw-response.ts": "completion: {",
    "responses/stream.ts": "response.completed",
    "responses/stream_background.ts": "response.completed",
    "responses/streaming-tools.ts": "response.completed",
    "responses/structured-outputs.ts": "answer: ",
    "responses/structured-outputs-tools.ts": "table_name: ",
    "responses/manual-conversation-state.ts": f"{_TEXT}\n{_TEXT}",
}
OTHER_PROGRAMS = ("use_langchain.py", "use_litellm.py", "use_instructor.py", "use_llm.py")
NOT_RUN = {
    "audio*, speech_to_text, text_to_speech, images*, image_stream, picture, video": "sound and pictures",
    "azure*, bedrock*, x509_workload_identity*, mtls*": "another cloud's endpoints and identities",
    "realtime/*, responses/websocket*, responses/multi_agent_websocket*": "WebSocket protocols",
    "responses/multi_agent_streaming*": "a beta in which OpenAI's service runs several agents",
    "assistants/*, fine-tuning/*, uploads": "services with files and threads of their own, withdrawn or not of serving",
    "module_client": "its address is written into it as `https://...`",
    "stream-to-client-*": "a server of its own, for browsers",
}


def make_repository(folder: Path) -> Path:
    """A repository in `folder` in which every model that the programs name is the puppet, loaded on demand."""
    puppet = write(folder / "puppet", SCRIPTS, OTHERWISE)
    for name in MODELS:
        publish(puppet, folder / "repository", name)
        (folder / "repository" / name / "model.toml").write_text(ON_DEMAND)
    return folder / "repository"


def python_examples(url: str) -> Iterator[Ran]:
    """Each program of openai-python's `examples`."""
    python, folder = environment(PYTHON) / "python", checkout("openai-python") / "examples"
    for program, says in PYTHON_PROGRAMS.items():
        yield run(program, [str(python), str(folder / program)], _variables(url), says=says)


def node_examples(url: str) -> Iterator[Ran]:
    """Each program of openai-node's `examples`, through tsx, on a terminal, which some of them want.

    A program finds its packages in the folders above it, so it is copied to where they are.
    """
    home, folder = node_modules(NODE), checkout("openai-node") / "examples"
    for program, says in NODE_PROGRAMS.items():
        copy = home / "examples" / program
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((folder / program).read_bytes())
        command = shlex.join([str(home / "node_modules/.bin/tsx"), str(copy)])
        yield run(
            program, ["script", "--quiet", "--return", "--command", command, "/dev/null"], _variables(url), says=says
        )


def others(url: str) -> Iterator[Ran]:
    """Other clients, which many use: our programs in `others`, on the packages as they are."""
    python = environment(OTHERS) / "python"
    for program in OTHER_PROGRAMS:
        yield run(program, [str(python), str(HERE / "others" / program)], _variables(url), says="all is well")


def _variables(url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "none", "NO_COLOR": "1"}
