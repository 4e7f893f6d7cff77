"""The official client works unchanged, and what it gets is what the library would write."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import remask
from remask.text.ending import before_end
from tests.server.serving import TEMPLATE, post, serving

openai = pytest.importorskip("openai", reason="openai is not installed (pip install -e '.[dev]')")

DECODERS = ["low_confidence", "origin", "threshold:tau=0.5", "p2:steps=6", "random"]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as made:
        yield made


def generated(letters, prompt, *, new, decoder="low_confidence", seed=0, temperature=1.0, window="whole"):
    shapers = (remask.Temperature(temperature),) if temperature else ()
    parts = {"decoder": remask.parse_decoder(decoder), "window": remask.parse_window(window)}
    return remask.generate(remask.load(letters), [prompt], max_new_tokens=new, seed=seed, shapers=shapers, **parts)[0]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_is_what_generate_writes(client, letters, decoder, stream):
    expected = generated(letters, "how many", new=21, decoder=decoder, seed=7, window="blocks:8")
    extra = {"decoder": decoder, "window": "blocks:8"}
    asked = {"model": "tiny", "prompt": "how many", "max_tokens": 21, "temperature": 1, "seed": 7, "extra_body": extra}
    if stream:
        chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        text, usage = "".join(chunk.choices[0].text for chunk in chunks[:-1]), chunks[-1].usage
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-2]] == [None] * (len(chunks) - 2)
        finish = chunks[-2].choices[0].finish_reason
    else:
        answer = client.completions.create(**asked)
        text, usage, finish = answer.choices[0].text, answer.usage, answer.choices[0].finish_reason
        assert answer.remask == {"forwards": [expected.stats.forwards], "positions": [expected.stats.positions], "seed": 7}
    assert text == expected.text
    assert usage.completion_tokens == len(expected.tokens)
    assert usage.prompt_tokens == 8
    assert finish == ("length" if len(expected.tokens) == 21 else "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_goes_through_the_template_of_the_checkpoint(client, letters, stream):
    assert "user" not in TEMPLATE
    expected = generated(letters, "system: be brief\nuser: hi\nassistant: ", new=16, seed=2)
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    asked = {"model": "tiny", "messages": messages, "max_completion_tokens": 16, "temperature": 1, "seed": 2}
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True))
        assert chunks[0].choices[0].delta.role == "assistant"
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        text = client.chat.completions.create(**asked).choices[0].message.content
    assert text == expected.text


def test_n_rows_have_seeds_of_their_own(client, letters):
    answer = client.completions.create(model="tiny", prompt="abc", max_tokens=9, n=3, seed=5, temperature=1)
    assert [choice.text for choice in answer.choices] == [generated(letters, "abc", new=9, seed=5 + row).text for row in range(3)]
    streamed = ["", "", ""]
    for chunk in client.completions.create(model="tiny", prompt="abc", max_tokens=9, n=3, seed=5, temperature=1, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [choice.text for choice in answer.choices]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_ends_the_text_before_it(client, stream):
    asked = {"model": "tiny", "prompt": "abc", "max_tokens": 60, "temperature": 1, "seed": 3}
    whole = client.completions.create(**asked).choices[0].text
    assert len(whole) > 8
    stop = whole[len(whole) // 2 :][:3]
    cut = whole[: whole.index(stop)]
    made = client.completions.create(**asked, stop=["never seen!", stop], stream=stream)
    if stream:
        chunks = list(made)
        assert "".join(chunk.choices[0].text for chunk in chunks) == cut
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        assert (made.choices[0].text, made.choices[0].finish_reason) == (cut, "stop")
        assert made.usage.completion_tokens == len(cut)


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_are_those_of_the_tokens_written(client, letters, stream):
    model = remask.load(letters)
    asked = {"model": "tiny", "prompt": "abc", "max_tokens": 6, "temperature": 0.5, "seed": 5, "logprobs": 0, "extra_body": {"window": "blocks:1"}}
    if stream:
        parts = [chunk.choices[0].logprobs for chunk in client.completions.create(**asked, stream=True)]
        told = [value for part in parts if part is not None for value in part.token_logprobs]
    else:
        told = client.completions.create(**asked).choices[0].logprobs.token_logprobs
    made = generated(letters, "abc", new=6, seed=5, temperature=0.5, window="blocks:1")
    tokens = [*model.tokenizer.encode("abc"), *[model.mask_id] * 6]
    expected = []
    for place, token in enumerate(made.tokens, start=3):
        logits = model.logits(torch.tensor([tokens]))[0, place].clone()
        logits[model.mask_id] = float("-inf")
        expected.append(float((logits / 0.5).log_softmax(-1)[token]))
        tokens[place] = token
    assert told == pytest.approx(expected, abs=1e-4)
    chat = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}], max_tokens=4, logprobs=True)
    assert len(chat.choices[0].logprobs.content) == chat.usage.completion_tokens


def test_gaps_are_filled_between_prompt_and_suffix_and_where_the_prompt_spells_them(client, letters):
    model = remask.load(letters)
    mask = model.tokenizer.token(model.mask_id)
    ids = [*model.tokenizer.encode("abc"), *[model.mask_id] * 4, *model.tokenizer.encode("xyz")]
    (row,) = remask.decode(model, [ids], seed=4).tokens
    middle = client.completions.create(model="tiny", prompt="abc", suffix="xyz", max_tokens=4, seed=4).choices[0].text
    whole = client.completions.create(model="tiny", prompt=f"abc{mask * 4}xyz", seed=4, extra_body={"infill": True}).choices[0].text
    assert middle == model.tokenizer.decode(before_end(row[3:7].tolist(), model.eos_ids))
    assert whole == model.tokenizer.decode(row.tolist())
    assert whole.startswith("abc")


def test_the_canvas_comes_only_when_asked_for_and_replays_to_the_answer(client):
    from remask.trace.file import opening, step
    from remask.trace.record import Trace, replay

    asked = {"model": "tiny", "prompt": "abc", "max_tokens": 12, "temperature": 1, "seed": 3, "stream": True}
    assert not any("canvas" in chunk.model_extra for chunk in client.completions.create(**asked))
    chunks = list(client.completions.create(**asked, extra_body={"include_canvas": True, "decoder": "p2:steps=6"}))
    lines = [line for chunk in chunks for line in chunk.model_extra.get("canvas", [])]
    lengths = {"0": 15}
    records = [opening(line) if line["kind"] == "opening" else step(line, lengths) for line in lines if line["kind"] != "pieces"]
    pieces = {int(token): piece for line in lines if line["kind"] == "pieces" for token, piece in line["pieces"].items()}
    (tokens,) = replay(Trace.of(records)).values()
    assert "".join(pieces[token] for token in tokens).startswith("abc" + "".join(chunk.choices[0].text for chunk in chunks))
    assert [line["step"] for line in lines if line["kind"] == "step"] == [*range(len(records) - 1)]
    assert len(records) > 3


def test_many_clients_at_once_get_their_own_texts_and_only_those(client, letters):
    model = remask.load(letters)
    prompts = [f"{letter}{letter} is {place}" for place, letter in enumerate("abcdefghijklmnopqrstuvwx")]
    expected = remask.generate(model, prompts, max_new_tokens=10, seed=[*range(24)], shapers=(remask.Temperature(1.0),))

    def ask(place):
        return client.completions.create(model="tiny", prompt=prompts[place], max_tokens=10, seed=place, temperature=1).choices[0].text

    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(ask, range(24))) == [completion.text for completion in expected]


def test_the_model_is_listed_and_another_one_is_not_found(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")
    with pytest.raises(openai.NotFoundError, match="gpt-4"):
        client.completions.create(model="gpt-4", prompt="a")


def test_a_wrong_part_is_the_clients_bad_request(client):
    with pytest.raises(openai.BadRequestError, match="sloth") as caught:
        client.completions.create(model="tiny", prompt="a", extra_body={"decoder": "sloth"})
    assert caught.value.param == "decoder"


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_is_asked_to_keeps_a_trace_of_every_request(letters, tmp_path, stream):
    from remask.trace.file import read
    from remask.trace.record import replay

    with serving(letters, traces=tmp_path / "traces") as (address, _), openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        asked = {"model": "tiny", "prompt": "abc", "max_tokens": 12, "temperature": 1, "seed": 3, "n": 2, "extra_body": {"decoder": "p2:steps=6"}}
        if stream:
            chunks = list(client.completions.create(**asked, stream=True))
            name, texts = chunks[0].id, ["".join(chunk.choices[0].text for chunk in chunks if chunk.choices[0].index == row) for row in range(2)]
        else:
            answer = client.completions.create(**asked)
            name, texts = answer.id, [choice.text for choice in answer.choices]
        other = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}], max_tokens=4)
    trace = read(tmp_path / "traces" / f"{name}.jsonl")
    assert {file.stem for file in (tmp_path / "traces").iterdir()} == {name, other.id}
    assert [(trace.openings[run].seed, trace.openings[run].settings["decoder"]) for run in ("0", "1")] == [(3, "p2:steps=6"), (4, "p2:steps=6")]
    tokenizer = remask.load(letters).tokenizer
    assert [tokenizer.decode(tokens).startswith("abc" + text) for tokens, text in zip(replay(trace).values(), texts, strict=True)] == [True, True]
    assert all(event.draft is None for events in trace.events.values() for event in events)


def test_traces_that_cannot_be_kept_are_the_servers_fault_and_tell_no_path(letters, tmp_path):
    with serving(letters, traces=tmp_path / "traces") as (address, service):
        (tmp_path / "traces").rmdir()
        (tmp_path / "traces").touch()
        status, answer = post(address, "/v1/completions", {"prompt": "abc", "max_tokens": 200, "decoder": "ancestral:steps=99999"})
        assert (status, answer["error"]["message"]) == (500, "the server failed; its log says why")
        while service.engine.running or service.engine.waiting:
            time.sleep(0.01)
    (tmp_path / "file").write_text("")
    with pytest.raises(remask.RemaskError, match="folder"), serving(letters, traces=tmp_path / "file"):
        pass


@pytest.mark.parametrize("stream", [False, True])
def test_a_window_that_grows_writes_what_generate_writes(client, letters, stream):
    window = "daedal:block=8,length=8,first=0,enough=2,low=1,factor=4"
    expected = generated(letters, "how many", new=40, decoder="threshold:tau=0.5", seed=7, window=window)
    assert len(expected.tokens) > 8
    asked = {"model": "tiny", "prompt": "how many", "max_tokens": 40, "temperature": 1, "seed": 7, "extra_body": {"decoder": "threshold:tau=0.5", "window": window}}
    made = client.completions.create(**asked, stream=stream)
    assert ("".join(chunk.choices[0].text for chunk in made) if stream else made.choices[0].text) == expected.text
