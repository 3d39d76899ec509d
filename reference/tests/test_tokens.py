"""Block hashes: chained, the same for equal prefixes only, and alike for segments and for the text they stand for."""

import subprocess
import sys
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from reference.tokens import block_hashes, hash_segments, segment_token, segment_words, words_to_tokens


@dataclass(frozen=True)
class Segment:
    key: int
    tokens: int


prompts = st.lists(st.builds(Segment, key=st.integers(0, 3), tokens=st.integers(0, 40)), min_size=1, max_size=5)
block_sizes = st.sampled_from([1, 4, 16])


def rendered(prompt: list[Segment]) -> list[int]:
    return [segment_token(segment.key, position) for segment in prompt for position in range(segment.tokens)]


def common_prefix(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


@given(left=prompts, right=prompts, block_size=block_sizes)
def test_segments_share_as_many_blocks_as_their_tokens_and_their_text(
    left: list[Segment], right: list[Segment], block_size: int
) -> None:
    by_segments = common_prefix(hash_segments(left, block_size), hash_segments(right, block_size))
    by_tokens = common_prefix(block_hashes(rendered(left), block_size), block_hashes(rendered(right), block_size))
    texts = [" ".join(segment_words(s.key, s.tokens) for s in prompt) for prompt in (left, right)]
    by_text = common_prefix(*(block_hashes(words_to_tokens(text), block_size) for text in texts))

    assert by_segments == by_tokens == by_text


@given(prompt=prompts, block_size=block_sizes)
def test_a_prompt_has_a_hash_for_each_full_block(prompt: list[Segment], block_size: int) -> None:
    num_tokens = sum(segment.tokens for segment in prompt)

    assert len(hash_segments(prompt, block_size)) == num_tokens // block_size
    assert len(words_to_tokens(" ".join(segment_words(s.key, s.tokens) for s in prompt))) == num_tokens


@given(words=st.lists(st.text(st.sampled_from("ab\u00e9"), min_size=1, max_size=12), max_size=30))
def test_words_are_equal_tokens_only_where_they_are_equal_words(words: list[str]) -> None:
    tokens = words_to_tokens(" ".join(words))

    assert len(tokens) == len(words)
    assert len(set(tokens)) == len(set(words))
    assert all(0 <= token < 2**64 for token in tokens)


@given(tokens=st.lists(st.integers(0, 9), min_size=8, max_size=32), place=st.integers(0, 7))
def test_a_changed_token_changes_its_block_and_all_after_it(tokens: list[int], place: int) -> None:
    changed = [*tokens[:place], tokens[place] + 10, *tokens[place + 1 :]]
    before, after = block_hashes(tokens, 4), block_hashes(changed, 4)

    assert before[: place // 4] == after[: place // 4]
    assert all(a != b for a, b in zip(before[place // 4 :], after[place // 4 :], strict=True))


def test_hashes_are_the_same_in_a_process_with_another_hash_seed() -> None:
    code = "from reference.tokens import *; print(block_hashes(words_to_tokens('a b c d'), 2), segment_words(3, 2))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1
