"""How one replica is set up, and by which engine's rules it schedules.

The rule sets follow the documented behaviour of vLLM's v1 scheduler and of TensorRT-LLM's in-flight batching; the tests
`test_rules` and `test_documented_behaviour` hold them to it, with the documents, and say what of these is not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass

from reference.engine.sequence import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Where the schedulers of real engines differ. A value, so that a difference can be tested one at a time."""

    name: str
    chunked_prefill: bool
    """A prompt may be computed over several steps, as the budget allows; otherwise it waits for a step with room."""
    chunks_are_whole_blocks: bool
    """A chunk that does not finish its prompt is rounded down to whole KV blocks."""
    reserves_to_completion: bool
    """A sequence starts only when the KV blocks of its whole answer are sure, so none is ever preempted."""
    shares_while_prefilling: bool
    """Blocks of a prompt can be reused from the step that computes them; otherwise once its prefill has ended."""


VLLM = RuleSet(
    name="vllm",
    chunked_prefill=True,
    chunks_are_whole_blocks=False,
    reserves_to_completion=False,
    shares_while_prefilling=True,
)
TRT = RuleSet(
    name="trt",
    chunked_prefill=False,
    chunks_are_whole_blocks=True,
    reserves_to_completion=True,
    shares_while_prefilling=False,
)
TRT_MAX_UTILIZATION = RuleSet(
    name="trt_max_utilization",
    chunked_prefill=False,
    chunks_are_whole_blocks=True,
    reserves_to_completion=False,
    shares_while_prefilling=False,
)

RULE_SETS: dict[str, RuleSet] = {rules.name: rules for rules in (VLLM, TRT, TRT_MAX_UTILIZATION)}
"""`vllm`: vLLM v1. `trt`: TensorRT-LLM, GUARANTEED_NO_EVICT (its default); `trt_max_utilization`: MAX_UTILIZATION."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The settings of a replica that matter to its scheduler, by vLLM's names.

    Raises:
        EngineError: a value is not positive, the rules are unknown, or the budget could starve a running sequence.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192
    block_size: int = 16
    num_blocks: int = 10_000
    """KV blocks of the replica, all usable (vLLM's null block is not counted)."""
    prefix_caching: bool = True
    rules: str = "vllm"
    chunked_prefill: bool | None = None
    """None: as the rules have it by default."""
    leaping: bool = True
    """Take the decode steps between two events in closed form. Off: every step singly, with the same result."""

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size", "num_blocks"):
            if getattr(self, name) < 1:
                raise EngineError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.rules not in RULE_SETS:
            raise EngineError(f"rules {self.rules!r} are unknown; known are {', '.join(sorted(RULE_SETS))}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise EngineError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs ({self.max_num_seqs}); "
                "a full batch could not decode in one step"
            )
        if self.rule_set.chunks_are_whole_blocks and self.chunks and self.max_num_batched_tokens < self.block_size:
            raise EngineError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below block_size ({self.block_size}), "
                f"and {self.rules} computes chunks of whole blocks"
            )

    @property
    def rule_set(self) -> RuleSet:
        """The rules by value."""
        return RULE_SETS[self.rules]

    @property
    def chunks(self) -> bool:
        """Whether prompts are computed in chunks."""
        return self.rule_set.chunked_prefill if self.chunked_prefill is None else self.chunked_prefill
