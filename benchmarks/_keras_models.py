"""Counts Keras' own models for `benchmarks.keras_parameters`, which runs this file with a Python that has Keras.

The heads to build come as JSON on standard input; the counts leave as JSON on standard output, and one attention layer
(its weights, an input, what it makes of it) as an .npz file named on the command line. It must import neither Telltale
nor timm: the two sides are counted apart.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

keras: Any = importlib.import_module("keras")

BACKBONES = {
    "EfficientNetB0": 224,
    "EfficientNetB1": 240,
    "ResNet50": 224,
    "ResNet50V2": 224,
}
"""Of `keras.applications`, with the side of their pictures."""
LAST = 30


def main() -> None:
    """Count everything."""
    heads = json.load(sys.stdin)
    keras.utils.set_random_seed(0)
    attention(sys.argv[1])
    result = {
        "version": keras.__version__,
        "backbones": {name: backbone(name, side) for name, side in BACKBONES.items()},
        "last": last_layers(),
        "heads": {name: counts(head(**one)) for name, one in heads.items()},
        "vit": counts(vit(heads["vit_scratch"]["layers"])),
    }
    json.dump(result, sys.stdout)


def size_of(weights: Iterable[Any]) -> int:
    """The numbers in some weights."""
    return sum(math.prod(weight.shape) for weight in weights)


def counts(model: Any) -> dict[str, int]:
    """What `model.summary()` says of a model."""
    return {"trainable": size_of(model.trainable_weights), "non_trainable": size_of(model.non_trainable_weights)}


def application(name: str, side: int) -> Any:
    """A model of keras.applications without its classifier, with random weights."""
    return getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(side, side, 3))


def backbone(name: str, side: int) -> dict[str, int]:
    """Its counts, and those parts of them in which timm may differ."""
    model, convs, norms, others = application(name, side), [], [], []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            norms += layer.non_trainable_weights
        elif "se_" not in layer.name and getattr(layer, "use_bias", False):
            convs.append(layer.bias)
        elif layer.non_trainable_weights:
            others += layer.non_trainable_weights
    parts = {"conv_biases": size_of(convs), "batch_norm_statistics": size_of(norms), "other": size_of(others)}
    return {**counts(model), **parts}


def last_layers() -> dict[str, Any]:
    """The last layers of EfficientNetB0: their names, and what learns in them."""
    layers = application("EfficientNetB0", 224).layers[-LAST:]
    return {
        "names": [layer.name for layer in layers],
        "trainable": sum(size_of(layer.trainable_weights) for layer in layers),
    }


def head_layers(layers: Sequence[Mapping[str, Any]], outputs: int) -> list[Any]:
    """Keras' layers for those of a recipe's `head`, and the output."""
    made = []
    for layer in layers:
        if "dense" in layer:
            made.append(keras.layers.Dense(layer["dense"], activation=layer.get("activation", "relu")))
        elif "batch_norm" in layer:
            made.append(keras.layers.BatchNormalization())
        else:
            made.append(keras.layers.Dropout(layer["dropout"]))
    return [*made, keras.layers.Dense(outputs, activation="sigmoid")]


def head(features: int, layers: Sequence[Mapping[str, Any]], outputs: int) -> Any:
    """A recipe's head as a model of its own."""
    return keras.Sequential([keras.Input((features,)), *head_layers(layers, outputs)])


class Tokens(keras.layers.Layer):
    """Puts a class token before the patches and adds a learned position to each."""

    def build(self, shape: tuple[int | None, int, int]) -> None:
        """Make the weights."""
        self.token = self.add_weight(shape=(1, 1, shape[2]))
        self.positions = self.add_weight(shape=(1, shape[1] + 1, shape[2]))

    def call(self, patches: Any) -> Any:
        """(n, patches, width) to (n, patches + 1, width)."""
        token = keras.ops.repeat(self.token, keras.ops.shape(patches)[0], axis=0)
        return keras.ops.concatenate([token, patches], axis=1) + self.positions


def vit(layers: Sequence[Mapping[str, Any]]) -> Any:
    """The vision transformer of the recipe, of Keras' own layers."""
    pictures = keras.Input((224, 224, 3))
    tokens = keras.layers.Conv2D(384, 16, strides=16)(pictures)
    tokens = Tokens()(keras.layers.Reshape((196, 384))(tokens))
    for _ in range(6):
        normal = keras.layers.LayerNormalization(epsilon=1e-6)(tokens)
        tokens = tokens + keras.layers.MultiHeadAttention(num_heads=6, key_dim=384)(normal, normal)
        normal = keras.layers.LayerNormalization(epsilon=1e-6)(tokens)
        tokens = tokens + keras.layers.Dense(384)(keras.layers.Dense(1536, activation="gelu")(normal))
    found = keras.layers.LayerNormalization(epsilon=1e-6)(tokens[:, 0])
    for layer in head_layers(layers, 1):
        found = layer(found)
    return keras.Model(pictures, found)


def attention(path: str) -> None:
    """Write an attention layer with all that is needed to compare another with it."""
    layer = keras.layers.MultiHeadAttention(num_heads=6, key_dim=384)
    tokens = np.random.default_rng(0).standard_normal((2, 17, 384)).astype(np.float32)
    layer.build(tokens.shape, tokens.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.standard_normal(weight.shape) * 0.05 for weight in layer.weights])
    names = {f"weight{number}": np.asarray(value) for number, value in enumerate(layer.get_weights())}
    np.savez(path, allow_pickle=False, tokens=tokens, out=keras.ops.convert_to_numpy(layer(tokens, tokens)), **names)


if __name__ == "__main__":
    main()
