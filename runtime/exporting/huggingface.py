"""A folder that `transformers` of Hugging Face opens: weights, the written network as it is, a wrapper around it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from runtime.errors import UserError
from runtime.exporting.card import card
from runtime.exporting.comparison import OUTPUTS
from runtime.recipe.schema import Recipe
from runtime.storage import checkpoint
from runtime.storage.trained import SPEC, Trained

NETWORK, WRAPPER = "network", "modeling_crate"  # modules of the folder
ARGUMENTS = {"image": "pixel_values", "text": "input_ids", "vectors": "inputs_embeds"}  # as transformers names them
FIELDS = {"features": "pooler_output", "tokens": "last_hidden_state"}  # likewise
CODE = '''"""The network of this folder for `transformers`: AutoModel.from_pretrained(PATH, trust_remote_code=True)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .network import @NAME@ as Network


class CrateConfig(PretrainedConfig):
    """What is known of the network; its architecture is that of network.py, which was compiled from spec.crate."""

    model_type = "crate_dsl"


@dataclass
class CrateOutput(ModelOutput):
    """What the network gives."""

@FIELDS@


class CrateModel(PreTrainedModel):
    """The compiled network, with the weights under its own names."""

    config_class = CrateConfig
    base_model_prefix = "network"
    main_input_name = "@ARGUMENT@"

    def __init__(self, config: CrateConfig) -> None:
        super().__init__(config)
        if getattr(config, "spec_sha256", Network.spec_sha256) != Network.spec_sha256:
            raise ValueError("config.json is of another spec than network.py")
        self.network = Network()
        self.post_init()

    def _init_weights(self, module: object) -> None:
        """Nothing: the network initialises itself."""

    def forward(self, @ARGUMENT@: Tensor@NOISE@, return_dict: bool = True) -> CrateOutput | tuple[Tensor, ...]:
        result = self.network(@ARGUMENT@@PASSED@)
        output = CrateOutput(*(result if isinstance(result, tuple) else (result,)))
        return output if return_dict else output.to_tuple()
'''


def write_folder(path: Path, trained: Trained, origin: Mapping[str, str], recipe: Recipe | None) -> None:
    """Write the folder as a whole; raises UserError where it exists already, or the disk refuses."""
    if path.exists():
        raise UserError(f"{path}: exists already; choose another folder")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.mkdir()
        for name, text in texts(trained, recipe).items():
            (temporary / name).write_text(text, encoding="utf-8")
        checkpoint.save_weights(temporary / "model.safetensors", trained.compiled.module.state_dict(), origin)
        os.rename(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def texts(trained: Trained, recipe: Recipe | None) -> dict[str, str]:
    """The folder's files of text, by name."""
    return {
        "config.json": json.dumps(config(trained, recipe), indent=2) + "\n",
        f"{NETWORK}.py": trained.compiled.text,
        f"{WRAPPER}.py": wrapper(trained),
        SPEC: trained.compiled.spec,
        "README.md": card(trained, recipe),
    }


def wrapper(trained: Trained) -> str:
    """The module that `auto_map` names."""
    network = trained.compiled.module
    fields = (FIELDS.get(name, name) for name in OUTPUTS[network.task])
    masked = bool(network.mask_ratio)
    values = {
        "NAME": type(network).__name__,
        "ARGUMENT": ARGUMENTS[network.input],
        "FIELDS": "\n".join(f"    {name}: Tensor | None = None" for name in fields),
        "NOISE": ", noise: Tensor | None = None" if masked else "",
        "PASSED": ", noise" if masked else "",
    }
    code = CODE
    for key, value in values.items():
        code = code.replace(f"@{key}@", value)
    return code


def config(trained: Trained, recipe: Recipe | None) -> dict[str, object]:
    network = trained.compiled.module
    classifies = network.task == "classify" and network.input == "image"
    auto = {"AutoConfig": f"{WRAPPER}.CrateConfig", "AutoModel": f"{WRAPPER}.CrateModel"}
    auto |= {"AutoModelForImageClassification": f"{WRAPPER}.CrateModel"} if classifies else {}
    facts: dict[str, object] = {
        "model_type": "crate_dsl",
        "architectures": ["CrateModel"],
        "auto_map": auto,
        "dtype": "float32",
        "network": trained.compiled.name,
        "spec_sha256": trained.compiled.sha256,
        "preset": trained.preset,
        "sizes": trained.sizes,
    }
    if network.input == "image":
        facts |= {"image_size": list(network.image_size), "patch_size": list(network.patch_size)}
        facts |= {"num_channels": network.channels}
    if network.input == "text":
        facts |= {"vocab_size": network.vocabulary, "max_position_embeddings": network.token_count}
    return facts | (labels(network.classes, recipe) if classifies else {})


def labels(classes: int, recipe: Recipe | None) -> dict[str, object]:
    """Names of the classes as transformers keeps them."""
    names = recipe.data.class_names() if recipe else None
    found = names if names is not None and len(names) == classes else [str(number) for number in range(classes)]
    return {"id2label": dict(enumerate(found)), "label2id": {name: number for number, name in enumerate(found)}}
