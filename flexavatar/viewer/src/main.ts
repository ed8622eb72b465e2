import "./style.css";
import { listen, poseOf, report, type FlexAvatarApi } from "./api";
import { BadBundle, readBundle } from "./bundle";
import { bytes, CLIPS } from "./clips";
import { BLENDSHAPES, headAngles, PRESETS } from "./expression";
import { setIcon } from "./icons";
import { Player } from "./player";
import { Sliders } from "./sliders";
import type { AvatarMesh } from "./splats";
import { Stage } from "./stage";
import type { Webcam } from "./webcam";

const options = new URLSearchParams(location.search);
const embedded = document.getElementById("embedded-bundle")?.textContent;
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const TURN = 24; // degrees per second of the automatic rotation
const BACKGROUNDS: [name: string, colour: string][] = [
  ["Studio", ""],
  ["White", "#ffffff"],
  ["Grey", "#8a8d99"],
  ["Black", "#08080b"],
  ["Violet", "#4a3fbf"],
  ["Green", "#00b140"],
];

function element<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const app = element("app");
const host = element("stage");
let toastTimer = 0;

function toast(text: string): void {
  const box = element("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => (box.hidden = true), 6000);
}

function message(text: string | null, { busy = false, open = false } = {}): void {
  element("message").hidden = text === null;
  element("message").classList.toggle("busy", busy);
  element("message-text").textContent = text;
  element("open").hidden = !open;
}

function pressed(button: HTMLElement, on: boolean): void {
  button.setAttribute("aria-pressed", String(on));
}

/** For browsers without WebGL 2: the turntable video, or a message. */
function showVideo(): void {
  app.classList.add("closed", "minimal");
  element("toolbar").hidden = true;
  const url = options.get("video");
  if (!url) {
    message("This browser cannot show 3D (WebGL 2 is missing). Switch on hardware acceleration, or use another browser.");
    return;
  }
  element("poster").remove();
  const video = document.createElement("video");
  Object.assign(video, { src: url, loop: true, muted: true, autoplay: !calm, controls: true, playsInline: true });
  video.setAttribute("aria-label", "The avatar, turning around once");
  host.append(video);
  toast("This browser cannot show 3D (WebGL 2 is missing), so here is a video of the avatar.");
}

class Viewer implements FlexAvatarApi {
  readonly ready: Promise<void>;
  private readonly player = new Player();
  private readonly sliders: Sliders;
  private avatar: AvatarMesh | undefined;
  private rotating = false;
  private webcam: Webcam | null = null;

  constructor(private readonly stage: Stage) {
    this.sliders = new Sliders(element("sliders"), (pose) => this.drive(() => this.player.set(pose)));
    this.player.onShown = (pose) => {
      this.avatar?.pose(pose.weights, pose.head);
      this.sliders.show(pose);
    };
    stage.onTick = (seconds) => {
      const moved = this.player.tick(seconds);
      if (this.rotating) stage.turn(TURN * seconds, 0);
      return moved || this.rotating;
    };
    stage.onContextLost = () => message("The graphics card stopped this view. Reload the page.");
    this.wireView();
    this.wirePanel();
    this.wireWebcam();
    listen(stage, this.player, (url) => this.load(url).catch(() => {}));
    this.ready = this.first();
    this.ready.catch(() => {}); // shown to the visitor; whoever waits for it gets it, too
  }

  get renderedFrames(): number {
    return this.stage.renderedFrames;
  }

  async load(from: string | ArrayBuffer): Promise<void> {
    message("Loading the avatar…", { busy: true });
    try {
      const bundle = await readBundle(typeof from === "string" ? await fetched(from) : from);
      this.avatar = this.stage.show(bundle);
      await this.avatar.mesh.initialized;
      this.avatar.pose(this.player.shown.weights, this.player.shown.head);
      await this.stage.settle();
      host.classList.add("loaded");
      const size = `${bundle.splats.toLocaleString("en")} splats, ${(bundle.bytes / 1e6).toFixed(1)} MB`;
      element("facts").textContent = [size, bundle.licence].filter(Boolean).join(" · ");
      message(null);
      report({ type: "loaded", splats: bundle.splats });
    } catch (error) {
      element("poster").remove();
      const text = error instanceof BadBundle ? error.message : "The avatar could not be shown. Reload the page.";
      message(text, { open: true });
      report({ type: "error", message: text });
      throw error;
    }
  }

  setExpression(...given: Parameters<FlexAvatarApi["setExpression"]>): void {
    this.player.set(poseOf(...given));
    this.stage.invalidate();
  }

  setCamera(yaw: number, pitch: number, zoom = 1): void {
    this.stage.setCamera(yaw, pitch, zoom);
  }

  picture(width: number, height: number, background: string | null = null): Promise<ImageData> {
    return this.stage.picture(width, height, background);
  }

  weights(): Record<string, number> {
    return Object.fromEntries(BLENDSHAPES.map((name, i) => [name, this.player.shown.weights[i]!]));
  }

  pose() {
    return { weights: this.weights(), head: headAngles(this.player.shown.head) };
  }

  stats() {
    const { fps, rendererName: renderer } = this.stage;
    return { fps, splats: this.avatar?.bundle.splats ?? 0, entries: this.avatar?.entries ?? 0, renderer };
  }

  private async first(): Promise<void> {
    const url = options.get("bundle");
    if (embedded) await this.load(bytes(embedded).buffer);
    else if (url) await this.load(url);
    else {
      message("Drop an avatar here.", { open: true });
      throw new BadBundle("No avatar was named.");
    }
  }

  /** Whoever moves a slider takes over from the webcam. */
  private drive(change: () => void): void {
    if (this.webcam) this.stopWebcam();
    change();
    this.stage.invalidate();
  }

  private setRotating(on: boolean): void {
    this.rotating = on;
    pressed(element("rotate"), on);
  }

  private wireView(): void {
    const { canvas } = this.stage;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "The avatar in 3D. Arrow keys turn it, plus and minus zoom, 0 shows the front.");
    const keys: Record<string, () => void> = {
      ArrowLeft: () => this.stage.turn(-6, 0),
      ArrowRight: () => this.stage.turn(6, 0),
      ArrowUp: () => this.stage.turn(0, 5),
      ArrowDown: () => this.stage.turn(0, -5),
      "+": () => this.stage.zoom(1.1),
      "=": () => this.stage.zoom(1.1),
      "-": () => this.stage.zoom(1 / 1.1),
      "0": () => this.stage.frontView(),
    };
    canvas.addEventListener("keydown", (event) => {
      const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    });
    this.stage.controls.addEventListener("start", () => this.setRotating(false));

    setIcon(element("rotate"), "rotate");
    setIcon(element("front"), "front");
    setIcon(element("shot"), "shot");
    setIcon(element("full"), "full");
    setIcon(element("toggle-panel"), "panel");
    element("rotate").addEventListener("click", () => this.setRotating(!this.rotating));
    element("front").addEventListener("click", () => {
      this.setRotating(false);
      this.stage.frontView();
    });
    element("shot").addEventListener("click", () => void this.savePicture());
    const full = element("full");
    full.hidden = !document.fullscreenEnabled;
    full.addEventListener("click", () => {
      const change = document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen();
      change.catch(() => toast("The browser does not allow full screen here."));
    });
    document.addEventListener("fullscreenchange", () => pressed(full, document.fullscreenElement !== null));
    this.setRotating(options.has("autorotate") && options.get("autorotate") !== "0" && !calm);

    for (const type of ["dragover", "dragleave", "drop"] as const) {
      window.addEventListener(type, (event) => {
        event.preventDefault();
        app.classList.toggle("dropping", type === "dragover");
        const file = type === "drop" ? event.dataTransfer?.files[0] : undefined;
        if (file) void this.open(file);
      });
    }
    element<HTMLInputElement>("open-file").addEventListener("change", (event) => {
      const file = (event.target as HTMLInputElement).files?.[0];
      if (file) void this.open(file);
    });
  }

  private async open(file: File): Promise<void> {
    await this.load(await file.arrayBuffer()).catch(() => {});
  }

  private async savePicture(): Promise<void> {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await this.stage.png(background || null));
    link.download = "avatar.png";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  private wirePanel(): void {
    for (const name of Object.keys(PRESETS)) {
      chip("presets", name, () => this.drive(() => this.player.set(poseOf(PRESETS[name]!), !calm)));
    }
    const clips = CLIPS.map((clip) => ({
      clip,
      button: chip("clips", clip.name.replaceAll("_", " "), (button) =>
        this.drive(() => this.player.play(button.getAttribute("aria-pressed") === "true" ? null : clip)),
      ),
    }));
    this.player.onClip = (playing) => clips.forEach(({ clip, button }) => pressed(button, clip === playing));
    this.player.onClip(null);

    element("reset").addEventListener("click", () => this.drive(() => this.player.set(poseOf({}), !calm)));
    element<HTMLInputElement>("search").addEventListener("input", (event) => {
      element("nothing").hidden = this.sliders.search((event.target as HTMLInputElement).value) > 0;
    });
    for (const [name, colour] of BACKGROUNDS) swatch(name, colour);
    const toggle = () => {
      const open = !app.classList.toggle("closed");
      for (const id of ["toggle-panel", "grip"]) element(id).setAttribute("aria-expanded", String(open));
    };
    element("toggle-panel").addEventListener("click", toggle);
    element("grip").addEventListener("click", toggle);
    const fps = element<HTMLInputElement>("show-fps");
    fps.addEventListener("change", () => (element("fps").hidden = !fps.checked));
    setInterval(() => {
      if (fps.checked) element("fps").textContent = this.stage.fps ? `${this.stage.fps} fps` : "at rest";
    }, 500);
  }

  private wireWebcam(): void {
    const button = element<HTMLButtonElement>("webcam");
    if (embedded) {
      button.hidden = true;
      element("privacy").textContent = "Driving by webcam works in the hosted viewer; this page is a single file.";
      return;
    }
    button.addEventListener("click", () => (this.webcam ? this.stopWebcam() : void this.startWebcam(button)));
    element("calibrate").addEventListener("click", () => {
      const done = this.webcam?.calibrate();
      toast(done ? "This is now your neutral face." : "No face is seen. Look into the camera and try again.");
    });
    const [mirror, headPose] = [element<HTMLInputElement>("mirror"), element<HTMLInputElement>("head-pose")];
    const change = () => {
      if (this.webcam) Object.assign(this.webcam, { mirror: mirror.checked, headPose: headPose.checked });
      element("webcam-live").classList.toggle("mirrored", mirror.checked);
    };
    mirror.addEventListener("change", change);
    headPose.addEventListener("change", change);
  }

  private async startWebcam(button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    button.textContent = "Starting…";
    try {
      const { Webcam } = await import("./webcam");
      const states = { face: "Following your face", "no face": "No face is seen. Look into the camera.", ended: "" };
      this.webcam = await Webcam.start({
        landmarker: options.get("landmarker") ?? "face_landmarker.task",
        onState: (state) => {
          element("webcam-state").textContent = states[state];
          if (state !== "ended") return;
          this.stopWebcam();
          toast("The camera was disconnected. Connect it, then switch it on again.");
        },
      });
      this.player.follow(this.webcam);
      element("preview").replaceChildren(this.webcam.video);
      element("webcam-live").hidden = false;
      element("mirror").dispatchEvent(new Event("change"));
    } catch (error) {
      toast(error instanceof Error && error.message ? error.message : "The face tracker does not start in this browser.");
    }
    button.disabled = false;
    this.showWebcamState();
  }

  private stopWebcam(): void {
    this.webcam?.stop();
    this.webcam = null;
    this.player.follow(null);
    this.showWebcamState();
  }

  private showWebcamState(): void {
    const on = this.webcam !== null;
    const button = element("webcam");
    button.textContent = on ? "Stop the webcam" : "Drive with your webcam";
    button.classList.toggle("primary", !on);
    pressed(button, on);
    element("webcam-live").hidden = !on;
  }
}

let background = "";

function setBackground(colour: string): void {
  background = colour;
  app.style.background = colour;
}

function swatch(name: string, colour: string): void {
  const label = document.createElement("label");
  label.style.setProperty("--swatch", colour || "var(--backdrop)");
  label.title = name;
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "background", checked: colour === "" });
  input.setAttribute("aria-label", `${name} background`);
  input.addEventListener("change", () => setBackground(colour));
  label.append(input);
  element("backgrounds").append(label);
}

function chip(group: string, text: string, onClick: (button: HTMLButtonElement) => void): HTMLButtonElement {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "chip", textContent: text[0]!.toUpperCase() + text.slice(1) });
  button.addEventListener("click", () => onClick(button));
  element(group).append(button);
  return button;
}

async function fetched(url: string): Promise<ArrayBuffer> {
  const answer = await fetch(url).catch(() => undefined);
  if (answer?.status === 404 || answer?.status === 410) throw new BadBundle("This avatar is gone. Ask whoever shared it.");
  if (!answer?.ok) throw new BadBundle("The avatar could not be loaded. Check the connection, then reload the page.");
  return answer.arrayBuffer();
}

function start(): void {
  app.classList.toggle("posted", element("poster").hasAttribute("src"));
  if (options.get("ui") === "minimal") app.classList.add("minimal", "closed");
  const colour = options.get("background");
  if (colour && CSS.supports("color", colour)) setBackground(colour);
  let stage: Stage;
  try {
    stage = new Stage(host);
  } catch {
    showVideo();
    return;
  }
  window.flexavatar = new Viewer(stage);
  report({ type: "ready" });
}

start();
