"""The peer diffusers: its UNet2DConditionModel, and its pipeline of DeepFloyd IF's stage I, in ordinary use."""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from benchmarks.peers.worker import serve, tokens_file


class Diffusers:
    """diffusers' network from a folder that `save_pretrained` wrote."""

    def __init__(self, folder: Path, batch: int, steps: int, weight: float, layout: str) -> None:
        self._unet = UNet2DConditionModel.from_pretrained(folder / "theirs" / "unet").eval()
        if layout == "channels-last":
            self._unet.to(memory_format=torch.channels_last)
        self._batch, self._steps, self._weight = batch, steps, weight
        self._text, self._empty = torch.from_numpy(np.load(tokens_file(folder)))[:, None]
        size = self._unet.config["sample_size"]
        self._x = torch.randn(batch, 3, size, size)

    def evaluate(self) -> None:
        """Evaluate the network once."""
        with torch.inference_mode():
            self._unet(self._x, torch.tensor(500), self._text.expand(self._batch, -1, -1))

    def draw(self) -> None:
        """Draw a batch of images; the pipeline is loaded here, because only it needs Transformers."""
        from diffusers import DDPMScheduler, IFPipeline

        scheduler = DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            variance_type="learned_range",
            thresholding=True,
            dynamic_thresholding_ratio=0.95,
            sample_max_value=1.5,
        )
        pipeline = IFPipeline(None, None, self._unet, scheduler, None, None, None, requires_safety_checker=False)
        pipeline.set_progress_bar_config(disable=True)
        pipeline(
            prompt_embeds=self._text,
            negative_prompt_embeds=self._empty,
            num_images_per_prompt=self._batch,
            num_inference_steps=self._steps,
            guidance_scale=self._weight,
            output_type="np",
        )


if __name__ == "__main__":
    serve(Diffusers(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
