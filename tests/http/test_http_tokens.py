"""/tokenize and /detokenize: the ids that a completion would have, and their text again."""

from http_house import House


async def test_a_text_becomes_the_ids_of_a_prompt_and_they_become_the_text(house: House) -> None:
    text = "Grüße, 世界! <|user|>"
    there = await house.client("/tokenize", {"model": "demo", "prompt": text}).done()
    ids = house.ids(text)
    assert there.json == {"count": len(ids), "max_model_len": 200, "tokens": ids, "token_strs": None}
    back = await house.client("/detokenize", {"model": "demo", "tokens": ids}).done()
    assert back.json == {"prompt": text}


async def test_token_strs_are_the_vocabulary_s_words(house: House) -> None:
    asked = {"model": "demo", "prompt": "a é", "return_token_strs": True}
    assert (await house.client("/tokenize", asked).done()).json["token_strs"] == ["a", "Ġ", "Ã", "©"]


async def test_a_conversation_has_the_ids_that_a_chat_sends_to_the_engine(house: House) -> None:
    messages = [{"role": "user", "content": "hi"}]
    ids = (await house.client("/tokenize", {"model": "demo", "messages": messages}).done()).json["tokens"]
    house.chat()
    *_, head = await house.submitted()
    assert ids == head["prompt"]
    asked = {"model": "demo", "messages": messages, "add_generation_prompt": False}
    assert (await house.client("/tokenize", asked).done()).json["tokens"] == house.ids("<|user|>hi")


async def test_long_texts_are_done_off_the_loop_and_are_the_same(house: House) -> None:
    text = "ab" * 20_000
    there = await house.client("/tokenize", {"model": "demo", "prompt": text}).done()
    assert there.json["count"] == 40_000
    back = await house.client("/detokenize", {"model": "demo", "tokens": there.json["tokens"]}).done()
    assert back.json == {"prompt": text}


async def test_the_admission_is_not_asked(house: House) -> None:
    house.view.door.draining = True
    assert (await house.client("/tokenize", {"model": "demo", "prompt": "a"}).done()).json["count"] == 1


async def test_what_cannot_be_done_is_named(house: House) -> None:
    unknown = await house.client("/tokenize", {"model": "other", "prompt": "a"}).done()
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")
    strange = await house.client("/detokenize", {"model": "demo", "tokens": [1, 256]}).done()
    assert (strange.status, strange.json["error"]["param"]) == (400, "tokens")
