"""Conversion of `unet/config.json` in a DeepFloyd IF folder to the configuration of our network."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reimagen_generator.config.networks import Activation, ImagenUNetConfig, LevelAttention, TextNorm

# For each field, the required value and the default for older files that lack the field. Fields without effect on these
# blocks are left out: a network that needs one of them has tensors that ours lacks, which is an error.
_FIXED: dict[str, tuple[Any, Any]] = {
    "_class_name": ("UNet2DConditionModel", None),
    "addition_embed_type": ("text", None),
    "center_input_sample": (False, False),
    "class_embeddings_concat": (False, False),
    "conv_in_kernel": (3, 3),
    "conv_out_kernel": (3, 3),
    "cross_attention_norm": ("group_norm", None),
    "encoder_hid_dim_type": ("text_proj", "text_proj"),
    "flip_sin_to_cos": (True, True),
    "freq_shift": (0, 0),
    "mid_block_type": ("UNetMidBlock2DSimpleCrossAttn", "UNetMidBlock2DCrossAttn"),
    "norm_eps": (1e-5, 1e-5),
    "norm_num_groups": (32, 32),
    "resnet_time_scale_shift": ("scale_shift", "default"),
    "time_cond_proj_dim": (None, None),
    "time_embedding_type": ("positional", "positional"),
    "timestep_post_act": (None, None),
}
_DOWN = {"ResnetDownsampleBlock2D": False, "SimpleCrossAttnDownBlock2D": True}
_UP = {"ResnetUpsampleBlock2D": False, "SimpleCrossAttnUpBlock2D": True}
_ACTIVATIONS = {"gelu": Activation.GELU, "silu": Activation.SILU, "swish": Activation.SILU}


def read_config(path: Path) -> ImagenUNetConfig:
    """Return the configuration of the network in a `config.json`, without retrieval.

    Raises:
        ValueError: The file is missing or not the configuration of a DeepFloyd IF network; the message names the field.
    """
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: must be a JSON object")
    try:
        return _translate(fields)
    except ValidationError as error:
        raise ValueError(f"{path}: {error.errors()[0]['msg']}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _translate(fields: dict[str, Any]) -> ImagenUNetConfig:
    for name, (needed, default) in _FIXED.items():
        given = fields.get(name, default)
        if given != needed:
            raise ValueError(f"{name}: must be {needed!r}, got {given!r}")
    widths = tuple(fields["block_out_channels"])
    only_text = _per_level(fields.get("only_cross_attention", False), len(widths))
    middle_only = fields.get("mid_block_only_cross_attention")
    if middle_only is None:
        middle_only = fields.get("only_cross_attention") is True
    activation = _one_of("act_fn", fields.get("act_fn", "silu"), _ACTIVATIONS)
    return ImagenUNetConfig(
        widths=widths,
        blocks=_per_level(fields.get("layers_per_block", 2), len(widths)),
        attention=tuple(
            LevelAttention.NONE if not attends else _attention(only_text=only)
            for attends, only in zip(_attends(fields), only_text, strict=True)
        ),
        middle_attention=_attention(only_text=middle_only),
        neighbor_attention=(False,) * len(widths),
        head_channels=_integer(fields, "attention_head_dim"),
        text_channels=_integer(fields, "encoder_hid_dim"),
        text_width=_integer(fields, "cross_attention_dim"),
        text_norm=TextNorm.GROUP,
        sees_padding=True,
        low_resolution=_low_resolution(fields),
        learned_variance=_one_of("out_channels", fields.get("out_channels"), {3: False, 6: True}),
        conditioning=fields.get("time_embedding_dim") or 4 * widths[0],
        pool_heads=fields.get("addition_embed_type_num_heads", 64),
        activation=activation,
        activate_once=_activates_once(fields, activation),
        residual_divisor=fields.get("resnet_out_scale_factor", 1.0),
        middle_divisor=fields.get("mid_block_scale_factor", 1.0),
    )


def _attends(fields: dict[str, Any]) -> list[bool]:
    down = [_one_of("down_block_types", name, _DOWN) for name in fields["down_block_types"]]
    up = [_one_of("up_block_types", name, _UP) for name in fields["up_block_types"]]
    if up[::-1] != down:
        raise ValueError("up_block_types: must be the blocks of down_block_types in reverse order")
    return down


def _attention(*, only_text: bool) -> LevelAttention:
    return LevelAttention.TEXT if only_text else LevelAttention.SELF_AND_TEXT


def _low_resolution(fields: dict[str, Any]) -> bool:
    channels, embedding = fields.get("in_channels"), fields.get("class_embed_type")
    if (channels, embedding) not in ((3, None), (6, "timestep")):
        raise ValueError(
            "in_channels, class_embed_type: must be 3 and null (stage I) or 6 and 'timestep' (stage II), "
            f"got {channels!r} and {embedding!r}"
        )
    return channels == 6


def _activates_once(fields: dict[str, Any], activation: Activation) -> bool:
    once, skips = fields.get("time_embedding_act_fn"), fields.get("resnet_skip_time_act", False)
    if bool(skips) != (once is not None) or (once is not None and _ACTIVATIONS.get(once) is not activation):
        raise ValueError(
            "time_embedding_act_fn, resnet_skip_time_act: must be null and false, or the value of act_fn and true, "
            f"got {once!r} and {skips!r}"
        )
    return bool(skips)


def _integer(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int):
        raise ValueError(f"{name}: must be an integer, got {value!r}")
    return value


def _per_level(value: Any, levels: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,) * levels


def _one_of(name: str, value: Any, known: dict[Any, Any]) -> Any:
    if value not in known:
        raise ValueError(f"{name}: must be one of {', '.join(map(repr, known))}, got {value!r}")
    return known[value]
