"""What goes to the Hub: importing it adds the card to every push of a model."""

from ..modeling_llink import LlinkConfig, LlinkForCausalLM, LlinkProcessor
from .packager import complete, push_folder

__all__ = ["LlinkConfig", "LlinkForCausalLM", "LlinkProcessor", "complete", "push_folder"]
