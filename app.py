"""The FlexAvatar web app: `python app.py`, or a Hugging Face Space."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in flexavatar; here because `spaces` may load torch before

if not os.path.isabs(os.path.expanduser("~")):  # as users that a container makes up; `spaces` insists on one
    os.environ["HOME"] = tempfile.mkdtemp(prefix="flexavatar-home-")

with contextlib.suppress(ImportError):  # only Spaces need it
    import spaces  # noqa: F401  (ZeroGPU wants to be imported before torch)

import gradio as gr  # isort: skip

from flexavatar import FlexAvatarPipeline
from flexavatar.app.api import add_endpoints
from flexavatar.app.capture_tab import capture_tab
from flexavatar.app.controls import STATIC
from flexavatar.app.create_tab import create_tab
from flexavatar.app.gallery_tab import gallery_tab
from flexavatar.app.interpolate_tab import interpolate_tab
from flexavatar.app.live_tab import live_tab
from flexavatar.app.reenact_tab import reenact_tab
from flexavatar.app.roster import Roster
from flexavatar.app.routes import routes
from flexavatar.app.share_box import Sharing
from flexavatar.app.studio import Studio
from flexavatar.app.work import stop_on_leaving
from flexavatar.pipeline import DEFAULT_MODEL
from flexavatar.sharing import SharedStore, open_store

ROOT = Path(__file__).resolve().parent
EXAMPLE = ROOT / "examples" / "astronaut.png"
CLIP = ROOT / "examples" / "turning.mp4"
TITLE = "# FlexAvatar\nOne photo in, a 3D head out: turn it, animate it, download it as Gaussian splats."
CACHE_SECONDS = 3600


def build(studio: Studio, shared: SharedStore) -> gr.Blocks:
    """The page and its API."""
    with gr.Blocks(
        title="FlexAvatar", analytics_enabled=False, fill_width=True, delete_cache=(CACHE_SECONDS, CACHE_SECONDS)
    ) as page:
        gr.Markdown(TITLE, elem_id="title")
        roster = Roster(studio, EXAMPLE)
        sharing = Sharing(studio, shared)
        with gr.Tabs():
            with gr.Tab("Create"):
                create_tab(sharing, roster, [str(EXAMPLE)])
            with gr.Tab("Photos & video"):
                capture_tab(sharing, roster, str(CLIP))
            with gr.Tab("Live"):
                live_tab(sharing, roster)
            with gr.Tab("Reenact"):
                reenact_tab(sharing, roster, str(CLIP))
            with gr.Tab("Interpolate"):
                interpolate_tab(sharing, roster)
            with gr.Tab("My avatars") as mine:
                gallery_tab(sharing, roster, mine)
        roster.wire(page)
        sharing.wire(page)
        page.unload(stop_on_leaving(studio))
        add_endpoints(studio)
    return page.queue(max_size=64, default_concurrency_limit=4)


def launch(
    studio: Studio,
    host: str | None = None,
    port: int | None = None,
    block: bool = True,
    shared: SharedStore | None = None,
) -> gr.Blocks:
    """Serve the page and `shared` avatars (default: those of `open_store`).

    `block=False` returns while a thread of its own goes on serving.
    """
    shared = shared or open_store()
    page = build(studio, shared)
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=not block,
        quiet=not block,
        max_file_size="200mb",
        ssr_mode=False,
        app_kwargs={"routes": routes(studio, shared)},
        footer_links=["api"],
        theme=gr.themes.Default(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
            font_mono=["ui-monospace", "Consolas", "monospace"],
        ),
        css_paths=[STATIC / "style.css"],
        head=f"<script>{(STATIC / 'browser.js').read_text(encoding='utf-8')}</script>",
    )
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the FlexAvatar web app.")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME, or this machine only)")
    parser.add_argument("--port", type=int, help="port (default: GRADIO_SERVER_PORT, or the first free one from 7860)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="what makes the avatars; as of `flexavatar create`")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    launch(Studio(FlexAvatarPipeline.from_pretrained(args.model, args.device)), args.host, args.port)


if __name__ == "__main__":
    main()
