"""Fig. 9 and 10: the first layer alone in two, three and four ways, at about as many numbers.

    python3 benches/paper/first_layer.py RANKFOLD
"""

from experiment import TRAINED, experiment

# 258, 252 and 250 numbers in place of 432.
FORMS = {"two-way": ("cp2", 6), "three-way": ("cp3", 9), "four-way": ("cp4", 10)}


def runs(folder):
    made = {}
    for name, (form, rank) in FORMS.items():
        path = folder / f"conv1-{form}.toml"
        path.write_text(f'"conv1" = {{ rank = {rank}, form = "{form}" }}\n')
        made[f"conv1 {name}"] = ["--ranks", str(path), *TRAINED, "--finetune", "oneshot", "--epochs", "5"]
    return made


experiment("first layer", runs, "paper-first-layer.svg")
