"""The settings under which runs are killed: every pair of options of any two factors occurs together."""

from itertools import combinations, product

# Overrides by factor; the first option is the plain one.
FACTORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "accumulation": ((), ("batch.micro_size=32",)),
    "dropout": ((), ("model.dropout=0.2",)),
    "BN groups": (("model.hidden=[24]",), ("model=cnn", "model.channels=[2,4]", "batch_norm.group_size=16")),
    "EMA": ((), ("ema=1ep",)),
    "order": ((), ("sampler=shuffle_once",), ("sampler=with_replacement",), ("sampler=sequential",)),
    "workers": ((), ("dataset.workers=0",), ("dataset.workers=2",)),
    "loop": ((), ("trainer.loop=stock",)),
    "optimizer": ((), ("optimizer=adamw",)),
}
COMMON = (
    *("tracker=none", "trainer.threads=1", "trainer.accelerator=cpu", "trainer.progress=false"),
    *("duration=8ep", "batch.size=64", "checkpoint.every=10it", "validate.every=17it", "optimizer.lr=0.02"),
)


def covering() -> list[dict[str, int]]:
    """Few settings (option by factor) in which every pair of options of two factors occurs: greedy."""
    names = list(FACTORS)
    left = {
        ((one, i), (other, j))
        for one, other in combinations(names, 2)
        for i, j in product(range(len(FACTORS[one])), range(len(FACTORS[other])))
    }
    settings = []
    everything = [dict(zip(names, choice, strict=True)) for choice in product(*(range(len(FACTORS[n])) for n in names))]
    while left:
        best = max(everything, key=lambda setting: len(left & pairs(setting)))
        left -= pairs(best)
        settings.append(best)
    return settings


def pairs(setting: dict[str, int]) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    """The pairs of options in a setting, in the order of the factors."""
    return set(combinations(setting.items(), 2))


def overrides(setting: dict[str, int]) -> list[str]:
    """What to give mbtrain for a setting."""
    chosen = [word for name, option in setting.items() for word in FACTORS[name][option]]
    if setting["BN groups"]:
        chosen = [word for word in chosen if word != "model.hidden=[24]"]
    return [*COMMON, *chosen]
