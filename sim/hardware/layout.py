"""How the GPUs of one replica share a model: tensor, pipeline, data and expert parallelism.

A replica has `pipeline_parallel` stages, each with an equal part of the layers, on `tensor_parallel` × `data_parallel`
GPUs. In a stage the attention of a layer is split over `tensor_parallel` GPUs and repeated `data_parallel` times, each
for its own sequences; the experts of a mixture are spread over all of the stage's GPUs: whole ones where
`expert_parallel` is their number, a slice of each where it is 1. This is how vLLM counts (its `enable_expert_parallel`
takes all of tensor × data); TensorRT-LLM also allows a mix of slices and whole experts, which is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.hardware.catalogue import HardwareError, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The degrees of parallelism of a replica, by vLLM's names. Immutable."""

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: int = 1

    @property
    def stage_gpus(self) -> int:
        """GPUs that share a layer."""
        return self.tensor_parallel * self.data_parallel

    @property
    def num_gpus(self) -> int:
        """Of the whole replica."""
        return self.stage_gpus * self.pipeline_parallel

    def check(self, shape: Model) -> None:
        """Refuse what cannot be cut so.

        Raises:
            HardwareError: it names the degree, and those that are possible.
        """
        heads, layers, experts = shape.num_heads, shape.num_layers, shape.num_experts
        _check_divides("tensor_parallel", self.tensor_parallel, heads, f"{heads} attention heads", shape)
        _check_divides("pipeline_parallel", self.pipeline_parallel, layers, f"{layers} layers", shape)
        for name in ("data_parallel", "expert_parallel"):
            if getattr(self, name) != 1 and not experts:
                instead = "; give it more replicas instead" if name == "data_parallel" else ""
                raise HardwareError(f"{name} {getattr(self, name)}: {shape.name} is no mixture of experts{instead}")
        if self.expert_parallel not in (1, self.stage_gpus):
            raise HardwareError(
                f"expert_parallel {self.expert_parallel} is not the number of GPUs that share a layer "
                f"(tensor_parallel × data_parallel = {self.stage_gpus}); expected that, or 1"
            )
        if self.expert_parallel > 1:
            _check_divides("expert_parallel", self.expert_parallel, experts, f"{experts} experts", shape)

    def rank_parameters(self, shape: Model, stage: int) -> float:
        """Count the parameters that each GPU of a stage (from 0) holds.

        The first stage has the embedding, the last the head; models that tie the two hold both where stages differ.
        """
        per_layer = self.data_parallel * shape.attention_parameters
        router = shape.hidden_size * shape.num_experts
        per_layer += shape.expert_parameters * max(1, shape.num_experts) + self.data_parallel * router
        table = shape.vocab_size * shape.hidden_size
        tables = (stage == 0) + (stage == self.pipeline_parallel - 1)
        if shape.ties_embeddings:
            tables = min(tables, 1)
        layers = shape.num_layers // self.pipeline_parallel
        return (layers * per_layer + tables * table * self.data_parallel) / self.stage_gpus


def _check_divides(name: str, degree: int, whole: int, what: str, shape: Model) -> None:
    if degree < 1 or whole % degree:
        usual = (1, 2, 4, 8, 16) if name == "tensor_parallel" else range(1, 17)
        possible = ", ".join(str(degree) for degree in usual if whole % degree == 0)
        raise HardwareError(f"{name} {degree} does not divide the {what} of {shape.name}; possible are {possible}")
