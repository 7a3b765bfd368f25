"""What makes a processor's folder or repository complete: code, `auto_map`, and a tokenizer that loads by itself."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from transformers import AutoTokenizer
from transformers.processing_utils import ProcessorMixin

from .remote_code import PROCESSOR_AUTO_MAP, write_code
from .upload import LlinkPushError, commit_folder, look


class CompleteProcessorMixin(ProcessorMixin):
    """A processor that is saved and pushed with everything it needs elsewhere."""

    @classmethod
    def _load_tokenizer_from_pretrained(
        cls, sub_processor_type: str, pretrained_model_name_or_path: str, subfolder: str = "", **kwargs: Any
    ) -> Any:
        """As in the library, which takes the decoder's tokenizer for an encoder's that does not load; this raises."""
        parts = [subfolder, "" if sub_processor_type == "tokenizer" else sub_processor_type]
        place = "/".join(part for part in parts if part)
        return AutoTokenizer.from_pretrained(pretrained_model_name_or_path, subfolder=place, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """As in the library, with the code and with a configuration beside the encoder's tokenizer.

        Raises:
            LlinkPushError: If `push_to_hub` is asked for and fails.
        """
        written = super().save_pretrained(save_directory, **kwargs)
        folder = Path(save_directory)
        config = folder / "encoder_tokenizer" / "config.json"
        if not config.is_file():
            # Offline, without it, this tokenizer would silently be taken from the folder above.
            config.write_text("{}\n", "utf-8")
        if PROCESSOR_AUTO_MAP["AutoProcessor"].endswith(f".{type(self).__name__}"):  # the baselines' do not travel
            write_code(folder)
        if push_to_hub:
            self.push_to_hub(kwargs.get("repo_id") or folder.name)
        return written

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **_: Any,
    ) -> CommitInfo:
        """Puts both tokenizers, the template and the code on the Hub, in one commit; other files there stay.

        Args:
            repo_id, commit_message, commit_description, private, token, revision, create_pr: As in the library.

        Raises:
            LlinkPushError: If the saved tokenizers load as other ones, or the upload fails.
        """
        with tempfile.TemporaryDirectory(prefix="llink-push-") as folder:
            self.save_pretrained(folder)
            again = type(self).from_pretrained(folder)
            for name in ("tokenizer", "encoder_tokenizer"):
                if getattr(again, name).get_vocab() != getattr(self, name).get_vocab():
                    raise LlinkPushError(f"The {name} loads as another one when it is saved: nothing was pushed.")
            api = HfApi(token=token)
            remote = look(api, repo_id, revision)
            message = commit_message or "Upload llink processor"
            return commit_folder(
                api, Path(folder), remote, message, (), commit_description, private, revision, create_pr
            )
