"""Laws of what is sent: the same words as the reference renders, prefixes shared as the workload says, nothing lost."""

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.replay.plan import Settings, read_plan, write_plan
from e2e.replay.prompts import Prompter, Wording, words_of
from reference.tokens import segment_words
from sim.experiment.workload import PromptSegment, Workload, WorkloadRequest

KEYS = st.integers(0, 2**61)
SEGMENTS = st.lists(st.builds(PromptSegment, KEYS, st.integers(1, 40)), min_size=1, max_size=4)


def request(index: int = 0, tokens: int = 5, **more) -> WorkloadRequest:
    return WorkloadRequest(index, index * 0.1, tokens, 4, "a-model", **more)


def write(directory, requests, **more) -> None:
    workload = Workload(tuple(requests), 1.0, "0123456789")
    defaults = {"api_keys": {}, "models": {}, "wording": Wording(), "salt": 0}
    write_plan(directory, workload, Settings(base_url="http://here"), **defaults | more)


@given(KEYS, st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_the_words_are_those_of_the_reference(key, count):
    assert words_of(key, count).decode() == segment_words(key, count)


@given(SEGMENTS, SEGMENTS, SEGMENTS, KEYS)
@settings(max_examples=60, deadline=None)
def test_prompts_share_exactly_the_segments_that_the_workload_shares(common, left, right, salt):
    prompter = Prompter(Wording(), salt)
    texts = [prompter.prompt(request(prompt=(*common, *own))) for own in (left, right)]
    shared = b" ".join(words_of(segment.key ^ salt, segment.tokens) for segment in common)
    assert all(text.startswith(shared + b" ") for text in texts)
    assert (texts[0] == texts[1]) == (left == right)
    assert [len(text.split()) for text in texts] == [
        sum(segment.tokens for segment in (*common, *own)) for own in (left, right)
    ]


def test_a_segment_of_no_tokens_has_no_words():
    prompter = Prompter(Wording(), 0)
    with_it = request(prompt=(PromptSegment(1, 3), PromptSegment(2, 0), PromptSegment(3, 2)))
    without = request(prompt=(PromptSegment(1, 3), PromptSegment(3, 2)))
    assert prompter.prompt(with_it) == prompter.prompt(without)


def test_prompts_without_segments_share_nothing():
    prompter = Prompter(Wording(), 0)
    firsts = [prompter.prompt(request(index)).split()[0] for index in range(200)]
    assert len(set(firsts)) == 200


@given(st.floats(1.0, 5.0), st.integers(0, 30), st.integers(100, 4000))
@settings(max_examples=60, deadline=None)
def test_a_real_tokenizer_counts_what_the_workload_asks_for(per_word, template, tokens):
    text = Prompter(Wording(per_word, template), 0).prompt(request(tokens=tokens))
    counted = template + per_word * len(text.split())
    assert abs(counted - tokens) <= per_word


def test_a_salt_moves_every_prompt():
    plain, salted = (Prompter(Wording(), salt).prompt(request(tokens=20)) for salt in (0, 99))
    assert not set(plain.split()) & set(salted.split())


def test_each_body_asks_for_what_the_workload_says(tmp_path):
    write(tmp_path, [request(index) for index in range(3)], models={"a-model": "served/name"})
    _, plan = read_plan(tmp_path)
    bodies = [json.loads(bytes(planned.body)) for planned in plan]
    assert [body["model"] for body in bodies] == ["served/name"] * 3
    assert [(body["max_tokens"], body["min_tokens"], body["ignore_eos"]) for body in bodies] == [(4, 4, True)] * 3
    assert all(body["stream"] and body["stream_options"] == {"include_usage": True} for body in bodies)
    assert all(len(body["messages"][0]["content"].split()) == 5 for body in bodies)


def test_an_endpoint_that_knows_no_exact_lengths_is_not_asked_for_them(tmp_path):
    write(tmp_path, [request()], exact_lengths=False)
    body = json.loads(bytes(read_plan(tmp_path)[1][0].body))
    assert body["max_tokens"] == 4
    assert not {"min_tokens", "ignore_eos"} & body.keys()


@given(st.integers(0, 25), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_several_senders_share_a_plan_without_loss(tmp_path_factory, count, senders):
    directory = tmp_path_factory.mktemp("plan")
    write(directory, [request(index) for index in range(count)])
    shares = [read_plan(directory, (part, senders))[1] for part in range(senders)]
    assert sorted(planned.index for share in shares for planned in share) == list(range(count))
    assert all(sooner.scheduled <= later.scheduled for share in shares for sooner, later in pairwise(share))
