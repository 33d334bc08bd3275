# SPDX-License-Identifier: MPL-2.0
"""Writes the trained parts as the one file that is built into the plugin, and numbers to test it with. The VAE's encoder is in it, too, although it is
not needed to make clips: from the file training can go on (restore.py).

    python -m storybook.export RUN ../models/builtin-source.safetensors [--fixture ../tests/golden/nano.safetensors]
    python -m storybook.export RUN ../models/watercolour.safetensors --lora
"""

import argparse
import json
import os

import numpy as np
import torch
from safetensors.torch import save_file

from . import captions, world
from .sample import GUIDANCE, STEPS, Storyteller
from .t5 import TOKENS, encode

PROMPT = "a red balloon rises over snowy mountains at sunset"
WORLD = (
    "one ball, balloon, boat, bird, fish, car, kite, star or butterfly, red, orange, yellow, green, blue, purple or pink, that moves left, right, up or down, grows or stays, in a meadow, a desert, a forest or a "
    "city, on the sea, under water, over snowy mountains or in the night sky, by day, at sunset, at night or in the rain"
)


def words():
    """The words that tell the model something: those of the grammar without the ones that say nothing alone."""
    empty = set("a an the of to in on at by is from with and we us me it its it's little small big bright deep front where one single new old does not".split())
    empty |= {word for phrase in captions.EXTRA + captions.MANNER for word in phrase.split()}
    groups = (captions.COLOUR_WORDS, captions.OBJECT_WORDS, captions.PLACE_WORDS, captions.TIME_WORDS)
    phrases = [p for group in groups for values in group.values() for p in values] + captions._UP + captions._DOWN + captions._GROW + captions._STAY + ["left right up down leftward rightward upward downward"]
    return sorted({w.strip(",.").lower() for p in phrases for w in p.split()} - empty)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("out")
    parser.add_argument("--fixture")
    parser.add_argument("--lora", action="store_true")
    a = parser.parse_args()
    if a.lora:
        state = torch.load(os.path.join(a.run, "lora.pt"), weights_only=True)
        tensors = {name: value.half().contiguous() for name, value in state["average"].items() if ".matrix_" in name}
        rank = next(value.shape[0] for name, value in tensors.items() if ".matrix_A." in name)
        save_file(tensors, a.out, {"flashvideo": json.dumps({"kind": "lora", "rank": rank, "alpha": rank})})
        return
    teller = Storyteller(a.run)
    encoder = teller.prompts.encoder
    tensors = {}
    for prefix, net in (("dit.", teller.dit), ("vae.", teller.vae), ("text.", encoder)):
        tensors |= {prefix + name: value.half().contiguous() for name, value in net.state_dict().items()}
    with open(os.path.join(a.run, "spiece.model"), "rb") as file:
        tensors["tokenizer"] = torch.from_numpy(np.frombuffer(file.read(), np.uint8).copy())
    about = dict(
        kind="generator", name="builtin", width=480, height=270, grid_width=world.WIDTH, grid_height=world.HEIGHT, frames=world.FRAMES, fps=world.FPS, tokens=TOKENS, steps=STEPS, guidance=GUIDANCE,
        guidance_rule="falling", latent_scale=teller.scale, vae_groups=teller.vae.CONFIG["groups"], prompt=PROMPT, words=words(), world=WORLD,
    )
    save_file(tensors, a.out, {"flashvideo": json.dumps(about)})
    print(a.out, f"{os.path.getsize(a.out) / 1e6:.1f} MB")
    if a.fixture:
        # With the rounded weights, in float32: what the other implementation has to work with.
        for net in (teller.dit, teller.vae.decoder, encoder):
            net.load_state_dict({name: value.half().float() for name, value in net.state_dict().items()})
        torch.manual_seed(1)
        ids = torch.tensor([encode(teller.prompts.tokenizer, PROMPT)])
        latent = torch.randn(1, 3, teller.vae.latent, 8, 12)
        with torch.no_grad():
            features = encoder(ids)
            timestep = torch.tensor([700.0])
            fixture = {
                "text.ids": ids.int(), "text.features": features, "dit.x": latent, "dit.timestep": timestep, "dit.context": features.clone(),
                "dit.velocity": teller.dit(latent, timestep, features), "vae.latent": latent.clone(),
                "vae.frames": (((teller.vae.decode(latent.transpose(1, 2) / teller.scale) + 1) / 2).clamp(0, 1) * 255)[0].permute(1, 2, 3, 0),
            }
        save_file({name: value.contiguous() for name, value in fixture.items()}, a.fixture, {"prompt": PROMPT})


if __name__ == "__main__":
    main()
