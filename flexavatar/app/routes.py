"""What the app serves beside Gradio: shared avatars, the viewer, and the bundles of avatars that are being worked on.

    page.launch(..., app_kwargs={"routes": routes(studio, store)})

`app_kwargs` reaches the FastAPI app that Gradio makes, so these routes are there before Gradio's own and from the first
request on; a Space, which needs `launch`, is served in the same way.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route

from flexavatar.app.store import AvatarGone
from flexavatar.errors import CannotWrite
from flexavatar.sharing.contents import BUNDLE, CARD, DOWNLOADS, POSTER, THUMBNAIL, VIDEO
from flexavatar.sharing.hub import StorageUnavailable
from flexavatar.sharing.pages import (
    FRAMED_BY,
    Links,
    avatar_page,
    delete_page,
    deleted_page,
    gone_page,
    page_policy,
    unavailable_page,
)
from flexavatar.sharing.store import NotShared, SharedAvatar, SharedStore
from flexavatar.viewer import viewer_files, viewer_html

if TYPE_CHECKING:
    from flexavatar.app.studio import Studio

HTML_FILE = "avatar.html"  # made when asked for: the bundle within the present viewer
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".gz": "application/octet-stream",  # unpacked by the page; as a transfer encoding it would be unpacked twice
}
_VIEWER_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
    "connect-src 'self' blob: data:; img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; "
    f"form-action 'none'; {FRAMED_BY}"
)
_COMMON = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
_OWN_FILE = re.compile(r"\.\./\.\./(avatar|session)/[\w-]+/[a-z.]+(\?key=[\w-]+)?", re.ASCII)
_NO_POSTER = '<img id="poster"'  # as in the viewer's index.html
_MAX_FIELDS, _MAX_FIELD_BYTES = 8, 4096  # of a form


def routes(studio: Studio, store: SharedStore) -> list[BaseRoute]:
    """Routes for the app's server.

    /?avatar=ID             -> /avatar/ID
    /avatar/ID              page of a shared avatar (?key=TOKEN if it is private, ?delete=TOKEN to delete it)
    /avatar/ID/FILE         its files
    POST /avatar/ID/delete  with the owner's token
    /session/KEY/FILE       bundle, poster and turntable of an avatar of the studio, for the viewer
    /viewer/BUILD/FILE      the viewer, see `viewer_url`
    """
    shared = _Shared(store)
    making = CapacityLimiter(4)  # callers wait for it instead of holding all of the server's threads

    async def session_file(request: Request) -> Response:
        try:
            path = await to_thread.run_sync(
                _session_path, studio, request.path_params["key"], request.path_params["file"], limiter=making
            )
            return _file(request, Path(path), {"Cache-Control": "private, no-cache"})
        except (AvatarGone, FileNotFoundError):
            return PlainTextResponse("This avatar is not on the server any more.", 404, headers=_COMMON)

    return [
        _SharedLink("/", shared.redirect),
        Route("/avatar/{id}", _answering(shared.page)),
        Route("/avatar/{id}/delete", shared.delete, methods=["POST"]),
        Route("/avatar/{id}/{file}", _answering(shared.file)),
        Route("/avatar/{rest:path}", _answering(_not_shared)),
        Route("/session/{key}/{file}", session_file),
        Route("/viewer/{build}/{name:path}", _viewer_file),
    ]


def viewer_url(files: Mapping[str, str], options: Mapping[str, str] | None = None) -> str:
    """The viewer's address relative to the app's, for an iframe.

    `files` are addresses relative to the app's, too: of the "bundle", a "poster" that is shown until the bundle is
    drawn, and a "video" for browsers without WebGL 2. `options` as in flexavatar/viewer/README.md, for instance
    {"ui": "minimal"}.
    """
    from_viewer = {name: f"../../{address}" for name, address in files.items()}
    return f"viewer/{_build()}/index.html?{urlencode({**from_viewer, **(options or {})})}"


def session_viewer_url(key: str, options: Mapping[str, str] | None = None) -> str:
    """`viewer_url` for an avatar of the studio."""
    files = {"bundle": "bundle", "poster": "poster", "video": "turntable"}
    return viewer_url({name: f"session/{key}/{file}" for name, file in files.items()}, options)


@dataclass(frozen=True)
class OwnerLinks:
    """Addresses relative to the app's, for an avatar's owner."""

    page: str  # the link to give to others, unless the avatar is private
    thumbnail: str
    delete: str  # asks before it deletes


def owner_links(avatar: SharedAvatar, token: str) -> OwnerLinks:
    """The links of a shared avatar for its owner, whose token they hold where it is needed."""
    page = f"avatar/{avatar.id}"
    return OwnerLinks(
        _with_key(page, avatar, token),
        _with_key(f"{page}/{THUMBNAIL}", avatar, token),
        f"{page}?{urlencode({'delete': token})}",
    )


class _SharedLink(Route):
    """The app's own address, if it names a shared avatar."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        match, child_scope = super().matches(scope)
        named = "avatar" in parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return (match, child_scope) if named else (Match.NONE, {})


class _Shared:
    """Answers about shared avatars. All of them run in threads of the server, since a store may ask the Hub."""

    def __init__(self, store: SharedStore) -> None:
        self.store = store

    def redirect(self, request: Request) -> Response:
        # Relative, so that it also holds where a proxy serves the app below a path.
        return RedirectResponse(f"avatar/{quote(request.query_params['avatar'], safe='')}", headers=_COMMON)

    def page(self, request: Request) -> Response:
        avatar_id, query = request.path_params["id"], request.query_params
        if token := query.get("delete"):
            avatar = self.store.owned(avatar_id, token)
            card = _with_key(f"{avatar.id}/{CARD}", avatar, token)
            return _html(delete_page(avatar, token, f"{avatar.id}/delete", card))
        key = query.get("key")
        avatar = self.store.get(avatar_id, key)
        return _html(avatar_page(avatar, _links(request, avatar, key)))

    def file(self, request: Request) -> Response:
        avatar_id, name, key = request.path_params["id"], request.path_params["file"], request.query_params.get("key")
        avatar = self.store.get(avatar_id, key)
        if name not in _offered(avatar):
            raise NotShared
        # Asked for again each time, so that a deleted avatar is gone for those who saw it, too.
        headers = {"Cache-Control": "private, no-cache"}
        if name in _downloads(avatar):
            headers["Content-Disposition"] = f'attachment; filename="{_file_name(avatar, name)}"'
        if name != HTML_FILE:
            return _file(request, self.store.path(avatar_id, name, key), headers)
        page = viewer_html(self.store.path(avatar_id, BUNDLE, key).read_bytes(), avatar.name)
        return HTMLResponse(page, headers={**_COMMON, **headers, "Content-Security-Policy": "sandbox"})

    async def delete(self, request: Request) -> Response:
        token = await _form_field(request, "token")
        return await to_thread.run_sync(_answering(self._delete), request, token)

    def _delete(self, request: Request, token: str | None) -> Response:
        self.store.delete(request.path_params["id"], token)
        return _html(deleted_page("../../"))


def _answering(answer: Callable[..., Response]) -> Callable[..., Response]:
    """The same page for every avatar that cannot be shown, whatever the reason."""

    @wraps(answer)
    def answered(request: Request, *args: Any) -> Response:
        try:
            return answer(request, *args)
        except (NotShared, FileNotFoundError):  # a file may go between two looks at it
            return _html(gone_page(_home(request)), 404)
        except (StorageUnavailable, CannotWrite) as error:
            return _html(unavailable_page(str(error)), 503)

    return answered


def _not_shared(request: Request) -> Response:
    raise NotShared


def _session_path(studio: Studio, key: str, file: str) -> str:
    """A file of an avatar of the studio, made at the first call. Raises AvatarGone."""
    if file == "bundle":
        return studio.bundle(key)
    if file == "poster":
        return studio.poster(key)
    if file == "turntable":
        return studio.still_turntable(key)
    raise FileNotFoundError(file)


def _viewer_file(request: Request) -> Response:
    path = viewer_files().get(request.path_params["name"])
    if path is None or request.path_params["build"] != _build():
        return PlainTextResponse("There is no such file.", 404, headers=_COMMON)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    if path.suffix == ".html":
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _VIEWER_POLICY,
            "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        }
        bundle, poster = (request.query_params.get(name, "") for name in ("bundle", "poster"))
        if _OWN_FILE.fullmatch(bundle):  # so that it comes while the script that will ask for it is still on its way
            headers["Link"] = f"<{bundle}>; rel=preload; as=fetch; crossorigin=anonymous"
        if _OWN_FILE.fullmatch(poster):  # likewise: the script alone takes longer than the poster
            page = path.read_text(encoding="utf-8").replace(_NO_POSTER, f'{_NO_POSTER} src="{poster}"')
            return HTMLResponse(page, headers={**_COMMON, **headers})
    return _file(request, path, headers)


@cache
def _build() -> str:
    """A hash of the viewer's files for their addresses, so that browsers may keep what is behind one for ever."""
    digest = hashlib.sha256()
    for name, path in sorted(viewer_files().items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _links(request: Request, avatar: SharedAvatar, key: str | None) -> Links:
    def link(name: str) -> str:
        return _with_key(f"{avatar.id}/{name}", avatar, key)

    address = f"{_address(request)}/avatar/{avatar.id}"
    files = {"bundle": BUNDLE, "poster": POSTER, "video": VIDEO}
    there = {name: f"avatar/{link(file)}" for name, file in files.items() if file in avatar.files}
    return Links(
        home="../",
        viewer="../" + viewer_url(there, {"autorotate": ""}),
        downloads={name: link(name) for name in _downloads(avatar)},
        report=_report_address(),
        page_address=address,
        card_address=f"{address}/{CARD}",
    )


def _downloads(avatar: SharedAvatar) -> list[str]:
    return [*DOWNLOADS, BUNDLE, HTML_FILE, VIDEO] if avatar.downloads else []


def _offered(avatar: SharedAvatar) -> set[str]:
    """Names of the files that visitors may get: what the page shows, and the downloads if the owner allows them."""
    return {BUNDLE, CARD, POSTER, THUMBNAIL, VIDEO, *_downloads(avatar)}


def _with_key(url: str, avatar: SharedAvatar, key: str | None) -> str:
    return f"{url}?{urlencode({'key': key})}" if key and avatar.visibility == "private" else url


def _report_address() -> str | None:
    space = os.environ.get("SPACE_ID")
    return os.environ.get("FLEXAVATAR_REPORT_URL") or (
        f"https://huggingface.co/spaces/{space}/discussions" if space else None
    )


def _address(request: Request) -> str:
    """The app's address as visitors know it, without "/" at its end."""
    first = {
        name: request.headers.get(name, "").split(",")[0].strip() for name in ("x-forwarded-proto", "x-forwarded-host")
    }
    scheme = first["x-forwarded-proto"] if first["x-forwarded-proto"] in ("http", "https") else request.url.scheme
    host = first["x-forwarded-host"] or request.headers.get("host", "")
    if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?", host):
        host = "localhost"
    return f"{scheme}://{host}{request.scope.get('root_path', '').rstrip('/')}"


def _home(request: Request) -> str:
    """The app, relative to a page at any depth below it."""
    return "../" * request.url.path.removeprefix(request.scope.get("root_path", "")).count("/") + "."


def _html(page: str, status: int = 200) -> HTMLResponse:
    headers = {**_COMMON, "Content-Security-Policy": page_policy(), "Cache-Control": "no-store"}
    return HTMLResponse(page, status, headers)


def _file(request: Request, path: Path, headers: dict[str, str]) -> Response:
    """The file as a response. Raises FileNotFoundError."""
    media_type = _TYPES.get(path.suffix, "application/octet-stream")
    response = FileResponse(path, headers={**_COMMON, **headers}, media_type=media_type, stat_result=path.stat())
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if response.headers["etag"] in known:
        return Response(status_code=304, headers={"ETag": response.headers["etag"], **_COMMON, **headers})
    return response


def _file_name(avatar: SharedAvatar, name: str) -> str:
    """The name under which a visitor saves a file."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", avatar.name).strip("-")
    return f"{stem or 'avatar'}{Path(name).suffix}"


async def _form_field(request: Request, name: str) -> str | None:
    """A field of the form that was sent; None if it is missing or the form is larger than any of these pages."""
    try:
        form = await request.form(max_files=0, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
    except HTTPException:
        return None
    value = form.get(name)
    return value if isinstance(value, str) else None
