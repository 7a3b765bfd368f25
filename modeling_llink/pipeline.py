"""`pipeline("llink", model=…)`: foreign text in, answers out."""

from __future__ import annotations

import os
from typing import Any

from transformers import AutoModelForCausalLM, FeatureExtractionPipeline, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .errors import PromptError

TASK, FEATURES = "llink", "feature-extraction"
ROW_FIELDS = ("foreign_text", "prompt")
CHAT_PROMPT = "A chat holds its own prompt: give either a chat or a prompt, not both."


class LlinkPipeline(Pipeline):
    """Answers English prompts about foreign text.

    Args:
        model: A [`LlinkForCausalLM`]; `pipeline("llink", model=…)` loads it from a folder or the Hub.
        prompt: The instruction where a call gives none; asks for a translation when not given.
        kwargs: `device`, `batch_size`, `num_workers` as in transformers; everything else goes to `model.generate`.

    ```python
    answer = pipeline("llink", model="user/model", trust_remote_code=True)
    answer("ខ្មែរ…", prompt="Summarize in English.")  # [{"generated_text": "…"}]
    answer(["ខ្មែរ…", "ខ្មែរ…"], batch_size=2, max_new_tokens=64)  # one such list each
    answer([{"role": "user", "content": [{"type": "foreign_text", "text": "ខ្មែរ…"}]}])  # a chat
    ```
    """

    # The model brings its own processor, which is loaded as the model was.
    _load_tokenizer = False
    _load_processor = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False
    _pipeline_calls_generate = False  # generation parameters reach `model.generate` as they are

    def __init__(self, model: Any, processor: Any = None, **kwargs: Any) -> None:
        if processor is not None:
            model.processor = processor
        super().__init__(model, processor=model.processor, **kwargs)
        # transformers batches only with one of these two, whose padding text does not need.
        self.tokenizer, self.feature_extractor = None, self.processor

    def _sanitize_parameters(self, prompt: str | None = None, **generate: Any) -> tuple[dict, dict, dict]:
        return ({} if prompt is None else {"prompt": prompt}), generate, {}

    def __call__(self, inputs: Any, prompt: str | list[str] | None = None, **kwargs: Any) -> Any:
        """Answers, one input or many.

        Args:
            inputs: A passage; `{"foreign_text": …, "prompt": …}`, whose text may be a list of passages; a chat, as
                `processor.apply_chat_template` takes it; a list, generator or dataset of such.
            prompt: The instruction, one for all inputs or a list with one each; `<foreign_emb>` as in `generate`.
            kwargs: `batch_size`, `num_workers`, and everything that `model.generate` takes, such as `streamer`.

        Returns:
            `[{"generated_text": str}, …]`, one entry each of `num_return_sequences`; for a list of inputs a list of
            such lists, for a generator or dataset an iterator over them.

        Raises:
            ForeignTextError, PromptError: If an input is unusable; for a list before anything is computed.
        """
        if isinstance(inputs, (list, tuple)) and not any(_is_message(item) for item in inputs):
            prompts = prompt if isinstance(prompt, (list, tuple)) else [prompt] * len(inputs)
            if len(prompts) != len(inputs):
                raise PromptError(f"{len(prompts)} prompts were given for {len(inputs)} inputs: give one, or one each.")
            if not inputs:
                return []
            inputs = [self._row(item, one) for item, one in zip(inputs, prompts, strict=True)]
        elif prompt is not None and (isinstance(inputs, (list, tuple)) or hasattr(inputs, "messages")):
            raise PromptError(CHAT_PROMPT)
        elif prompt is not None and not isinstance(prompt, str):
            raise PromptError(f"The prompt {prompt!r} is no string: give one for one input.")
        elif prompt is not None:
            kwargs["prompt"] = prompt
        if hasattr(inputs, "column_names"):  # a `datasets` dataset, which transformers does not take for one
            inputs = (row for row in inputs)
        return super().__call__(inputs, **kwargs)

    def _row(self, item: Any, prompt: str | None) -> Any:
        """An input that is checked; chats as they are."""
        if isinstance(item, (list, tuple)):
            if prompt is not None:
                raise PromptError(CHAT_PROMPT)
            self.processor.render(item)  # raises where it cannot be read
            return list(item)
        prompt = self._preprocess_params.get("prompt") if prompt is None else prompt
        return {"conversation": self.preprocess(item, prompt)["messages"]}

    def preprocess(self, inputs: Any, prompt: str | None = None) -> dict[str, list[dict]]:
        """One input as the messages of a conversation: strings, so that a batch needs no padding here.

        Raises:
            ForeignTextError, PromptError: If it is none that `__call__` names.
        """
        if isinstance(inputs, dict) and set(inputs) == {"conversation"}:
            return {"messages": inputs["conversation"]}
        if hasattr(inputs, "messages"):  # transformers' own form of a chat
            return {"messages": list(inputs.messages)}
        row = inputs if isinstance(inputs, dict) else {"foreign_text": inputs}
        unknown = sorted(set(row) - set(ROW_FIELDS))
        if unknown:
            raise PromptError(f"The input {inputs!r} has unknown fields {unknown}: give {', '.join(ROW_FIELDS)}.")
        text = row.get("foreign_text")
        passages = text if text is None or isinstance(text, str) else [text]
        (messages,) = self.processor.conversations(row.get("prompt", prompt), passages)
        return {"messages": messages}

    def _forward(self, model_inputs: dict[str, list], **generate: Any) -> dict[str, list]:
        messages = model_inputs["messages"]
        batched = isinstance(messages[0], list)
        output = self.model.generate(messages=messages, **generate)
        texts = self.processor.batch_decode(getattr(output, "sequences", output), skip_special_tokens=True)
        each = len(texts) // (len(messages) if batched else 1)
        answers = [texts[i : i + each] for i in range(0, len(texts), each)]
        return {"answers": answers if batched else answers[0]}

    def postprocess(self, model_outputs: dict[str, list]) -> list[dict[str, str]]:
        """The answers to one input."""
        return [{"generated_text": text} for text in model_outputs["answers"]]

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """As `model.save_pretrained`: a checkpoint holds the pipeline's code too."""
        self.model.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """As `model.push_to_hub`, in one commit."""
        return self.model.push_to_hub(repo_id, **kwargs)


class LlinkFeatures(FeatureExtractionPipeline):
    """`pipeline("feature-extraction")`: of an llink model, vectors by which foreign texts and English ones are found.

    A text is (1, d): p_F of a foreign one, or h_E with `english=True`, comparable by cosine. Of other models, and were
    it not for this also of llink's, it gives the first output, which of a decoder are logits.
    """

    @property
    def _finds(self) -> bool:
        return hasattr(self.model, "get_foreign_features")

    def _sanitize_parameters(self, english: bool | None = None, **kwargs: Any) -> tuple[dict, dict, dict]:
        before, _, after = super()._sanitize_parameters(**kwargs)
        return before, {} if english is None else {"english": english}, after

    def preprocess(self, inputs: Any, **tokenize: Any) -> Any:
        """A text as it is, or what another model reads."""
        return {"texts": inputs} if self._finds else super().preprocess(inputs, **tokenize)

    def _forward(self, model_inputs: Any, english: bool = False) -> Any:
        if not self._finds:
            return super()._forward(model_inputs)
        texts = model_inputs["texts"]
        compute = self.model.get_teacher_features if english else self.model.get_foreign_features
        return {"vectors": compute([texts] if isinstance(texts, str) else texts)}  # (B, d)

    def postprocess(self, model_outputs: Any, return_tensors: bool = False) -> Any:
        """(1, d) of a text, as lists or as a tensor."""
        if not self._finds:
            return super().postprocess(model_outputs, return_tensors)
        return model_outputs["vectors"] if return_tensors else model_outputs["vectors"].tolist()


PIPELINE_REGISTRY.supported_tasks[FEATURES]["impl"] = LlinkFeatures
if TASK not in PIPELINE_REGISTRY.get_supported_tasks():  # both the installed classes and a checkpoint's may be at hand
    PIPELINE_REGISTRY.register_pipeline(TASK, LlinkPipeline, pt_model=AutoModelForCausalLM)


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item
