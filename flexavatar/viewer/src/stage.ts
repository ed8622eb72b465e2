// The 3D view: camera, controls, and a render loop that draws only when something has changed.

import { SparkRenderer } from "@sparkjsdev/spark";
import * as THREE from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import type { Bundle, BundleCamera } from "./bundle";
import { AvatarMesh } from "./splats";

// The Python renderer's conventions, so that a browser shows the same picture: every ellipse is blurred by 0.1 px^2 and
// fades by as much as it grew, alphas count from 1/255, and a splat ends where an opaque one falls to that.
const BLUR = 0.1;
const MIN_ALPHA = 1 / 255;
const REACH = Math.sqrt(2 * Math.log(255)); // standard deviations

const MAX_PIXEL_RATIO = 2; // per CSS pixel: more costs time and shows nothing
const NARROW = 0.8; // width to height below which a head would no longer fit
const DEFAULT_CAMERA: BundleCamera = {
  fieldOfView: 20,
  viewHeight: 0.48,
  center: [0, -0.05, -0.07],
  background: [1, 1, 1],
};

export class Stage {
  readonly canvas: HTMLCanvasElement;
  readonly controls: OrbitControls;
  renderedFrames = 0;
  /** Called before each frame with the seconds since the one before; returns whether something moves on. */
  onTick: (seconds: number) => boolean = () => false;
  onContextLost: () => void = () => {};

  private readonly renderer: THREE.WebGLRenderer;
  private readonly spark: SparkRenderer;
  private readonly scene = new THREE.Scene();
  private readonly camera = new THREE.PerspectiveCamera(20, 1, 0.05, 20);
  private view = DEFAULT_CAMERA;
  private avatar: AvatarMesh | undefined;
  private needsFrame = true;
  private settling = 0; // while a picture is being finished, the loop must not change it
  private lastTime = 0;
  private frameTimes: number[] = [];

  /** Throws if the browser has no WebGL 2. */
  constructor(private readonly host: HTMLElement) {
    this.renderer = new THREE.WebGLRenderer({ alpha: true, antialias: false, powerPreference: "high-performance" });
    this.renderer.setClearColor(0x000000, 0);
    this.canvas = this.renderer.domElement;
    this.spark = new SparkRenderer({
      renderer: this.renderer,
      accumExtSplats: true,
      preBlurAmount: 0, // this one would not fade
      blurAmount: BLUR,
      minAlpha: MIN_ALPHA,
      maxStdDev: REACH,
      sortRadial: false,
      enableLod: false,
      onDirty: () => this.invalidate(),
    });
    this.scene.add(this.spark);
    host.append(this.canvas);
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.enableDamping = true;
    this.controls.dampingFactor = 0.12;
    this.controls.minDistance = 0.4;
    this.controls.maxDistance = 4;
    this.controls.minPolarAngle = 0.35;
    this.controls.maxPolarAngle = Math.PI - 0.5;
    this.controls.rotateSpeed = 0.7;
    this.controls.enablePan = true;
    this.controls.addEventListener("change", () => this.invalidate());
    new ResizeObserver(() => this.resize()).observe(host);
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.onContextLost();
    });
    this.resize();
    this.frontView();
    requestAnimationFrame((time) => this.frame(time));
  }

  show(bundle: Bundle): AvatarMesh {
    this.avatar?.dispose();
    this.avatar = new AvatarMesh(bundle);
    this.scene.add(this.avatar.mesh);
    this.view = bundle.camera;
    this.frontView();
    return this.avatar;
  }

  invalidate(): void {
    this.needsFrame = true;
  }

  frontView(): void {
    this.setCamera(0, 0);
  }

  /** The camera of `Camera.orbit`: degrees; yaw 90 sees the subject's left ear, positive pitch looks from above. */
  setCamera(yaw: number, pitch: number, zoom = 1): void {
    const { fieldOfView, viewHeight, center } = this.view;
    const [a, b] = [THREE.MathUtils.degToRad(yaw), THREE.MathUtils.degToRad(pitch)];
    const target = new THREE.Vector3(...center);
    const distance = viewHeight / 2 / Math.tan(THREE.MathUtils.degToRad(fieldOfView / 2)) / zoom;
    const away = new THREE.Vector3(Math.sin(a) * Math.cos(b), Math.sin(b), Math.cos(a) * Math.cos(b));
    this.camera.position.copy(target).addScaledVector(away, distance);
    this.camera.lookAt(target);
    this.controls.target.copy(target);
    this.controls.update();
    this.project();
    this.invalidate();
  }

  /** Turn the camera about the head, degrees. */
  turn(yaw: number, pitch: number): void {
    const offset = this.camera.position.clone().sub(this.controls.target);
    const place = new THREE.Spherical().setFromVector3(offset);
    place.theta += THREE.MathUtils.degToRad(yaw);
    const { minPolarAngle, maxPolarAngle } = this.controls;
    place.phi = THREE.MathUtils.clamp(place.phi - THREE.MathUtils.degToRad(pitch), minPolarAngle, maxPolarAngle);
    this.camera.position.setFromSpherical(place).add(this.controls.target);
    this.controls.update();
    this.invalidate();
  }

  /** Bring the camera nearer by a factor above 1, or farther. */
  zoom(factor: number): void {
    const offset = this.camera.position.clone().sub(this.controls.target);
    const { minDistance, maxDistance } = this.controls;
    offset.setLength(THREE.MathUtils.clamp(offset.length() / factor, minDistance, maxDistance));
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
    this.invalidate();
  }

  /** Frames per second over the last second; 0 while nothing moves. */
  get fps(): number {
    const now = performance.now();
    this.frameTimes = this.frameTimes.filter((time) => now - time < 1000);
    return this.frameTimes.length;
  }

  get rendererName(): string {
    const gl = this.renderer.getContext();
    const names = gl.getExtension("WEBGL_debug_renderer_info");
    return String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  }

  /** Draw once pose and order of the splats belong together. */
  async settle(): Promise<void> {
    this.settling++;
    try {
      await this.sorted();
      await this.spark.update({ scene: this.scene, camera: this.camera });
      await this.sorted();
      this.spark.autoUpdate = false;
      this.draw();
    } finally {
      this.spark.autoUpdate = true;
      this.settling--;
    }
  }

  private async sorted(): Promise<void> {
    while (this.spark.sorting || this.spark.sortDirty) await new Promise((done) => setTimeout(done, 4));
  }

  /** The picture as RGBA bytes from top to bottom, over a background, at a size of its own. */
  async picture(width: number, height: number, background: string | null): Promise<ImageData> {
    const context = await this.snapshot(width, height, background);
    return context.getImageData(0, 0, width, height);
  }

  async png(background: string | null): Promise<Blob> {
    const { width, height } = this.canvas;
    const context = await this.snapshot(width, height, background);
    return new Promise((done, failed) =>
      context.canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("The picture could not be saved.")))),
    );
  }

  private async snapshot(width: number, height: number, background: string | null): Promise<CanvasRenderingContext2D> {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d")!;
    if (background) {
      context.fillStyle = background;
      context.fillRect(0, 0, width, height);
    }
    this.setSize(width, height, 1);
    try {
      await this.settle();
      context.drawImage(this.canvas, 0, 0); // in the task of the draw: its buffer is not kept
    } finally {
      this.resize();
    }
    return context;
  }

  private resize(): void {
    const ratio = Math.min(window.devicePixelRatio || 1, MAX_PIXEL_RATIO);
    this.setSize(Math.max(this.host.clientWidth, 1), Math.max(this.host.clientHeight, 1), ratio);
    this.invalidate();
  }

  private setSize(width: number, height: number, ratio: number): void {
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.project();
  }

  private project(): void {
    // On a narrow screen the width must hold the head, not the height.
    const across = Math.min(this.camera.aspect / NARROW, 1);
    const half = Math.tan(THREE.MathUtils.degToRad(this.view.fieldOfView / 2)) / across;
    this.camera.fov = THREE.MathUtils.radToDeg(2 * Math.atan(half));
    this.camera.updateProjectionMatrix();
  }

  private frame(time: number): void {
    requestAnimationFrame((next) => this.frame(next));
    if (this.settling) return;
    const seconds = Math.min((time - this.lastTime) / 1000, 0.1);
    this.lastTime = time;
    if (this.onTick(seconds)) this.needsFrame = true;
    this.controls.update(seconds);
    if (this.needsFrame) this.draw();
  }

  private draw(): void {
    this.needsFrame = false;
    this.renderer.render(this.scene, this.camera);
    this.renderedFrames++;
    this.frameTimes.push(performance.now());
  }
}
