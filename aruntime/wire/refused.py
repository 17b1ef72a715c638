"""What OpenAI and vLLM document and this server does not serve: each field with its reason, and what changes nothing.

docs/wire/openai.md is written from these tables. An entry leaves when its field is served.
"""

from aruntime.wire.body import NotServed

_TEXT_ONLY = "models here read and write text only"
_HIDDEN = "tokens are told by their text; /tokenize tells ids"

STREAM_OPTIONS = {
    "include_obfuscation": NotServed("events are not padded", False),
    "continuous_usage_stats": NotServed("usage is told once, at the end", False),
}

TEXT_PART = {"prompt_cache_breakpoint": NotServed("every prefix is cached, for as long as there is room")}

MESSAGE = {
    "annotations": NotServed("there are no citations", []),
    "audio": NotServed(_TEXT_ONLY),
    "refusal": NotServed("models here refuse in their text"),
}

_OPENAI = {
    "moderation": NotServed("no moderation model runs beside the model"),
    "prompt_cache_options": NotServed("every prefix is cached, for as long as there is room", {}, {"mode": "implicit"}),
    "prompt_cache_retention": NotServed("the cache is in memory, for as long as there is room", "in_memory"),
}

_VLLM = {
    "add_special_tokens": NotServed("send the ids that /tokenize makes without them", True),
    "allowed_token_ids": NotServed("logit_bias favours tokens, a grammar allows them"),
    "cache_salt": NotServed("a tenant's prefixes are found by itself only, or by its group"),
    "ec_transfer_params": NotServed("encoders do not run apart"),
    "guided_decoding_backend": NotServed("there is one"),
    "guided_whitespace_pattern": NotServed("whitespace is bounded always"),
    "kv_transfer_params": NotServed("prefill and decode do not run apart"),
    "length_penalty": NotServed("there is no beam search", 1.0, 1),
    "logits_processors": NotServed("a request cannot bring code"),
    "logprob_token_ids": NotServed("logprobs are told of the most likely tokens"),
    "mm_payload": NotServed(_TEXT_ONLY, "tensors"),
    "priority": NotServed("the header x-request-priority names a class", 0),
    "prompt_logprobs": NotServed("/v1/completions tells them with echo and logprobs"),
    "repetition_detection": NotServed("repetition_penalty and max_tokens bound a loop"),
    "request_id": NotServed("the header x-request-id names a request"),
    "return_mm_kwargs": NotServed(_TEXT_ONLY, False),
    "return_token_ids": NotServed(_HIDDEN, False),
    "return_token_offsets": NotServed(_HIDDEN, False),
    "return_tokens_as_token_ids": NotServed(_HIDDEN, False),
    "return_weight_versions": NotServed("the header x-model-version tells it", False),
    "routed_experts_prompt_start": NotServed("experts are not told", 0),
    "session_id": NotServed("the header x-session-id names a session"),
    "skip_special_tokens": NotServed("special tokens have no text in an answer", True),
    "spaces_between_special_tokens": NotServed("special tokens have no text in an answer", True, False),
    "stream_interval": NotServed("every step's tokens are one event", 1),
    "structural_tag": NotServed("a grammar can say it"),
    "thinking_token_budget": NotServed("max_completion_tokens counts thinking too"),
    "truncate_prompt_tokens": NotServed("a prompt that is too long is refused, never cut"),
    "truncation_side": NotServed("a prompt that is too long is refused, never cut"),
    "use_beam_search": NotServed("there is no beam search", False),
    "vllm_xargs": NotServed("there are no extensions to hand them to"),
    "watermarking": NotServed("there is no watermark", False),
}

COMPLETION = (
    _OPENAI
    | _VLLM
    | {
        "store": NotServed("chats and responses are kept", False),
        "prompt_embeds": NotServed("a prompt is text or token ids"),
        "suffix": NotServed("models here go on from a prompt; none fills a gap"),
    }
)

CHAT = (
    _OPENAI
    | _VLLM
    | {
        "add_generation_prompt": NotServed("the answer is a turn of its own", True),
        "add_special_tokens": NotServed("the special tokens are the template's", False),
        "audio": NotServed(_TEXT_ONLY),
        "best_of": NotServed("send n, and choose", 1),
        "chat_template": NotServed("a request cannot bring a template: it would be code"),
        "continue_final_message": NotServed("the answer is a turn of its own", False),
        "documents": NotServed("put them into a message", []),
        "echo": NotServed("the answer is a turn of its own", False),
        "include_reasoning": NotServed("thoughts are always told, apart from the answer", True),
        "media_io_kwargs": NotServed(_TEXT_ONLY, {}),
        "mm_processor_kwargs": NotServed(_TEXT_ONLY, {}),
        "modalities": NotServed(_TEXT_ONLY, ["text"]),
        "prediction": NotServed("nothing is decoded ahead of the model"),
        "return_prompt_text": NotServed("/tokenize and /detokenize tell it", False),
        "verbosity": NotServed("models here have no such switch: ask in a message", "medium"),
        "web_search_options": NotServed("this server fetches nothing"),
    }
)

RESPONSES = _OPENAI | {
    "access_programs": NotServed("there are none"),
    "background_options": NotServed("there is one pace", {"completion_window": "soonest"}),
    "context_management": NotServed("a conversation is never edited here", []),
    "conversation": NotServed("send previous_response_id, or the items"),
    "image": NotServed(_TEXT_ONLY),
    "max_tool_calls": NotServed("this server calls no tools of its own"),
    "prompt": NotServed("this server keeps no prompts: send the text"),
}

INPUT_TOKENS = {
    "conversation": RESPONSES["conversation"],
    "personality": NotServed("models here have no such switch: ask in instructions"),
}
