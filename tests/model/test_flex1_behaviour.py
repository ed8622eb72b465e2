"""Properties of the network that hold whatever its weights are."""

from __future__ import annotations

import pytest
import torch

from flexavatar.model import FLEX_1, Flex1, read_config, read_template, template_anchors
from flexavatar.model.upsampler import ModulatedWeight
from tests.model.flex1_reference import GOLDEN, Inputs

NO_EFFECT = (
    "encoder.head_token_embeddings",
    "encoder.transformer.layers.1.attn.add_q_proj.weight",
    "encoder.transformer.layers.1.attn.add_q_proj.bias",
    "encoder.transformer.layers.1.attn.norm_added_q.weight",
    "decoder.transformer.layers.2.attn.add_q_proj.weight",
    "decoder.transformer.layers.2.attn.add_q_proj.bias",
    "decoder.transformer.layers.2.attn.norm_added_q.weight",
    *(f"decoder.upsampler.blocks.{b}.{layer}.affine.weight" for b in (0, 1) for layer in ("conv0", "conv1", "torgb")),
)


def test_small_configuration_differs_from_flex_1_where_it_says_so():
    config = read_config(GOLDEN / "tiny_config.json")
    assert (config.width, config.grid, config.gaussian_grid) == (64, 8, 64)
    assert (config.encoder.n_image_layers, config.encoder.n_layers, config.decoder.n_layers) == (2, 2, 3)
    assert (config.upsampler.channel_base, config.upsampler.channel_max, config.upsampler.style_dim) == (512, 24, 32)
    assert (FLEX_1.n_tokens, FLEX_1.gaussian_grid) == (1024, 256)


def test_bias_sink_changes_the_output(tiny: Flex1, tiny_inputs: Inputs):
    code = tiny.encode(**tiny_inputs.views)
    monocular = tiny.decode(code, tiny_inputs.expression, "monocular")
    multiview = tiny.decode(code, tiny_inputs.expression, "multiview")
    assert (monocular.means - multiview.means).abs().max() > 1e-4
    mixed = tiny.decode(code, tiny_inputs.expression, ["monocular", "multiview"])
    torch.testing.assert_close(mixed.means[0], monocular.means[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(mixed.means[1], multiview.means[1], atol=1e-6, rtol=0)


def test_expression_changes_the_output_and_not_the_person(tiny: Flex1, tiny_inputs: Inputs):
    gaussians = tiny.decode(tiny.encode(**tiny_inputs.views), tiny_inputs.expression)
    assert gaussians.batch_shape == (2, 2)
    assert (gaussians.means[:, 0] - gaussians.means[:, 1]).abs().max() > 1e-4


def test_batch_equals_loop(tiny: Flex1, tiny_inputs: Inputs):
    code = tiny.encode(**tiny_inputs.views)
    together = tiny.decode(code, tiny_inputs.expression)
    for person in range(2):
        one = slice(person, person + 1)
        alone = tiny.encode(**{name: value[one] for name, value in tiny_inputs.views.items()})
        torch.testing.assert_close(alone, code[:, one], atol=1e-5, rtol=0)
        for moment in range(2):
            expression = tiny_inputs.expression[one, moment : moment + 1]
            single = tiny.decode(alone, expression)[0, 0]
            for name in ("means", "quats", "scales", "opacities", "colors"):
                expected = getattr(together, name)[person, moment]
                torch.testing.assert_close(getattr(single, name), expected, atol=1e-5, rtol=0)


def test_gaussians_are_activated(tiny: Flex1, tiny_inputs: Inputs):
    gaussians = tiny.decode(tiny.encode(**tiny_inputs.views), tiny_inputs.expression)
    torch.testing.assert_close(gaussians.quats.norm(dim=-1), torch.ones_like(gaussians.opacities))
    assert gaussians.scales.min() > 0 and gaussians.scales.max() <= 0.01 + 1e-9
    assert gaussians.opacities.min() >= 0 and gaussians.opacities.max() <= 1
    assert gaussians.colors.min() >= 0
    assert (gaussians.means - tiny.anchors).abs().max() <= 0.1


def test_bfloat16_stays_close(tiny: Flex1, tiny_inputs: Inputs):
    exact = tiny.decode(tiny.encode(**tiny_inputs.views), tiny_inputs.expression)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = tiny.decode(tiny.encode(**tiny_inputs.views), tiny_inputs.expression)
    assert rough.means.dtype == torch.float32
    assert 0 < (rough.means - exact.means).abs().max() < 5e-3  # metres
    assert (rough.means - exact.means).abs().mean() < 5e-4
    assert (rough.colors - exact.colors).abs().mean() < 2e-2


def test_gradient_reaches_every_parameter_that_has_an_effect(trainable: Flex1, tiny_inputs: Inputs):
    code = trainable.encode(**tiny_inputs.views)
    attributes = trainable.attributes(code, tiny_inputs.expression, tiny_inputs.bias_sink)
    generator = torch.Generator().manual_seed(0)
    fields = (attributes.offsets, attributes.scales, attributes.quats, attributes.opacities, attributes.sh)
    # Random weights: plain sums are blind to some parameters (unit quaternions).
    values = torch.cat([value.flatten() for value in fields])
    (values * torch.randn(values.shape, generator=generator)).sum().backward()
    for name, parameter in trainable.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
        assert moved == (name not in NO_EFFECT), name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_exploding_scale_has_a_finite_gradient(trainable: Flex1):
    features = torch.full((1, 3, 4), 1e6, requires_grad=True)
    trainable.decoder.heads(features).scales.sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()


def test_fitting_a_frozen_network_moves_only_the_code(tiny: Flex1, tiny_inputs: Inputs):
    code = tiny.encode(**tiny_inputs.views).detach().requires_grad_()
    tiny.decode(code, tiny_inputs.expression).colors.sum().backward()
    assert code.grad is not None and (code.grad.abs().amax(dim=(0, 2)) > 0).all()
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_folded_styles_follow_training_and_loading(trainable: Flex1, tiny_inputs: Inputs):
    code = trainable.encode(**tiny_inputs.views).detach()
    plain = trainable.decode(code, tiny_inputs.expression).means
    folded = trainable.freeze().decode(code, tiny_inputs.expression).means
    torch.testing.assert_close(folded, plain.detach(), atol=1e-6, rtol=0)

    state = {name: value * 1.5 if "torgb.weight" in name else value for name, value in trainable.state_dict().items()}
    assert not any("folded" in name for name in state)
    trainable.load_state_dict(state)
    changed = trainable.decode(code, tiny_inputs.expression).means
    assert (changed - folded).abs().max() > 1e-5
    trainable.freeze().train()
    assert all(module.folded is None for module in trainable.modules() if isinstance(module, ModulatedWeight))


def test_untrained_network_starts_on_the_template():
    config = read_config(GOLDEN / "tiny_config.json")
    model = Flex1(config, template_anchors(read_template(GOLDEN / "tiny_template.obj"), config))
    gaussians = model.decode(torch.randn(64, 1, 64), torch.randn(1, 1, 135))
    torch.testing.assert_close(gaussians.means[0, 0], model.anchors)
    torch.testing.assert_close(gaussians.opacities, torch.full_like(gaussians.opacities, 0.1))


def test_wrong_inputs_are_explained(tiny: Flex1, tiny_inputs: Inputs):
    code = tiny.encode(**tiny_inputs.views)
    with pytest.raises(ValueError, match="another model"):
        tiny.decode(code.transpose(0, 1), tiny_inputs.expression)
    with pytest.raises(ValueError, match="expression"):
        tiny.decode(code, tiny_inputs.expression[..., :58])
    large = dict(tiny_inputs.views, images=torch.zeros(2, 1, 3, 528, 528))
    with pytest.raises(ValueError, match="at most 1024"):
        tiny.encode(**large)
