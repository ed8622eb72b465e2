"""Synthetic heads with known truth: for training flex-s, and as the test ground of fitting and evaluation.

    assets = HeadAssets.load()                        # FLEXAVATAR_DATA, or a folder; DataMissing says what lacks
    heads = SyntheticHeads(assets, split="eval")      # `assets.to("cuda")` for the GPU
    head = heads[7]                                   # always the same head
    picture = head.render(Camera.orbit(40, 0, 256), Expression.of("smile"))     # rgb, alpha, depth
    splats = head.splats(Expression.of("smile"))      # dense opaque Gaussians, colours lit
    labels = head.labels(Expression.of("smile"))      # outermost surface and colour in the rig's atlas
    views = heads.views(7, count=4)                   # expression, cameras, pictures with mattes
    tracked = tracked_face(head)                      # a frontal photo, as the tracker would report it
    avatar = create_rig_avatar([tracked])

Cameras are of the canonical head frame, so `head.render(camera, expression)` and
`render(avatar.gaussians(expression), camera)` show the same view.
"""

from flexavatar.synthetic.assets import DataMissing, HeadAssets, data_folder
from flexavatar.synthetic.head import SyntheticHead, Traits
from flexavatar.synthetic.heads import SyntheticHeads, Views
from flexavatar.synthetic.labels import UVLabels
from flexavatar.synthetic.observation import photo_camera, tracked_face
from flexavatar.synthetic.sampling import sample_camera, sample_expression, sample_head_rotation

__all__ = [
    "DataMissing",
    "HeadAssets",
    "SyntheticHead",
    "SyntheticHeads",
    "Traits",
    "UVLabels",
    "Views",
    "data_folder",
    "photo_camera",
    "sample_camera",
    "sample_expression",
    "sample_head_rotation",
    "tracked_face",
]
