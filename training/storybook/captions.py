# SPDX-License-Identifier: MPL-2.0
"""Sentences about scenes: a grammar of synonyms, word orders, short and long forms.

A caption may leave motion or time out (and, seldom, other things): then the scene may have any. What it says is returned beside it.
"""

import random

COLOUR_WORDS = {
    "red": ["red"] * 6 + ["scarlet", "crimson", "bright red", "ruby red", "cherry red"],
    "orange": ["orange"] * 6 + ["tangerine", "bright orange", "amber orange"],
    "yellow": ["yellow"] * 6 + ["golden", "lemon yellow", "bright yellow", "gold"],
    "green": ["green"] * 6 + ["emerald", "bright green", "lime green", "emerald green"],
    "blue": ["blue"] * 6 + ["azure", "bright blue", "royal blue", "deep blue", "navy blue"],
    "purple": ["purple"] * 6 + ["violet", "lilac", "bright purple", "lavender"],
    "pink": ["pink"] * 6 + ["rose", "bright pink", "rosy", "hot pink", "magenta"],
}
OBJECT_WORDS = {
    "ball": ["ball"] * 5 + ["beach ball", "rubber ball", "toy ball", "bouncy ball"],
    "balloon": ["balloon"] * 5 + ["party balloon", "toy balloon", "air balloon", "hot air balloon"],
    "boat": ["boat"] * 5 + ["sailboat", "sailing boat", "ship", "little ship", "yacht", "toy boat"],
    "bird": ["bird"] * 5 + ["songbird", "small bird", "birdie", "sparrow", "robin"],
    "fish": ["fish"] * 5 + ["tropical fish", "little fish", "reef fish"],
    "car": ["car"] * 5 + ["automobile", "toy car", "vehicle", "motor car"],
    "kite": ["kite"] * 5 + ["paper kite", "diamond kite", "toy kite"],
    "star": ["star"] * 5 + ["little star", "smiling star", "toy star"],
    "butterfly": ["butterfly"] * 5 + ["little butterfly", "moth", "pretty butterfly"],
}
_GO = ["moves", "goes", "travels", "glides", "passes", "drifts", "heads", "slides"]
_OWN = {
    "boat": ["sails", "cruises", "floats"], "bird": ["flies", "soars", "flaps"], "fish": ["swims", "darts"], "car": ["drives", "rolls", "races", "speeds"],
    "ball": ["rolls", "bounces", "flies"], "balloon": ["floats", "flies", "drifts"], "kite": ["flies", "sails", "soars"], "star": ["shoots", "flies", "floats"], "butterfly": ["flutters", "flies"],
}
_SIDE = ["to the {}", "to the {}", "{}", "{}ward", "{}wards", "towards the {}", "toward the {}", "from {other} to {}", "from the {other} to the {}", "to the {} side"]
_UP = ["rises", "rises up", "climbs", "ascends", "goes up", "moves up", "moves upward", "moves upwards", "lifts off", "floats up", "soars up", "flies up", "flies upward", "drifts upward",
       "goes upwards", "takes off upwards", "rises into the air", "rises higher and higher", "floats upwards", "climbs higher", "swims up", "heads up", "goes straight up", "lifts upward"]
_DOWN = ["falls", "sinks", "descends", "drops", "goes down", "moves down", "moves downward", "moves downwards", "comes down", "floats down", "drifts down", "falls down", "drops down",
         "glides down", "flies down", "sinks down", "is falling down", "falls from above", "lowers", "drifts downward", "heads down", "swims down", "goes straight down", "sinks lower and lower"]
_GROW = ["grows", "gets bigger", "gets larger", "becomes bigger", "becomes larger", "comes closer", "grows bigger", "grows larger", "swells", "approaches", "comes nearer", "expands", "is growing",
         "grows and grows", "gets closer", "inflates", "comes towards us", "comes toward the camera", "moves closer to the camera", "gets bigger and bigger", "grows in size"]
_STAY = ["stays still", "stays", "stands still", "rests", "hovers", "waits", "does not move", "stays in place", "stays where it is", "remains still", "is still", "floats in place", "hangs still",
         "hovers in place", "sits still", "pauses", "keeps still", "is motionless", "is standing still", "holds still", "remains in place", "rests quietly", "stays put"]
PLACE_WORDS = {
    "meadow": ["in a meadow", "over a meadow", "above a green meadow", "in a field of flowers", "over a grassy field", "in the grass", "in a flowery meadow", "over green hills", "across a meadow",
               "on a meadow", "through a meadow", "in a grassland", "in a field", "over the green fields", "in the countryside"],
    "sea": ["on the sea", "over the sea", "above the sea", "across the ocean", "over the waves", "at sea", "on the ocean", "above the ocean", "across the sea", "on the water", "over the water", "by the sea",
            "on the waves", "over the blue sea", "in the sea"],
    "desert": ["in a desert", "in the desert", "over the desert", "across the desert", "above sand dunes", "over the dunes", "among cactuses", "through a sandy desert", "over hot sand", "in the sand dunes",
               "between cacti", "above a desert", "through the desert"],
    "mountains": ["over snowy mountains", "in front of snowy mountains", "above the mountains", "in the mountains", "over mountain peaks", "among snowy peaks", "past snowy mountains", "in the snowy mountains",
                  "above snow-covered mountains", "over the snowy mountains", "across the mountains", "in the alps", "near a mountain", "over snow-capped peaks"],
    "city": ["over a city", "in a city", "in front of a city skyline", "above a city skyline", "over the rooftops", "through the city", "above the town", "past tall buildings", "over the skyline",
             "between skyscrapers", "in the city", "in front of the skyline", "over the town", "in a town", "along a city street", "across the city"],
    "forest": ["in a forest", "in the forest", "through a forest", "over a forest", "in the woods", "through the woods", "among fir trees", "between the trees", "above the trees", "in front of a forest",
               "among the trees", "over the treetops", "in a pine forest", "across a forest"],
    "sky": ["in the night sky", "in the starry sky", "among the stars", "in a sky full of stars", "across the night sky", "through the starry night sky", "in space", "under a starry sky",
            "in outer space", "through space", "against the night sky", "in a starry sky"],
    "underwater": ["under water", "underwater", "under the sea", "beneath the waves", "below the waves", "deep in the ocean", "at the bottom of the sea", "on a coral reef", "in an aquarium",
                   "beneath the sea", "in the deep sea", "under the ocean", "below the surface of the sea", "among seaweed", "in the underwater world"],
}
TIME_WORDS = {
    "day": ["by day", "on a sunny day", "in daylight", "in the sunshine", "during the day", "on a clear day", "under a blue sky", "in bright daylight", "in the sun", "on a bright day", "at noon", "at daytime",
            "in sunny weather", "in the daytime"],
    "sunset": ["at sunset", "at dusk", "in the evening", "in the evening light", "as the sun goes down", "in the golden light of sunset", "during sunset", "while the sun sets", "at sundown", "in the glow of sunset",
               "at dawn", "at sunrise", "at twilight"],
    "night": ["at night", "by night", "in the moonlight", "under the moon", "by moonlight", "during the night", "on a dark night", "after dark", "in the dark", "at midnight", "on a moonlit night", "at nighttime"],
    "rain": ["in the rain", "on a rainy day", "while it rains", "in rainy weather", "as rain falls", "in a rain shower", "during a rainstorm", "in pouring rain", "on a wet day", "under rain clouds", "in a storm", "in heavy rain"],
}
EXTRA = ["little", "small", "big", "shiny", "cute", "lovely", "pretty", "tiny", "cheerful", "beautiful", "happy", "large", "single", "lonely", "old", "new", "round", "magical", "bright", "colourful", "colorful", "gentle"]
MANNER = ["slowly", "gently", "quietly", "happily", "calmly", "smoothly", "softly", "quickly", "steadily", "peacefully", "gracefully"]
FRAME = ["a video of {}", "an animation of {}", "a short film of {}", "a picture book scene: {}", "there is {}", "a cartoon of {}", "storybook, {}", "imagine {}", "we see {}", "a clip of {}", "a storybook scene of {}",
         "show me {}", "a cinematic shot of {}", "once upon a time there was {}", "a scene with {}", "look, {}"]
TAIL = ["beautiful colours", "calm and peaceful", "storybook style", "a lovely scene", "soft light", "high quality", "the scene is quiet", "it is a wonderful moment", "children watch and smile", "gentle music plays",
        "drawn like a picture book", "4k", "detailed", "simple and pretty", "what a nice view", "clouds drift by", "everything is peaceful", "the air is fresh", "cartoon style", "everyone is happy"]
LONG = ["The sky is {sky}.", "Everything is calm.", "It is a beautiful scene.", "The camera does not move.", "The picture is simple and bright.", "Nothing else happens.", "The whole world seems to hold its breath."]
SKY = {"day": ["blue and clear", "bright"], "sunset": ["orange and red", "glowing", "on fire with the last light"], "night": ["dark and full of stars", "dark"], "rain": ["grey", "full of dark clouds"]}


def _verb(object, motion, draw):
    """A verb phrase in the third person."""
    if motion in ("left", "right"):
        go = draw.choice(_GO + _OWN[object] * 3)
        way = draw.choice(_SIDE).format(motion, other="right" if motion == "left" else "left")
        return f"{go} {way}"
    phrases = {"up": _UP, "down": _DOWN, "growing": _GROW, "staying": _STAY}[motion]
    if motion in ("up", "down") and draw.random() < 0.4:
        go = draw.choice(_GO + _OWN[object] * 2)
        return f"{go} {draw.choice([motion, motion + 'ward', motion + 'wards', 'straight ' + motion, 'slowly ' + motion])}"
    return draw.choice(phrases)


_IRREGULAR = {"is": "", "does": "not moving", "flies": "flying", "goes": "going", "passes": "passing", "races": "racing", "glides": "gliding", "rises": "rising", "drives": "driving", "moves": "moving",
              "slides": "sliding", "cruises": "cruising", "descends": "descending", "drops": "dropping", "gets": "getting", "becomes": "becoming", "comes": "coming", "swims": "swimming", "bounces": "bouncing",
              "approaches": "approaching", "hovers": "hovering", "flaps": "flapping", "remains": "remaining", "inflates": "inflating", "pauses": "pausing", "sits": "sitting", "takes": "taking", "travels": "travelling"}


def _gerund(phrase):
    """The verb phrase with its first word as a present participle; what needs no verb loses it."""
    first, _, rest = phrase.partition(" ")
    if first == "does":
        return "not moving"
    if first in _IRREGULAR:
        return f"{_IRREGULAR[first]} {rest}".strip()
    return f"{first[:-1]}ing {rest}".strip()


def _article(words):
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(scene, seed):
    """`(text, said)`: a sentence about the scene, and the attributes that it tells."""
    draw = random.Random(f"caption {scene} {seed}")
    said = {"object": scene.object, "colour": scene.colour, "motion": scene.motion, "place": scene.place, "time": scene.time}
    for name, chance in (("motion", 0.06), ("time", 0.3), ("place", 0.03), ("colour", 0.03)):
        if draw.random() < chance:
            said[name] = None
    if said["place"] == "sky":
        said["time"] = "night" if draw.random() < 0.3 else None
    thing = draw.choice(OBJECT_WORDS[scene.object])
    if said["colour"]:
        thing = f"{draw.choice(COLOUR_WORDS[said['colour']])} {thing}"
    if draw.random() < 0.35:
        thing = f"{draw.choice(EXTRA)} {thing}"
    subject = draw.choice([_article(thing)] * 5 + [f"the {thing}", f"one {thing}", thing])
    verb = _verb(scene.object, said["motion"], draw) if said["motion"] else ""
    if verb and draw.random() < 0.15:
        manner = draw.choice(MANNER)
        verb = f"{manner} {verb}" if draw.random() < 0.3 else f"{verb} {manner}"
    place = draw.choice(PLACE_WORDS[said["place"]]) if said["place"] else ""
    time = draw.choice(TIME_WORDS[said["time"]]) if said["time"] else ""
    participle = draw.random() < 0.5
    if verb and participle and not verb.split()[0].endswith("ly"):
        verb = _gerund(verb)
    clause = " ".join(filter(None, [subject, verb]))
    order = draw.randrange(7)
    if order == 0 and time:
        text = f"{time}, {clause} {place}"
    elif order == 1 and place:
        text = f"{place}, {clause} {time}"
    elif order == 2 and place and verb:
        text = f"{subject} {place} {verb} {time}"
    elif order == 3 and time:
        text = f"{clause} {time} {place}"
    elif order == 4 and place:
        text = f"{place}, {time}: {clause}" if time else f"{place}: {clause}"
    elif order == 5:
        text = ", ".join(filter(None, [clause, place, time]))
    else:
        text = f"{clause} {place} {time}"
    if draw.random() < 0.2:
        text = draw.choice(FRAME).format(text)
    if draw.random() < 0.15:
        text = f"{text}, {draw.choice(TAIL)}"
    elif draw.random() < 0.15:
        extra = draw.choice(LONG)
        if "{sky}" in extra:
            extra = extra.format(sky=draw.choice(SKY[said["time"]])) if said["time"] and said["place"] not in ("underwater", "sky") else ""
        text = f"{text}. {extra}"
    text = " ".join(text.split()).replace(" ,", ",").strip(" ,")
    case = draw.random()
    if case < 0.4:
        text = text[0].upper() + text[1:]
    if case < 0.25 and not text.endswith("."):
        text += "."
    return text, said
