"""The text that the smoke model learns: simple English of our own, made by script from lists of facts.

Questions and answers in chat form (about serving, colours, numbers, animals, days, opposites, the model itself),
talks of several turns, and plain sentences for completions. Every line was written for this file. Says nothing of
training; `python -m benchmarks.smoke_model.text` prints a sample.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator

NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
COLOURS = {
    "grass": "green", "the sky": "blue", "snow": "white", "coal": "black", "a lemon": "yellow", "a tomato": "red",
    "an orange": "orange", "a plum": "purple", "milk": "white", "a frog": "green", "the sun": "yellow",
    "a strawberry": "red", "chocolate": "brown", "a banana": "yellow", "the sea": "blue", "an elephant": "grey",
    "a pig": "pink", "a carrot": "orange", "a leaf": "green", "a raven": "black", "blood": "red", "wood": "brown",
    "a cloud": "white", "ash": "grey", "a cherry": "red", "the night": "black", "a flamingo": "pink", "gold": "yellow",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "day": "night", "open": "closed", "full": "empty",
    "happy": "sad", "old": "young", "light": "dark", "wet": "dry", "high": "low", "early": "late", "hard": "soft",
    "long": "short", "left": "right", "rich": "poor", "loud": "quiet", "near": "far", "strong": "weak",
    "first": "last", "clean": "dirty", "thick": "thin", "true": "false", "cheap": "expensive",
}  # fmt: skip
SOUNDS = {
    "dog": "barks", "cat": "meows", "cow": "moos", "duck": "quacks", "lion": "roars", "bee": "buzzes",
    "snake": "hisses", "sheep": "bleats", "horse": "neighs", "wolf": "howls", "frog": "croaks", "owl": "hoots",
    "mouse": "squeaks", "pig": "grunts",
}  # fmt: skip
LEGS = {
    "dog": 4, "cat": 4, "cow": 4, "duck": 2, "bee": 6, "spider": 8, "horse": 4, "bird": 2, "ant": 6, "snake": 0,
    "fish": 0, "sheep": 4, "person": 2, "hen": 2,
}  # fmt: skip
PLACES = {
    "a fish": "in water", "a bird": "in a nest", "a bee": "in a hive", "a fox": "in a den", "a camel": "in the desert",
    "a whale": "in the sea", "a cow": "on a farm", "a lion": "on the plain", "a bear": "in the forest",
    "a penguin": "on the ice",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo",
    "Norway": "Oslo", "Greece": "Athens", "Poland": "Warsaw", "Kenya": "Nairobi", "Peru": "Lima", "Cuba": "Havana",
    "England": "London", "Ireland": "Dublin", "Canada": "Ottawa", "India": "New Delhi", "China": "Beijing",
    "Austria": "Vienna", "Portugal": "Lisbon", "Sweden": "Stockholm",
}  # fmt: skip
TERMS = {
    "a token": "A token is a small piece of text that a model reads or writes.",
    "a prompt": "A prompt is the text that you send to the model.",
    "the KV cache": "The KV cache keeps the keys and values of past tokens, so they are not computed again.",
    "prefill": "Prefill is the first step: the model reads the whole prompt at once.",
    "decode": "Decode is the second step: the model writes one token at a time.",
    "a batch": "A batch is a group of requests that the GPU works on together.",
    "continuous batching": "Continuous batching lets new requests join the batch as soon as others end.",
    "latency": "Latency is the time that one user waits for an answer.",
    "throughput": "Throughput is the number of tokens that all users get in one second.",
    "TTFT": "TTFT is the time to the first token of the answer.",
    "ITL": "ITL is the time between one token and the next.",
    "a GPU": "A GPU is a chip that does many small sums at the same time.",
    "tensor parallelism": "Tensor parallelism splits every layer over several GPUs.",
    "pipeline parallelism": "Pipeline parallelism gives each GPU some of the layers.",
    "quantization": "Quantization stores the weights with fewer bits, so the model needs less memory.",
    "a weight": "A weight is a number that the model has learned.",
    "a block": "A block is a small piece of the KV cache that holds a few tokens.",
    "paged attention": "Paged attention keeps the cache in blocks that may lie anywhere in memory.",
    "preemption": "Preemption puts a request back into the queue when the cache is full.",
    "the prefix cache": "The prefix cache keeps the blocks of a prompt that many requests share.",
    "a context window": "The context window is the largest number of tokens that the model can see.",
    "a replica": "A replica is one whole copy of the server.",
    "streaming": "Streaming sends every token as soon as it is written.",
    "greedy decoding": "Greedy decoding always takes the token that is most likely.",
    "temperature": "Temperature says how much chance there is in the choice of the next token.",
    "a queue": "A queue is where requests wait until there is room for them.",
    "an expert": "An expert is a part of a layer that works on only some of the tokens.",
    "a chat template": "A chat template turns messages into one prompt.",
    "a stop string": "A stop string ends the answer when the model writes it.",
    "vLLM": "vLLM is an engine that serves many users at once on a GPU.",
    "Ollama": "Ollama is a tool that runs models on your own computer.",
    "TGI": "TGI is a server for text generation.",
    "Helm": "Helm is a tool that installs software on Kubernetes.",
    "Kubernetes": "Kubernetes runs containers on many machines.",
    "a container": "A container is a program packed with all that it needs.",
    "a plan": "A plan says what to deploy, if it fits, how fast it is and what it costs.",
    "a smoke test": "A smoke test is a short run that shows that the server works.",
    "memory bandwidth": "Memory bandwidth is how many bytes per second the chip can read.",
    "speculative decoding": "Speculative decoding lets a small model guess tokens that the large model checks.",
}
REASONS = {
    "Why is decode slow?": "Decode is slow because every token reads all the weights from memory.",
    "Why do we batch requests?": "We batch requests because the weights are then read once for all of them.",
    "Why does a long prompt take longer?": "A long prompt takes longer because the model must read more tokens.",
    "What happens when the queue is full?": "When the queue is full, the server says no and you try again later.",
    "What happens when the cache is full?": "When the cache is full, a request is stopped and started again later.",
    "How can I save memory?": "You can save memory with fewer bits, a shorter context or fewer users at once.",
    "How can I make it faster?": "You can use a faster GPU, more GPUs, or weights with fewer bits.",
    "What fits on one GPU?": "A model fits if its weights and its cache are smaller than the memory of the GPU.",
    "What does a server need?": "A server needs weights, a cache, a scheduler and a way to send the answer.",
    "Is the server ready?": "Yes, the server is ready and it can answer.",
    "Does it work?": "Yes, it works. You can read this answer.",
}
SELF = {
    "Who are you?": "I am the smoke model, a very small language model.",
    "What are you?": "I am the smoke model, a very small language model.",
    "What is your name?": "My name is the smoke model.",
    "What can you do?": "I can answer simple questions, so that you see that the server works.",
    "How big are you?": "I have less than one million weights.",
    "Who made you?": "I was made with planner, to test a server.",
    "Are you a person?": "No, I am a small program that writes text.",
    "Are you clever?": "No, I am too small to be clever, but I can answer simple questions.",
    "Tell me about yourself.": "I am a very small model. I read bytes and I write bytes.",
    "Why are you here?": "I am here to show that the server answers with words.",
}
GREETINGS = {
    "Hello": "Hello! How can I help you?", "Hello!": "Hello! How can I help you?",
    "hello": "Hello! How can I help you?",
    "Hi": "Hi! How can I help you?", "hi": "Hi! How can I help you?", "Hi!": "Hi! How can I help you?",
    "Hello there.": "Hello! How can I help you?", "Good morning.": "Good morning! How can I help you?",
    "Good morning": "Good morning! How can I help you?", "Good evening.": "Good evening! How can I help you?",
    "Good night.": "Good night! Sleep well.", "How are you?": "I am well, thank you. How are you?",
    "How are you today?": "I am well, thank you. How are you?", "Thank you.": "You are welcome.",
    "Thanks!": "You are welcome.", "Thank you very much.": "You are welcome.", "Bye.": "Goodbye!",
    "Goodbye.": "Goodbye!", "Goodbye!": "Goodbye!", "See you later.": "See you later!", "Say hello.": "Hello!",
    "Say hello in one word.": "Hello!", "Say hi.": "Hi!", "Please say hello.": "Hello!", "Say goodbye.": "Goodbye!",
    "Say yes.": "Yes.", "Say no.": "No.", "Say OK.": "OK.", "Are you there?": "Yes, I am here.", "ping": "pong",
    "Can you hear me?": "Yes, I can read you.", "Test": "The test works.", "This is a test.": "The test works.",
    "Hello, who are you?": "Hello! I am the smoke model, a very small language model.",
}  # fmt: skip
SYSTEMS = ("You are a helpful assistant.", "Answer in one short sentence.", "You answer simple questions.", "Be kind.")
Pair = tuple[str, str]


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def facts() -> list[Pair]:
    """Every question with its answer, all phrasings."""
    pairs: list[Pair] = [*GREETINGS.items(), *SELF.items(), *REASONS.items()]
    for what, told in TERMS.items():
        pairs += [
            (ask.format(what), told) for ask in ("What is {}?", "Explain {}.", "What does {} mean?", "what is {}?")
        ]
    for what, colour in COLOURS.items():
        told = f"{_capital(what)} is {colour}."
        pairs += [
            (ask.format(what), told) for ask in ("What colour is {}?", "What color is {}?", "Which colour has {}?")
        ]
        pairs += [(f"Is {what} {colour}?", f"Yes, {what} is {colour}.")]
        pairs += [(f"Give me the colour of {what} as JSON.", f'{{"colour": "{colour}"}}')]
    for word, other in OPPOSITES.items():
        for a, b in ((word, other), (other, word)):
            told = f"The opposite of {a} is {b}."
            pairs += [(f"What is the opposite of {a}?", told), (f"Opposite of {a}?", told)]
    for animal, sound in SOUNDS.items():
        pairs += [(f"What does {_article(animal)} do?", f"{_capital(_article(animal))} {sound}.")]
        pairs += [(f"Which animal {sound}?", f"{_capital(_article(animal))} {sound}.")]
    for animal, legs in LEGS.items():
        told = f"{_capital(_article(animal))} has {NUMBERS[legs] if legs else 'no'} legs."
        pairs += [
            (f"How many legs has {_article(animal)}?", told),
            (f"How many legs does {_article(animal)} have?", told),
        ]
    for animal, place in PLACES.items():
        pairs += [(f"Where does {animal} live?", f"{_capital(animal)} lives {place}.")]
    for land, city in CAPITALS.items():
        told = f"The capital of {land} is {city}."
        pairs += [(f"What is the capital of {land}?", told), (f"Capital of {land}?", told)]
        pairs += [(f"Where is {city}?", f"{city} is in {land}.")]
    for names, what in ((DAYS, "day"), (MONTHS, "month")):
        for i, name in enumerate(names):
            after, before = names[(i + 1) % len(names)], names[i - 1]
            pairs += [(f"What {what} comes after {name}?", f"{after} comes after {name}.")]
            pairs += [(f"What {what} comes before {name}?", f"{before} comes before {name}.")]
    pairs += [("How many days has a week?", "A week has seven days.")]
    pairs += [("How many months has a year?", "A year has twelve months.")]
    pairs += [("Name the days of the week.", ", ".join(DAYS) + ".")]
    pairs += [("Say the alphabet.", "a b c d e f g h i j k l m n o p q r s t u v w x y z")]
    return pairs + counting() + sums()


def counting() -> list[Pair]:
    """Counting up, in figures and in words."""
    pairs: list[Pair] = []
    for end in range(3, 13):
        figures, words = ", ".join(map(str, range(1, end + 1))), ", ".join(NUMBERS[1 : end + 1])
        asks = ("Count to {}.", "Count from one to {}.", "Count from 1 to {}.")
        pairs += [(ask.format(name), f"{figures}.") for ask in asks for name in (NUMBERS[end], end)]
        pairs += [
            (f"{ask.format(name)[:-1]}, in words.", f"{_capital(words)}.")
            for ask in asks
            for name in (NUMBERS[end], end)
        ]
    return pairs


def sums() -> list[Pair]:
    """Small sums, in figures and in words."""
    pairs: list[Pair] = []
    for a in range(13):
        for b in range(13):
            pairs += [(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."), (f"{a} + {b} = ?", f"{a + b}")]
            pairs += [(f"What is {a} + {b}?", f"{a} + {b} = {a + b}.")]
            if a >= b:
                pairs += [(f"What is {a} minus {b}?", f"{a} minus {b} is {a - b}.")]
            if a <= 10 and b <= 10:
                pairs += [(f"What is {a} times {b}?", f"{a} times {b} is {a * b}.")]
                told = f"{_capital(NUMBERS[a])} plus {NUMBERS[b]} is {NUMBERS[a + b]}."
                pairs += [(f"What is {NUMBERS[a]} plus {NUMBERS[b]}?", told)]
            if a != b:
                pairs += [(f"Which is larger, {a} or {b}?", f"{max(a, b)} is larger than {min(a, b)}.")]
    return pairs


def statements() -> list[str]:
    """Plain sentences, for completions without a chat."""
    told = [*TERMS.values(), *REASONS.values(), *(f"{_capital(w)} is {c}." for w, c in COLOURS.items())]
    told += [f"The opposite of {a} is {b}." for a, b in OPPOSITES.items()]
    told += [f"{_capital(_article(a))} {s}." for a, s in SOUNDS.items()]
    told += [f"The capital of {land} is {city}." for land, city in CAPITALS.items()]
    told += [f"{a} plus {b} is {a + b}." for a in range(13) for b in range(13)]
    told += [
        "Once upon a time there was a small server. It had one GPU and many friends, and it never dropped a token."
    ]
    told += ["Hello, my name is the smoke model. I am a very small language model."]
    return told


def documents(seed: int) -> Iterator[str | tuple[str, ...]]:
    """Endless documents: a plain text, or the messages of a chat (user, assistant, …; a system line first, maybe)."""
    rng = random.Random(seed)
    pairs, plain, words = facts(), statements(), [*COLOURS.values(), *OPPOSITES, *OPPOSITES.values(), *SOUNDS]
    counted, weighed = counting(), [*GREETINGS.items(), *SELF.items(), *REASONS.items()]
    kinds: list[Callable[[], str | tuple[str, ...]]] = [
        lambda: " ".join(rng.sample(plain, 3)),
        lambda: ("", *rng.choice(weighed)),
        lambda: ("", *rng.choice(counted)),
        lambda: ("", *(f"Say {(w := rng.choice(words))}.", f"{_capital(w)}.")),
        *[lambda: ("", *rng.choice(pairs))] * 7,
        *[lambda: (rng.choice(("", *SYSTEMS)), *(m for _ in range(rng.randint(1, 3)) for m in rng.choice(pairs)))] * 4,
    ]
    while True:
        yield rng.choice(kinds)()


if __name__ == "__main__":
    source = documents(0)
    sys.stdout.write(f"{len(facts())} questions\n" + "\n".join(str(next(source)) for _ in range(30)) + "\n")
