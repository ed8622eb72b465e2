"""The FlexAvatar network: image -> avatar code -> Gaussians."""

from flexavatar.model.checkpoint import BadCheckpoint
from flexavatar.model.config import FLEX_1, ModelConfig, read_config
from flexavatar.model.decoder import BiasSink
from flexavatar.model.flex1 import Flex1
from flexavatar.model.template import BadTemplate, Template, TemplateAnchors, read_template, template_anchors

__all__ = [
    "FLEX_1",
    "BadCheckpoint",
    "BadTemplate",
    "BiasSink",
    "Flex1",
    "ModelConfig",
    "Template",
    "TemplateAnchors",
    "read_config",
    "read_template",
    "template_anchors",
]
