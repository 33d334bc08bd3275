# SPDX-License-Identifier: MPL-2.0
"""Trains the tokenizer and the text encoder.

    python -m storybook.train_text RUN --seconds 600

The encoder learns to say at every position what a caption tells of object, colour, motion, place and time (or that it does not tell), so that the
transformer finds everything wherever it looks. The heads that ask this are thrown away. Writes RUN/spiece.model and RUN/t5.pt.
"""

import argparse
import io
import os
import random
import time

import sentencepiece
import torch
import torch.nn.functional as F
from torch import nn

from . import captions, world
from .t5 import T5Encoder, encode

# Words that say nothing about the scene. The encoder learns to look past them.
OTHER = """time people year way day thing man world life hand part child eye woman place work week case point company number group problem fact house room garden window door table chair
music song story book page friend family brother sister mother father uncle aunt teacher school street road path bridge tower castle king queen prince princess dragon wizard magic dream summer winter
spring autumn wind breeze air warm cold soft loud old young strong weak kind brave wise funny sad glad proud sweet fresh clean open closed first last next other same different many few some any all both
each every about after again also always away because before behind below but by could even ever for from get give had has have he her here him his how if into it its just know like look made make may
me more most much must my never no nor not now of off once only or our out own perhaps quite rather said say see she should so still such take than that their them then there these they this those
though thus too until very was we well were what when where which while who why will with would yes yet you your camera view scene frame picture image film movie render realistic watercolor painting drawing
style illustration shot wide close angle focus light shadow colour color tone detail texture pattern line shape form space dance sing play run walk jump laugh smile sleep eat drink read write think feel
hear listen watch find keep hold carry bring send""".split()


def example(draw, seed):
    """A caption, perhaps with words that mean nothing, and what it tells."""
    scene = world.sample(seed, test=draw.random() < 1 / 9)
    text, said = captions.caption(scene, seed)
    if draw.random() < 0.3:
        words = text.split()
        for _ in range(draw.randint(1, 4)):
            words.insert(draw.randint(0, len(words)), draw.choice(OTHER))
        text = " ".join(words)
    if draw.random() < 0.1:
        text = text.lower() if draw.random() < 0.5 else text.upper()
    return text, said


def train_tokenizer(path, vocabulary):
    """A unigram model of the captions, with T5's special tokens: padding 0, end 1, unknown 2."""
    draw = random.Random(5)
    texts = [example(draw, 7_000_000 + i)[0] for i in range(20_000)] + OTHER * 5
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type="unigram", vocab_size=vocabulary, hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, minloglevel=2,
        required_chars="abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'-\"()",
    )
    with open(path, "wb") as file:
        file.write(model.getvalue())


class Heads(nn.Module):
    """One question per attribute; the last answer is "not told"."""

    def __init__(self, width):
        super().__init__()
        self.each = nn.ModuleDict({name: nn.Linear(width, len(values) + 1) for name, values in world.ATTRIBUTES.items()})

    def forward(self, features):
        return {name: head(features) for name, head in self.each.items()}


def answers(said):
    """The attributes as class numbers."""
    return [world.ATTRIBUTES[name].index(said[name]) if said[name] else len(world.ATTRIBUTES[name]) for name in world.ATTRIBUTES]


def batch(tokenizer, draw, count):
    ids, truth = [], []
    for _ in range(count):
        text, said = example(draw, draw.randrange(1 << 40))
        ids.append(encode(tokenizer, text))
        truth.append(answers(said))
    return torch.tensor(ids), torch.tensor(truth)


@torch.no_grad()
def accuracy(net, heads, ids, truth):
    """Share of right answers per attribute, averaged over positions."""
    said = heads(net(ids))
    return {name: round((said[name].argmax(-1) == truth[:, i, None]).float().mean().item(), 4) for i, name in enumerate(world.ATTRIBUTES)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    os.makedirs(a.run, exist_ok=True)
    spiece = os.path.join(a.run, "spiece.model")
    if not os.path.exists(spiece):
        train_tokenizer(spiece, T5Encoder.CONFIG["vocabulary"])
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=spiece)
    net = T5Encoder(**{**T5Encoder.CONFIG, "vocabulary": tokenizer.vocab_size()})
    for name, p in net.named_parameters():
        if p.dim() == 2:
            nn.init.normal_(p, std=1.0 if "shared" in name else 0.5 * p.shape[1] ** -0.5)
        if name.endswith(".q.weight"):
            p.data *= 32**-0.5
    heads = Heads(T5Encoder.CONFIG["width"])
    parameters = [*net.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, 1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    draw, check = random.Random(11), random.Random(12)
    ids_test, truth_test = batch(tokenizer, check, 400)
    print("longest caption:", int((ids_test > 0).sum(1).max()), "vocabulary:", tokenizer.vocab_size(), flush=True)
    begun, step = time.time(), 0
    while (spent := time.time() - begun) < a.seconds:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 100) * (1 - spent / a.seconds)
        ids, truth = batch(tokenizer, draw, 48)
        said = heads(net(ids))
        loss = sum(
            F.cross_entropy(said[name].flatten(0, 1), truth[:, i, None].expand(-1, ids.shape[1]).flatten())
            for i, name in enumerate(world.ATTRIBUTES)
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 200 == 0:
            print(step, round(loss.item(), 4), accuracy(net, heads, ids_test, truth_test), flush=True)
            torch.save(dict(net=net.state_dict(), heads=heads.state_dict(), step=step, vocabulary=tokenizer.vocab_size()), os.path.join(a.run, "t5.pt"))
    torch.save(dict(net=net.state_dict(), heads=heads.state_dict(), step=step, vocabulary=tokenizer.vocab_size()), os.path.join(a.run, "t5.pt"))
    print(step, "done", accuracy(net, heads, ids_test, truth_test))


if __name__ == "__main__":
    main()
