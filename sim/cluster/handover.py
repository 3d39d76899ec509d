"""Prefill/decode disaggregation: a prompt is computed on one replica, and another fetches its KV and decodes.

The flow is that of vLLM's NixlConnector, llm-d and Dynamo. The router sends a request to a prefill replica; when the
prompt is computed, the answer tells where its KV lies; then the router picks a decode replica (by a policy pool of its
own) and sends the request on, and that replica fetches the KV. The prefill replica's blocks stay taken until the KV is
through, however long that takes: this is how prompts feel a lack of decode replicas. The decode replica admits the
sequence once it has a seat and blocks; KV that has come until then lies in host memory, of which no limit is known here
(vLLM would leave it on the prefill replica). The whole prompt's KV moves, whatever the decode replica may hold of it.

A prompt that fails before its first token is tried again as any request. Once it is computed nothing is: the request
fails when either side is lost, as with Dynamo's router. What is decided about where, the two policy pools decide.
"""

from __future__ import annotations

from typing import Final

from reference.engine.plan import tick_at
from reference.engine.scheduler import Scheduler
from reference.engine.sequence import FIRST_TOKEN, Event, Rejected, Sequence, handed_over
from reference.engine.settings import EngineSettings
from reference.policy.pool import Action, Dispatch, Outcome, Refuse
from sim.cluster.agenda import Call
from sim.cluster.clock import Clock, Turn
from sim.cluster.fleet import Fleet
from sim.cluster.kv_link import Handoff, KvLinks, Transfers
from sim.cluster.machines import Machine
from sim.cluster.recorder import FAILED, OK_STATUS, Recorder
from sim.cluster.replica import Replica
from sim.cluster.router import ATTEMPT_BITS, CONNECT_TIMEOUT_SECONDS, Desk, RouterSide, Transit
from sim.experiment.schema import Pool
from sim.experiment.workload import WorkloadRequest
from sim.hardware import kv_bytes_per_token

DECODE_ATTEMPT: Final = 1 << 16
"""Added to the attempt that computed a prompt, so that both of its dispatches have a key of their own."""


class Handover:
    """What goes from the prefill replicas of one pool to its decode replicas. Made, then connected to the router."""

    def __init__(
        self,
        *,
        prompts: Desk,
        answers: Desk,
        decode: EngineSettings,
        transfers: Transfers,
        first_token: str,
        clock: Clock,
        fleet: Fleet,
        recorder: Recorder,
        hop: float,
    ) -> None:
        prompts.hands_to = answers.takes_from = self
        self._prompts = prompts
        self._answers = answers
        self._decode = Scheduler(decode)
        """Of no replica: it says what one could never decode."""
        self._transfers = transfers
        self._links = KvLinks(transfers, clock, self._on_fetched)
        self._shows_at_once = first_token == "prefill"
        self._clock = clock
        self._fleet = fleet
        self._recorder = recorder
        self._way_back = 2 * hop
        self._waiting: dict[int, Handoff] = {}
        """By request: those for which a decode replica is sought."""
        self._kept: dict[int, Handoff] = {}
        """By the key of the prompt's dispatch: those that a prefill replica has blocks for."""
        self._asking: dict[int, Handoff] = {}
        """By the key of the answer's dispatch: those that a decode replica has been told of."""

    def connect(self, transits: dict[int, Transit], router: RouterSide) -> None:
        """Learn the router's books, and how it does what is the same for every request."""
        self._transits = transits
        self._router = router

    def told(self, name: str, seconds: float) -> str:
        """Say in a sentence what moved in so many seconds of flight."""
        links, transfers = self._links, self._transfers
        busy = links.busy_seconds / (seconds * transfers.num_senders) if seconds else 0.0
        each = links.bytes_sent / links.num_sent / 1e6 if links.num_sent else 0.0
        return (
            f"{name}: the KV of {links.num_sent:,} prompts, {each:,.0f} MB each in the mean, went from prefill to "
            f"decode replicas; the links were busy {busy:.1%} of the time"
        )

    # What the router passes on

    def submit(self, transit: Transit, hashes: tuple[int, ...]) -> Rejected | None:
        """Give a request that has reached its replica to it: the prompt to compute, or the KV to fetch."""
        if transit.desk is self._answers:
            self._ask(transit)
            return None
        request = transit.request
        goes_on = request.output_tokens > 1
        if goes_on:
            why = self._decode.why_not(handed_over(transit.key, request.input_tokens, request.output_tokens))
            if why is not None:
                return Rejected(why)
        return transit.replica.submit(Sequence(transit.key, request.input_tokens, 1, hashes, keeps_kv=goes_on))

    def act(self, action: Action, now: float) -> None:
        """Carry out what the pool of decode replicas decided."""
        if type(action) is Dispatch:
            self._dispatch(action, now)
        elif type(action) is Refuse:
            handoff = self._waiting.pop(int(action.request.request_id))
            self._fail(handoff, action.rejected.reason, action.rejected.status, now)
            self._tell_to_let_go(handoff, now)

    def on_leave(self, request: WorkloadRequest, now: float) -> Transit | None:
        """Give the dispatch of an answer whose client leaves; one that has none yet is let go of here."""
        handoff = self._waiting.pop(request.index, None)
        if handoff is not None:
            self._router.act(self._answers, self._answers.pool.cancel(str(request.index), now), now)
            self._tell_to_let_go(handoff, now)
            return None
        key = _decode_key(request.index, self._recorder.attempts[request.index])
        transit = self._transits.get(key)
        if transit is not None:
            self._router.act(self._answers, self._answers.pool.cancel(str(request.index), now), now)
        return transit

    def on_forgotten(self, transit: Transit) -> None:
        """Hear that a dispatch is off the router's books: nobody will use its KV any more."""
        self._kept.pop(transit.key, None)
        handoff = self._asking.pop(transit.key, None)
        if handoff is not None:
            self._tell_to_let_go(handoff, self._clock.now)

    def on_lost(self, replica: Replica, silently: bool) -> None:
        """Lose what a prefill replica has kept; whoever is fetching it finds out, and so does who asks later."""
        now = self._clock.now
        for key in [key for key, handoff in self._kept.items() if handoff.prefill.replica is replica]:
            self._kept.pop(key).is_lost = True
        for handoff in self._links.break_off(replica):
            self._find_lost(handoff, now, silently=silently)

    # From the prefill replica to the router

    def on_events(self, replica: Replica, events: list[Event]) -> Call:
        """Hear of prompts that are computed, and send word of them to the router."""
        arrival = replica.wire.arrival(self._clock.now)
        for kind, key, at, _, cached_tokens in events:
            transit = self._transits.get(int(key))
            if transit is None:
                continue
            if kind is FIRST_TOKEN:
                if self._shows_at_once or transit.request.output_tokens == 1:
                    self._show_first_token(transit, arrival, cached_tokens)
                if transit.request.output_tokens > 1:
                    self._kept[transit.key] = Handoff(transit, tick_at(at), cached_tokens)
        return self._clock.agenda.following(arrival, Turn.ANSWER + replica.index, self._on_computed, events)

    def _show_first_token(self, transit: Transit, arrival: float, cached_tokens: int) -> None:
        recorder, index = self._recorder, transit.index
        transit.first_token_at = arrival
        if not recorder.status[index]:
            recorder.first_token[index] = arrival + self._way_back
            recorder.cached_tokens[index] = cached_tokens

    def _on_computed(self, events: list[Event]) -> None:
        """The router hears that prompts are computed: whose answer goes on is handed over."""
        now = self._clock.now
        whole = []
        for event in events:
            if event.kind is FIRST_TOKEN:
                continue
            transit = self._transits.get(int(event.request_id))
            if transit is None:
                continue
            if transit.request.output_tokens == 1:
                whole.append(event)
            else:
                self._hand_over(transit, now)
        if whole:
            self._router.answer(whole)

    def _hand_over(self, transit: Transit, now: float) -> None:
        """Have done with the prompt, and look for who decodes."""
        del self._transits[transit.key]
        transit.replica.num_in_flight -= 1
        view = transit.view
        self._waiting[transit.index] = self._kept.get(transit.key) or _lost(transit)
        self._router.act(self._prompts, self._prompts.pool.finished(view.request_id, Outcome.OK, now), now)
        # whoever has a first token coming is not sent away for having waited for it
        self._router.act(self._answers, self._answers.pool.submit(view._replace(deadline=None), now), now)

    # From the router to the decode replica

    def _dispatch(self, action: Dispatch, now: float) -> None:
        view = action.request
        index, name = int(view.request_id), action.decision.endpoint
        handoff = self._waiting.pop(index)
        replica, prefill, recorder = self._fleet.by_name[name], handoff.prefill, self._recorder
        attempt = recorder.attempts[index]
        transit = Transit(self._answers, view, prefill.request, attempt | DECODE_ATTEMPT, replica)
        transit.first_token_at = prefill.first_token_at
        handoff.receiver = transit
        self._transits[transit.key] = transit
        self._asking[transit.key] = handoff
        replica.num_in_flight += 1
        self._answers.pool.first_token(view.request_id, now)
        recorder.endpoint[index] = name
        recorder.decided.extend((now, index, attempt, name, action.decision.reason, action.decision.scores))
        self._send(transit, now)

    def _send(self, transit: Transit, now: float) -> None:
        """Send a request on to the replica that is to decode it."""
        replica = transit.replica
        arrival = replica.wire.arrival(now)
        if arrival - now > CONNECT_TIMEOUT_SECONDS:
            self._fail_at(now + CONNECT_TIMEOUT_SECONDS, transit, "connect timeout", 504)
        else:
            turn = Turn.SUBMIT + transit.index
            self._clock.call_at(arrival + replica.request_seconds, turn, self._router.submit, transit)

    # From the decode replica to the prefill replica, and the KV back

    def _ask(self, transit: Transit) -> None:
        """A decode replica asks for KV."""
        handoff = self._asking[transit.key]
        if handoff.is_lost:
            self._find_lost(handoff, self._clock.now, silently=handoff.prefill.replica.is_silent)
        else:
            self._links.ask(handoff)

    def _on_fetched(self, handoff: Handoff) -> Call | None:
        """KV is at the decode replica: the sequence queues there, and the prefill replica has its blocks back."""
        transit = handoff.receiver
        assert transit is not None
        self._asking.pop(transit.key, None)
        self._let_go(handoff)
        if not transit.is_in_engine or self._transits.get(transit.key) is not transit:
            return None
        request = transit.request
        sequence = handed_over(
            transit.key,
            request.input_tokens,
            request.output_tokens,
            transit.view.block_hashes,
            first_token_tick=handoff.first_token_tick if self._shows_at_once else None,
            cached_tokens=handoff.cached_tokens,
        )
        rejected = transit.replica.submit(sequence)
        if rejected is not None:
            transit.is_in_engine = False
            now = self._clock.now
            self._fail_at(transit.replica.wire.arrival(now), transit, rejected.reason, rejected.status)
        return transit.replica.wake()

    # What goes wrong

    def _fail_at(self, when: float, transit: Transit, reason: str, status: int) -> None:
        self._clock.agenda.add(self._router.failing(when, transit, reason, status))

    def _find_lost(self, handoff: Handoff, now: float, *, silently: bool) -> None:
        """A decode replica finds that KV is gone, at once or by a timeout, and says so."""
        transit = handoff.receiver
        assert transit is not None
        seen = now + CONNECT_TIMEOUT_SECONDS if silently else now
        reason = f"the KV of its prompt was lost with {handoff.prefill.replica.name}"
        self._fail_at(transit.replica.wire.arrival(seen), transit, reason, 502)

    def _fail(self, handoff: Handoff, reason: str, status: int, now: float) -> None:
        """End a request for which there is nobody to decode."""
        request, recorder = handoff.prefill.request, self._recorder
        index = request.index
        is_open = not recorder.status[index]
        if is_open and handoff.prefill.first_token_at <= now:
            recorder.last_token[index] = now + self._way_back
            recorder.output_tokens[index] = 1
            status = OK_STATUS
        self._router.close(request, now, FAILED, reason, status, request.input_tokens + recorder.output_tokens[index])

    def _tell_to_let_go(self, handoff: Handoff, now: float) -> None:
        """Send word to the prefill replica that nobody will fetch this."""
        arrival = handoff.prefill.replica.wire.arrival(now)
        self._clock.call_at(arrival, Turn.LEAVE + handoff.prefill.index, self._on_let_go, handoff)

    def _on_let_go(self, handoff: Handoff) -> None:
        if not self._links.is_moving(handoff):  # what is moving is let go of when it is through
            self._let_go(handoff)

    def _let_go(self, handoff: Handoff) -> None:
        if handoff.is_over:
            return
        handoff.is_over = True
        self._kept.pop(handoff.prefill.key, None)
        if not handoff.is_lost:
            handoff.prefill.replica.release(handoff.prefill.key)


def _decode_key(index: int, attempt: int) -> int:
    return index | (attempt | DECODE_ATTEMPT) << ATTEMPT_BITS


def _lost(transit: Transit) -> Handoff:
    handoff = Handoff(transit, 0, 0)
    handoff.is_lost = True
    return handoff


def handover_between(
    prompts: Desk, answers: Desk, pool: Pool, machine: Machine, parts: tuple[Clock, Fleet, Recorder], hop: float
) -> Handover:
    """Make what is between the two desks of a disaggregated pool, whose decode replicas are of `machine`."""
    given = pool.disaggregated
    assert given is not None
    per_token = given.kv_bytes_per_token or kv_bytes_per_token(pool.model, kv_cache=pool.kv_cache)
    clock, fleet, recorder = parts
    return Handover(
        prompts=prompts,
        answers=answers,
        decode=machine.settings,
        transfers=Transfers(
            bytes_per_token=per_token,
            bytes_per_second=given.transfer_gb_per_s * 1e9,
            latency=given.transfer_latency,
            num_senders=given.prefill_replicas,
        ),
        first_token=given.first_token,
        clock=clock,
        fleet=fleet,
        recorder=recorder,
        hop=hop,
    )
