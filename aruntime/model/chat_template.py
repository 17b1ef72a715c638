"""A model's chat template: a small program out of a model folder, fed with the words of strangers.

    messages, tools --template--> text

It runs in Jinja's immutable sandbox and offers what Hugging Face's renderer offers (trim_blocks, lstrip_blocks, tojson,
raise_exception, strftime_now, break and continue, {% generation %}). It is compiled once, at load, with a meter at the
head of every loop body and macro and on every value that is kept, so whatever a request makes it do ends at a number
of steps, characters and seconds. A template comes from the repository only; a request cannot bring one.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

SOURCE_CHARACTERS_MAX = 256 * 1024  # the longest templates of public models have some 20 Ki
STEPS_MAX = 1_000_000
CHARACTERS_MAX = 8 * 1024 * 1024  # two million tokens of English
RENDER_S_MAX = 1.0


class TemplateRefused(ValueError):
    """The template cannot be used, or cannot render these messages; the message is fit for the client."""


class ChatTemplate:
    """One compiled template. `source` is what it was made of, `names` what it asks its renderer for."""

    def __init__(
        self, source: str, special_tokens: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Compile `source`; TemplateRefused when it is too long or not a template.

        `special_tokens` are the names a template may use, as {"bos_token": "<s>"}.
        """
        if len(source) > SOURCE_CHARACTERS_MAX:
            raise TemplateRefused(f"the chat template has {len(source)} characters, at most {SOURCE_CHARACTERS_MAX}")
        self._special_tokens = dict(special_tokens)
        self._clock = clock
        self.source = source
        self._template, self.names = _compile(source)

    @classmethod
    def from_folder(cls, folder: Path, config: Mapping[str, Any]) -> "ChatTemplate | None":
        """The template of a Hugging Face folder: chat_template.jinja, else that in `config`, tokenizer_config.json."""
        file = folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
        if isinstance(source, list):
            source = next((entry.get("template") for entry in source if entry.get("name") == "default"), None)
        return cls(source, _special_tokens(config)) if isinstance(source, str) else None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None,
        add_generation_prompt: bool,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation. Keys whose value is None are left out, as Hugging Face does.

        `options` are a request's; they take the place of no name that is the renderer's own.
        """
        chat = [{key: value for key, value in message.items() if value is not None} for message in messages]
        meter = _Meter(self._clock)
        token = _meter.set(meter)
        try:
            own = {"messages": chat, "tools": tools, "add_generation_prompt": add_generation_prompt}
            names = {name: value for name, value in (options or {}).items() if name not in self._template.globals}
            chunks = self._template.generate(names | self._special_tokens | own)
            return "".join(meter.written(chunk) for chunk in chunks)
        except (TemplateRefused, _Raised) as error:
            raise TemplateRefused(str(error)[:500]) from None
        except Exception as error:
            raise TemplateRefused("the model's chat template cannot render these messages") from error
        finally:
            _meter.reset(token)


class _Raised(TemplateError):
    """What the template itself refuses, in its own words."""


class _Meter:
    """What one rendering may still use."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._end_s = clock() + RENDER_S_MAX
        self._steps = STEPS_MAX
        self._characters = CHARACTERS_MAX

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0 or self._clock() > self._end_s:
            raise TemplateRefused("these messages take the model's chat template too long")

    def written(self, chunk: str) -> str:
        self._characters -= len(chunk)
        if self._characters < 0:
            raise TemplateRefused(f"the model's chat template writes more than {CHARACTERS_MAX} characters")
        return chunk


_meter: ContextVar[_Meter] = ContextVar("meter")


def _kept(value: Any) -> Any:
    if isinstance(value, (str, list, tuple)) and len(value) > CHARACTERS_MAX:
        raise TemplateRefused(f"the model's chat template keeps a value longer than {CHARACTERS_MAX}")
    return value


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, plus: no operator, filter or method that makes much out of little."""

    intercepted_binops = frozenset(("*", "**", "%"))
    # Named by the compiled template (nodes.EnvironmentAttribute), so that no variable of its own can hide them.
    meter_step = staticmethod(lambda: _meter.get().step())
    meter_kept = staticmethod(_kept)

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        for name in ("center", "format", "indent", "wordwrap"):
            del self.filters[name]
        self.filters |= {"tojson": _tojson, "meter_kept": _kept}
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": lambda format: datetime.now().strftime(format),
            "namespace": _Namespace,
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        grows = ("center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill")
        return attr not in grows and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Jinja hands out str.format before it asks is_safe_attribute; here it is refused like the others."""

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(side, (int, float)) and abs(side) < 2**53 for side in (left, right)):
            raise TemplateRefused(f"the model's chat template uses {operator} on something other than numbers")
        if operator == "**" and abs(right) > 64:
            raise TemplateRefused("the model's chat template raises to a power above 64")
        return super().call_binop(context, operator, left, right)


class _Namespace(Namespace):
    """Jinja's namespace without names that reach into Python."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise TemplateRefused("the model's chat template sets a private name")
        super().__setitem__(name, value)


class _Generation(Extension):
    """{% generation %}…{% endgeneration %} marks answers for training; for serving it is its body."""

    tags = {"generation"}  # noqa: RUF012 (the shape jinja2 declares)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _AddMeters(NodeTransformer):
    """Puts the meter into a parsed template."""

    def visit_For(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("meter_step")))
        return node

    visit_Macro = visit_CallBlock = visit_For

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        self.generic_visit(node)
        node.node = _call("meter_kept", node.node)
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, "meter_kept", [], [], None, None)
        return node


def _call(name: str, *arguments: Any) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)


def _compile(source: str) -> tuple[Template, frozenset[str]]:
    environment = _Environment()
    try:
        tree = environment.parse(source)
        names = frozenset(meta.find_undeclared_variables(tree))
        tree = _AddMeters().visit(tree)
        nodes.Node.set_lineno(tree, 1).set_environment(environment)
        template = Template.from_code(environment, environment.compile(tree), environment.make_globals(None))
        return template, names
    except (TemplateError, RecursionError, SyntaxError) as error:
        raise TemplateRefused(f"the chat template does not compile: {type(error).__name__}") from error


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """{"eos_token": "</s>"}: the values of tokenizer_config.json are strings, or objects with `content`."""
    tokens = {name: value for name, value in config.items() if name.endswith("_token")}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in tokens.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """JSON as Hugging Face's templates expect it: nothing escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=min(indent, 16) if indent else indent, **options)


def _raise_exception(message: str) -> None:
    raise _Raised(message)
