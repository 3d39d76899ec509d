"""Before the first request: an endpoint that cannot be flown at is told in one message."""

import socket
import subprocess
import sys

import pytest

from e2e.replay import get_to_know, models_for, served_models
from e2e.replay.address import address_of
from sim.experiment.errors import InputError


def test_an_endpoint_tells_which_models_it_serves(sse_server):
    assert "steady" in served_models(sse_server)
    assert served_models(f"{sse_server}/v1/") == served_models(sse_server)


def test_two_questions_tell_how_words_become_tokens(sse_server):
    known = get_to_know(sse_server, "steady")
    assert known.wording.tokens_per_word == pytest.approx(3)
    assert known.wording.fixed_tokens == pytest.approx(10)
    assert known.takes_exact_lengths


def test_a_refused_connection_is_told():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"127.0.0.1:{port}: connection refused"):
        served_models(f"http://127.0.0.1:{port}")


def test_a_server_that_is_no_model_server_is_told(sse_server):
    with pytest.raises(InputError, match="expected an OpenAI-compatible server"):
        served_models(f"{sse_server}/elsewhere")


def test_a_certificate_that_nobody_knows_is_told(tls_server):
    url, _ = tls_server
    with pytest.raises(InputError, match="--insecure trusts any certificate"):
        served_models(url)
    assert "steady" in served_models(url, verify_tls=False)


def test_a_model_that_is_not_served_is_told_with_the_nearest():
    with pytest.raises(InputError, match=r"does not serve 'llama-3'.*did you mean --model llama-3.1"):
        models_for(["llama-3"], ["llama-3.1", "qwen"], None, "http://here")


def test_a_model_of_the_users_stands_for_all():
    assert models_for(["a", "b"], ["c"], "c", "http://here") == {"a": "c", "b": "c"}


@pytest.mark.parametrize(
    "url",
    ["gpu-node:8000", "ftp://gpu-node", "http://", "http://here:99999", "http://me:secret@here", "http://here?x=1"],
)
def test_what_is_no_url_is_refused_without_telling_a_password(url):
    with pytest.raises(InputError) as refused:
        address_of(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://here", "http://here:80"),
        ("https://here/", "https://here:443"),
        ("http://here:8000/v1", "http://here:8000"),
        ("http://here/prefix/v1/", "http://here:80/prefix"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_base_url_may_end_in_v1_or_not(url, whole):
    assert address_of(url).url == whole


def test_the_callers_process_stays_free_of_gevent():
    program = (
        "import sys, e2e.replay.launch, e2e.replay.preflight, e2e.replay.result, e2e.rungs.url;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('gevent', 'locust')])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == "[]"
