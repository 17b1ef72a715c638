"""Chat templates: what they may do, and that nothing they do is without a bound."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from aruntime.model.chat_template import SOURCE_CHARACTERS_MAX, ChatTemplate, TemplateRefused

HELLO = [{"role": "user", "content": "Hello"}]
NAMES = {"bos_token": "<s>"}


def render(source: str, messages: list[dict[str, Any]] = HELLO, **options: Any) -> str:
    template = ChatTemplate(source, NAMES)
    return template.render(messages, tools=options.get("tools"), add_generation_prompt=True)


def test_blocks_leave_no_blank_lines() -> None:
    assert render("{{ bos_token }}\n  {% for m in messages %}\n{{ m.role }}: {{ m.content }}\n  {% endfor %}\n") == (
        "<s>\nuser: Hello\n"
    )


def test_templates_find_what_hugging_face_gives_them() -> None:
    assert render("{{ tools | tojson }}", tools=[{"a": "<ü>"}]) == '[{"a": "<ü>"}]'
    assert render("{{ tools | tojson(indent=2) }}", tools=[1]) == json.dumps([1], indent=2)
    assert render("{{ strftime_now('%Y') }}") == str(datetime.now().year)
    assert render("{% for i in range(9) %}{% if i > 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "012"
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hello"
    assert render("{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}") == "2"
    assert render("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m('a') + m('b') }}") == "[a][b]"
    assert render("{% for m in messages if m.role == 'user' %}{{ loop.length }}{{ loop.last }}{% endfor %}") == "1True"
    assert render("{% set x %} kept {% endset %}{{ x | trim }}") == "kept"
    assert render("{{ messages[0].content.split('l')[-1] }}{{ 7 % 4 * 2 }}") == "o6"


def test_keys_without_a_value_are_left_out() -> None:
    assert render("{{ 'tool_calls' in messages[0] }}", [{"role": "user", "tool_calls": None}]) == "False"


def test_a_request_s_options_are_names_that_hide_none_of_the_renderer_s() -> None:
    given = {"enable_thinking": False, "bos_token": "x", "messages": "x", "range": "x", "raise_exception": "x"}
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ enable_thinking }}{{ range(2) | list }}", NAMES)
    text = template.render(HELLO, tools=None, add_generation_prompt=True, options=given)
    assert text == "<s>HelloFalse[0, 1]"


def test_what_the_template_refuses_is_told_in_its_own_words() -> None:
    with pytest.raises(TemplateRefused, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}{{ ().__class__.__bases__[0].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages[0].pop('role') }}",
        "{{ raise_exception.__globals__.json }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{% include 'secret' %}",
        "{{ messages[0].missing.deeper }}",
        "{{ '%s' | format('x') }}",
    ],
)
def test_a_template_neither_leaves_the_sandbox_nor_changes_its_input(source: str) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    with pytest.raises(TemplateRefused):
        render(source, messages)
    assert messages == HELLO


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ range(10000000) | list }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ messages[0].content }}" + "x" * 999 + "{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ 9 ** 999999999 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{% set ns = namespace(x='xx') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[0]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set a %}xxxxxxxx{% endset %}"
        + "".join("{% set a %}{{ a }}{{ a }}{% endset %}" for _ in range(40))
        + "{{ a | length }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_template_bomb_ends_soon(bomb: str) -> None:
    with pytest.raises(TemplateRefused):
        render(bomb)


def test_rendering_ends_when_its_time_is_up() -> None:
    def clock() -> Iterator[float]:
        yield 0.0
        for now in range(100):
            yield now / 10

    ticks = clock()
    template = ChatTemplate("{% for i in range(90) %}{% endfor %}", {}, clock=lambda: next(ticks))
    with pytest.raises(TemplateRefused, match="too long"):
        template.render(HELLO, tools=None, add_generation_prompt=True)


def test_the_meter_cannot_be_reached_from_the_template() -> None:
    with pytest.raises(TemplateRefused):
        render("{% set meter_step = 1 %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")


def test_a_template_that_is_none_is_refused_at_load() -> None:
    with pytest.raises(TemplateRefused, match="does not compile"):
        ChatTemplate("{% for %}", {})
    with pytest.raises(TemplateRefused, match="characters"):
        ChatTemplate("x" * (SOURCE_CHARACTERS_MAX + 1), {})


def test_the_file_goes_before_the_configuration(tmp_path: Path) -> None:
    config = {"chat_template": [{"name": "rag", "template": "no"}, {"name": "default", "template": "configured"}]}
    configured = ChatTemplate.from_folder(tmp_path, config)
    (tmp_path / "chat_template.jinja").write_text("a file{{ eos_token }}")
    filed = ChatTemplate.from_folder(tmp_path, {**config, "eos_token": {"content": "</s>"}})
    assert configured is not None
    assert filed is not None
    assert configured.render([], tools=None, add_generation_prompt=False) == "configured"
    assert filed.render([], tools=None, add_generation_prompt=False) == "a file</s>"
    assert ChatTemplate.from_folder(tmp_path / "none", {}) is None
