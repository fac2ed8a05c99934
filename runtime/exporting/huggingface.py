"""A folder that `transformers` of Hugging Face opens: weights, the written network as it is, a wrapper around it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from runtime.errors import UserError
from runtime.exporting.card import card
from runtime.exporting.comparison import OUTPUTS, Inputs, largest_error, library, quiet
from runtime.recipe.schema import Recipe
from runtime.storage import checkpoint
from runtime.storage.trained import SPEC, Trained

NETWORK, WRAPPER = "network", "modeling_crate"  # modules of the folder
ARGUMENTS = {"image": "pixel_values", "text": "input_ids", "vectors": "inputs_embeds"}  # as transformers names them
FIELDS = {"features": "pooler_output", "tokens": "last_hidden_state"}  # likewise
CODE = '''"""The network of this folder for `transformers`: AutoModel.from_pretrained(PATH, trust_remote_code=True)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
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
        first: dict[Tensor, str] = {}  # the first name of what layers share
        named = self.named_parameters(remove_duplicate=False)
        self._tied_weights_keys = {name: first[each] for name, each in named if first.setdefault(each, name) != name}
        self.post_init()

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Shared after loading too; without this transformers ties embeddings of words alone."""
        return dict(self._tied_weights_keys)

    def _init_weights(self, module: nn.Module) -> None:
        """The network initialises itself, but loading leaves buffers empty that no file holds: a fresh one has them."""
        names = module._non_persistent_buffers_set
        if names:
            place = next(place for place, each in self.network.named_modules() if each is module)
            with torch.random.fork_rng(devices=()), torch.device("cpu"):
                fresh = Network().get_submodule(place)
            for name in names:
                module.get_buffer(name).copy_(fresh.get_buffer(name))

    def forward(self, @ARGUMENT@: Tensor@NOISE@, return_dict: bool = True) -> CrateOutput | tuple[Tensor, ...]:
        result = self.network(@ARGUMENT@@PASSED@)
        output = CrateOutput(*(result if isinstance(result, tuple) else (result,)))
        return output if return_dict else output.to_tuple()
'''


def write_folder(path: Path, trained: Trained, origin: Mapping[str, str], recipe: Recipe | None) -> float:
    """Write the folder as a whole, and return the largest error of what `transformers` makes of it.

    Raises UserError where it exists already, where the disk refuses, and where it computes something else.
    """
    if path.exists():
        raise UserError(f"{path}: exists already; choose another folder")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.mkdir()
        for name, text in texts(trained, recipe).items():
            (temporary / name).write_text(text, encoding="utf-8")
        checkpoint.save_weights(temporary / "model.safetensors", trained.compiled.module.state_dict(), origin)
        largest = compared(temporary, trained.compiled.module.eval())
        os.rename(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return largest


def compared(folder: Path, network: nn.Module) -> float:
    """The largest error of the folder, loaded as `transformers` does it, beside the network that it was written for."""
    library("transformers", "a folder for transformers").utils.logging.disable_progress_bar()
    with torch.no_grad(), quiet(), package(folder) as wrapper:
        model = wrapper.CrateModel.from_pretrained(folder).eval()

        def run(inputs: Inputs) -> dict[str, Tensor]:
            return dict(zip(OUTPUTS[network.task], model(*inputs.values(), return_dict=False), strict=True))

        return largest_error("transformers", network, run)


@contextmanager
def package(folder: Path) -> Iterator[ModuleType]:
    """The wrapper of a folder, imported from there; nothing of it stays, neither in the folder nor in the process.

    `AutoModel` would import a copy that it leaves in the user's cache.
    """
    parent, before = ModuleType(f"crate_dsl_exported_{os.getpid()}"), sys.dont_write_bytecode
    parent.__path__ = [str(folder)]
    sys.modules[parent.__name__], sys.dont_write_bytecode = parent, True
    try:
        yield importlib.import_module(f"{parent.__name__}.{WRAPPER}")
    finally:
        sys.dont_write_bytecode = before
        for name in [name for name in sys.modules if name.partition(".")[0] == parent.__name__]:
            del sys.modules[name]


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
