"""The compiled functions of a stage.

`_advance` takes each row of a batch one step of its own further and is the only sampling code. `step` compiles it for
one batch, `step_rows` for batches of one row each that take the step together, and `loop` for all steps at once.
"""

from dataclasses import replace
from functools import cache, partial
from typing import Any, Final

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from reimagen_generator.config.cascade import Guidance, SamplerKind, StageConfig
from reimagen_generator.diffusion import guidance as guiding
from reimagen_generator.diffusion import prediction
from reimagen_generator.diffusion.conditions import Conditions, augment, encode_neighbors
from reimagen_generator.diffusion.copying import copied
from reimagen_generator.diffusion.noise import Purpose, normal, uniform
from reimagen_generator.diffusion.resize import low_res_consistent
from reimagen_generator.diffusion.samplers.row_sampler import RowSampler, step_noise
from reimagen_generator.diffusion.samplers.sampler import Step
from reimagen_generator.diffusion.sampling_state import Rows, RowSteps, SamplingState, concatenate_rows
from reimagen_generator.diffusion.thresholding import threshold
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Network, Text
from reimagen_generator.parallel.sharding import constrain_rows, unshard

_Images = Float[Array, "batch height width 3"]
_Parameters = nnx.State[Any, Any]
_CHANNELS = 3


class StageProgram:
    """The compiled functions of a stage, without its parameters."""

    def __init__(
        self, config: StageConfig, graph: nnx.GraphDef[Network], factor: int | None, mesh: Mesh | None
    ) -> None:
        """Make a program; use `stage_program`, which shares it.

        Args:
            config: The configuration of the stage.
            graph: Its network without parameters.
            factor: This stage's size over the previous stage's; None for the first stage.
            mesh: The devices over which parameters and rows are sharded; None for the device of the parameters.
        """
        self.sampler = RowSampler()
        """The sampler of its steps."""
        self._config = config
        self._graph = graph
        self._factor = factor
        self._mesh = mesh

    def network(self, parameters: _Parameters) -> Network:
        """Return the network with parameters."""
        network: Network = nnx.merge(self._graph, parameters)
        return network

    def begin(self, rows: Rows) -> SamplingState:
        """Return a batch before its first step."""
        x = normal(rows.keys, Purpose.INITIAL, jnp.zeros(len(rows.keys), jnp.int32), self._config.size)
        return SamplingState(x, x, self.sampler.initialize(x), rows)

    @partial(jax.jit, static_argnums=0)
    def encode_neighbors(
        self,
        parameters: _Parameters,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
    ) -> Neighbors:
        """Return the neighbors' keys and values; see `Stage.encode_neighbors`."""
        network = self.network(unshard(parameters, self._mesh))
        neighbors = encode_neighbors(network, images, text, mask, self._factor, self._config.upsampling)
        return constrain_rows(neighbors, self._mesh)

    @partial(jax.jit, static_argnums=0)
    def augment(self, previous: Float[Array, "batch h w 3"], keys: Key[Array, " batch"]) -> LowResolution:
        """Return the augmented low-resolution images at this stage's size."""
        assert self._factor is not None
        rows = len(keys)
        level = jnp.full(rows, self._config.augmentation)
        noise = normal(keys, Purpose.AUGMENTATION, jnp.zeros(rows, jnp.int32), self._config.size)
        return constrain_rows(augment(self._config, previous, self._factor, level, noise), self._mesh)

    @partial(jax.jit, static_argnums=(0, 1))
    def loop(
        self,
        different: tuple[int, ...],
        parameters: _Parameters,
        state: SamplingState,
        steps: RowSteps,
        which: Int[Array, " steps"],
    ) -> _Images:
        """Take all steps; `which` says for each of them which of the `different` numbers of evaluations it makes."""
        rows = state.rows

        def body(carried: tuple[_Images, Any], at: tuple[RowSteps, Int[Array, ""]]) -> tuple[tuple[_Images, Any], None]:
            x, carry = carried
            row_steps, choice = at

            def advance(count: int) -> tuple[_Images, Any]:
                x_s, _, after = self._advance(count, parameters, SamplingState(x, x, carry, rows), row_steps)
                return x_s, after

            branches = [partial(advance, count) for count in different]
            return jax.lax.switch(choice, branches) if len(branches) > 1 else branches[0](), None

        (x, _), _ = jax.lax.scan(body, (state.x, state.carry), (steps, which))
        return x

    def _advance(
        self, count: int, parameters: _Parameters, state: SamplingState, steps: RowSteps
    ) -> tuple[_Images, _Images, Any]:
        """Return x_s, the predicted x_0 and the sampler's carry."""
        network = self.network(unshard(parameters, self._mesh))
        x, rows, step = state.x, state.rows, steps.number
        conditions = rows.conditions
        t, log_snr_t, log_snr_s = (steps.times[:, column] for column in range(3))
        r = uniform(rows.keys, Purpose.INTERLEAVE, step)
        keep = guiding.evaluations(rows.guidance, count, r)
        stacked: Conditions = jax.tree.map(lambda a: jnp.concatenate([a] * count), conditions)
        text = guiding.drop_text(stacked.text, keep.text.reshape(-1), stacked.empty_text)
        neighbors = stacked.neighbors and replace(
            stacked.neighbors, mask=stacked.neighbors.mask & keep.neighbors.reshape(-1, 1)
        )
        stacked_x = jnp.concatenate([x] * count)
        text, neighbors, stacked, stacked_x = constrain_rows((text, neighbors, stacked, stacked_x), self._mesh)
        output = network(stacked_x, jnp.tile(t, count), text, neighbors, stacked.low_resolution).astype(x.dtype)
        if self._config.network.placed:
            output = copied(self._config.prediction, output, neighbors, stacked_x, jnp.tile(log_snr_t, count))
        # The variance, where one is learned, is that of the evaluation that keeps everything.
        output, variance = output[..., :_CHANNELS], output[: x.shape[0], ..., _CHANNELS:]
        epsilons = prediction.to_epsilon(self._config.prediction, output, stacked_x, jnp.tile(log_snr_t, count))
        epsilon = guiding.combine(rows.guidance, steps.guided, epsilons.reshape(count, *x.shape), r)
        x_0 = threshold(prediction.epsilon_to_x0(epsilon, x, log_snr_t), self._config.thresholding)
        if conditions.low_res is not None and self._factor is not None:
            x_0 = low_res_consistent(x_0, conditions.low_res, self._factor, self._config.upsampling)
        x, carry = self.sampler.step(
            state.carry,
            Step(
                x_t=x,
                x_0=x_0,
                epsilon=prediction.x0_to_epsilon(x_0, x, log_snr_t),
                log_snr_t=log_snr_t,
                log_snr_s=log_snr_s,
                noise=step_noise(rows.samplers, rows.keys, step, self._config.size),
                variance=variance if self._config.network.learned_variance else None,
            ),
            rows.samplers,
        )
        return constrain_rows((x, x_0, carry), self._mesh)

    step = jax.jit(_advance, static_argnums=(0, 1))

    @partial(jax.jit, static_argnums=(0, 1))
    def step_rows(
        self,
        count: int,
        parameters: _Parameters,
        states: tuple[SamplingState, ...],
        steps: tuple[RowSteps, ...],
    ) -> list[tuple[_Images, _Images, Any]]:
        """Return what `step` gives for each of several batches of one row, which take the step together."""
        joined, joined_steps = concatenate_rows(states), concatenate_rows(steps)
        advanced = self._advance(count, parameters, constrain_rows(joined, self._mesh), joined_steps)
        rows = [jax.tree.map(lambda a, row=row: a[row : row + 1], advanced) for row in range(len(states))]
        return constrain_rows(rows, self._mesh)


def stage_program(
    config: StageConfig, graph: nnx.GraphDef[Network], factor: int | None, mesh: Mesh | None
) -> StageProgram:
    """Return the program of a stage; see `StageProgram` for the arguments.

    JAX compiles once for each program and shape. Stages that differ only in parameters, guidance, steps or sampler
    share a program.
    """
    return _shared_program(config.model_copy(update=_NO_CODE), graph, factor, mesh)


# What the compiled functions take as arguments, or do not use.
_NO_CODE: Final = {"guidance": Guidance(), "sampler": SamplerKind.DDIM, "steps": 1, "timestep_respacing": None}
_shared_program = cache(StageProgram)
