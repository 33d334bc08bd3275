# SPDX-License-Identifier: MPL-2.0
"""Writes a tiny text-to-video model in one file, adapters for it, and the answers that its parity test compares.

    python make_nano_fixture.py        (needs torch, safetensors and sentencepiece; run once, the results are in the repository)

The weights are random, f16 as the trainer exports them; the answers are those of the trainer's own modules in f32.
"""

import io
import json
import pathlib
import sys

import sentencepiece
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "training"))
from storybook import dit, t5, vae  # noqa: E402

TOKENS, STEPS, GUIDANCE, GROUPS, LATENT, RANK, ALPHA = 12, 4, 3.0, 4, 4, 2, 3.0
WORDS = ["balloon", "boat", "red", "blue", "rises", "sails", "meadow", "sea", "night"]
PROMPT = "a red balloon rises over a meadow"
INFO = dict(
    kind="generator", name="nano", width=96, height=54, grid_width=96, grid_height=64, frames=9, fps=8, tokens=TOKENS,
    steps=STEPS, guidance=GUIDANCE, guidance_rule="constant", latent_scale=1.25, vae_groups=GROUPS, prompt=PROMPT,
    words=WORDS, world="a red or blue balloon or boat in a meadow or at sea",
)


def tokenizer():
    """A sentencepiece model of some tens of pieces, with the special ids of T5."""
    lines = [f"a {a} {b} {c} over the {d} at {e}" for a in ("red", "blue") for b in ("balloon", "boat")
             for c in ("rises", "sails") for d in ("meadow", "sea") for e in ("night", "day")]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=64, model_type="unigram", pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, character_coverage=1.0, normalization_rule_name="identity", hard_vocab_limit=False, num_threads=1,
    )
    return out.getvalue()


def f16(net, std):
    """Random values that f16 holds exactly."""
    for name, value in net.named_parameters():
        if value.dim() > 1 or "bias" in name:
            fan = value[0].numel() if value.dim() > 1 else 64
            value.data.normal_(std=std / fan**0.5)
        value.data = value.data.half().float()
    return net.eval()


@torch.no_grad()
def main():
    torch.manual_seed(7)
    model = tokenizer()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    text = f16(t5.T5Encoder(vocabulary=pieces.get_piece_size(), width=32, heads=2, layers=2, inner=48), 1.5)
    net = f16(dit.Dit(hidden=32, heads=2, layers=2, inner=64, time=16, text=32, channels=LATENT, patch=2), 1.2)
    codec = f16(
        vae.Vae(
            base=4, encoder_channels=(4, 4, 4, 4, 4), encoder_blocks=(1, 1, 1, 1, 1), decoder_channels=(16, 8, 8, 8, 16),
            decoder_blocks=(1, 1, 2, 1, 1), latent=LATENT, groups=GROUPS,
        ),
        1.5,
    )
    tensors = {"dit." + k: v for k, v in net.state_dict().items()} | {"text." + k: v for k, v in text.state_dict().items()}
    tensors |= {"vae." + k: v for k, v in codec.state_dict().items() if k.startswith("decoder.")}
    tensors = {k: v.half().contiguous() for k, v in tensors.items()}
    tensors["tokenizer"] = torch.tensor(list(model), dtype=torch.uint8)
    save_file(tensors, HERE / "nano.safetensors", {"flashvideo": json.dumps(INFO)})

    ids = torch.tensor([t5.encode(pieces, PROMPT, TOKENS)])
    features = text(ids)
    x, timestep = torch.randn(1, 3, LATENT, 4, 6), torch.tensor([417.0])
    latent = torch.randn(1, LATENT, 5, 1, 2)
    start, noise = torch.randn(1, 3, LATENT, 4, 6), torch.randn(STEPS - 1, 1, 3, LATENT, 4, 6)
    frames = ((codec.decode(latent / INFO["latent_scale"]) + 1) / 2).clamp(0, 1) * 255
    answers = {
        "text.ids": ids.int(), "text.features": features,
        "dit.x": x, "dit.timestep": timestep, "dit.context": features, "dit.velocity": net(x, timestep, features),
        "vae.latent": latent.transpose(1, 2), "vae.frames": frames[0].permute(1, 2, 3, 0),
        "sample.start": start, "sample.noise": noise,
        "sample.latent": dit.sample(net, features, start, STEPS, lambda _: GUIDANCE, lambda step: noise[step]),
        "sample.falling": dit.sample(net, features, start, STEPS, dit.falling(2 * GUIDANCE), lambda step: noise[step]),
    }

    dit.add_lora(net, RANK)
    adapters = {k: v for k, v in net.state_dict().items() if "matrix_" in k}
    for name, value in adapters.items():
        value.normal_(std=0.2)
        value.copy_(value.half())
    for module in net.modules():
        if isinstance(module, dit.LoraLinear):
            module.alpha = 0.5 * ALPHA
    answers["lora.velocity"] = net(x, timestep, features)
    note = json.dumps(dict(kind="lora", rank=RANK, alpha=ALPHA))
    save_file({"dit." + k: v.half().contiguous() for k, v in adapters.items()}, HERE / "nano-lora.safetensors", {"flashvideo": note})
    save_file(
        {k: v.contiguous().clone() for k, v in answers.items()}, HERE / "nano-answers.safetensors",
        {"prompt": PROMPT, "lora_scale": "0.5"},
    )
    print("frames:", frames.mean().item(), frames.std().item(), "velocity:", answers["dit.velocity"].std().item())


main()
