// Driving by webcam: MediaPipe's FaceLandmarker on the camera's frames, which never leave the page.

import { FaceLandmarker } from "@mediapipe/tasks-vision";
import * as THREE from "three";
import { BLENDSHAPES, mirrored, neutralPose, type Pose } from "./expression";
import { OneEuro } from "./smooth";

/** A problem that the visitor can do something about; the message says what. */
export class WebcamProblem extends Error {}

export type WebcamState = "face" | "no face" | "ended";

export interface WebcamOptions {
  landmarker: string; // URL of face_landmarker.task
  onState: (state: WebcamState) => void;
}

const GAZE = ["Left", "Right"].flatMap((side) =>
  [["In", "Out"], ["Up", "Down"]].map((pair) => pair.map((way) => BLENDSHAPES.indexOf(`eyeLook${way}${side}`))),
) as [number, number][];
const MAX_NEUTRAL = 0.6; // else nothing would be left to drive with
const FADE = 3; // 1/s, how fast the avatar relaxes when the face is lost

export class Webcam {
  mirror = true;
  headPose = true;
  readonly video = document.createElement("video");
  framesSeen = 0;

  private neutral: Pose | undefined;
  private raw: Pose | undefined;
  private output = neutralPose();
  private readonly shapes = new OneEuro(1.5, 3);
  private readonly turns = new OneEuro(1, 4);
  private lastTime = -1;
  private stopped = false;
  private state: WebcamState | undefined;

  private constructor(
    private readonly stream: MediaStream,
    private readonly landmarker: FaceLandmarker,
    private readonly options: WebcamOptions,
  ) {
    this.video.srcObject = stream;
    this.video.muted = true;
    this.video.playsInline = true;
    for (const track of stream.getTracks()) track.addEventListener("ended", () => this.end());
  }

  /** Asks for the camera, loads the tracker. Throws WebcamProblem. */
  static async start(options: WebcamOptions): Promise<Webcam> {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new WebcamProblem("This page cannot use the camera. Open it over https or on localhost.");
    }
    const stream = await navigator.mediaDevices
      .getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" }, audio: false })
      .catch((error: DOMException) => {
        throw new WebcamProblem(CAMERA_PROBLEMS[error.name] ?? `The camera does not start (${error.message}).`);
      });
    try {
      const webcam = new Webcam(stream, await loadLandmarker(options.landmarker), options);
      await webcam.video.play();
      webcam.watch();
      return webcam;
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      throw error;
    }
  }

  /** Takes the present face and head pose as the resting one. False if no face is seen. */
  calibrate(): boolean {
    if (!this.raw) return false;
    this.neutral = { weights: Float32Array.from(this.raw.weights), head: this.raw.head.clone() };
    this.shapes.reset();
    this.turns.reset();
    return true;
  }

  pose(): Pose {
    return this.mirror ? mirrored(this.output) : this.output;
  }

  stop(): void {
    this.stopped = true;
    for (const track of this.stream.getTracks()) track.stop();
    this.video.srcObject = null;
    this.landmarker.close();
  }

  private end(): void {
    if (this.stopped) return;
    this.stop();
    this.options.onState("ended");
  }

  private watch(): void {
    if (this.stopped) return;
    if (this.video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && this.video.currentTime !== this.lastTime) {
      this.lastTime = this.video.currentTime;
      this.look(performance.now());
    }
    if ("requestVideoFrameCallback" in this.video) this.video.requestVideoFrameCallback(() => this.watch());
    else requestAnimationFrame(() => this.watch());
  }

  private lastLook = 0;

  private look(now: number): void {
    const seconds = (now - this.lastLook) / 1000;
    this.lastLook = now;
    const found = this.landmarker.detectForVideo(this.video, now);
    this.framesSeen++;
    const scores = found.faceBlendshapes[0]?.categories;
    const matrix = found.facialTransformationMatrixes[0]?.data;
    if (!scores || !matrix) {
      this.raw = undefined;
      const keep = Math.exp(-FADE * seconds);
      this.output.weights.forEach((weight, i) => (this.output.weights[i] = weight * keep));
      this.output.head.slerp(new THREE.Quaternion(), 1 - keep);
      this.report("no face");
      return;
    }
    const weights = new Float32Array(BLENDSHAPES.length);
    for (const { categoryName, score } of scores) {
      const index = BLENDSHAPES.indexOf(categoryName);
      if (index >= 0) weights[index] = score;
    }
    const head = new THREE.Quaternion().setFromRotationMatrix(
      new THREE.Matrix4().extractRotation(new THREE.Matrix4().fromArray(matrix)),
    );
    this.raw = { weights, head };
    // A camera rarely sits straight ahead, so the first pose counts as straight until the visitor calibrates.
    this.neutral ??= { weights: new Float32Array(BLENDSHAPES.length), head: head.clone() };
    const beyond = this.beyondNeutral(this.raw, this.neutral);
    const turn = this.turns.next(sameSide(beyond.head, this.output.head).toArray(), seconds);
    this.output = {
      weights: this.shapes.next(beyond.weights, seconds),
      head: this.headPose ? new THREE.Quaternion().fromArray(turn).normalize() : new THREE.Quaternion(),
    };
    this.report("face");
  }

  private beyondNeutral(pose: Pose, neutral: Pose): Pose {
    const weights = pose.weights.map((weight, i) => {
      const rest = Math.min(neutral.weights[i]!, MAX_NEUTRAL);
      return Math.max((weight - rest) / (1 - rest), 0);
    });
    for (const [a, b] of GAZE) {
      const direction = pose.weights[a]! - pose.weights[b]! - (neutral.weights[a]! - neutral.weights[b]!);
      weights[a] = Math.max(direction, 0);
      weights[b] = Math.max(-direction, 0);
    }
    return { weights, head: neutral.head.clone().invert().multiply(pose.head) };
  }

  private report(state: WebcamState): void {
    if (state === this.state) return;
    this.state = state;
    this.options.onState(state);
  }
}

const CAMERA_PROBLEMS: Record<string, string> = {
  NotAllowedError: "The camera is blocked. Allow it for this page in the address bar, then switch it on again.",
  NotFoundError: "No camera was found. Connect one, then switch it on again.",
  NotReadableError: "Another program is using the camera. Close that program, then switch it on again.",
  OverconstrainedError: "This camera cannot deliver a fitting picture. Try another camera.",
};

/** The quaternion, or its negative, that lies on the side of another: both mean the same rotation. */
function sameSide(quaternion: THREE.Quaternion, other: THREE.Quaternion): THREE.Quaternion {
  if (quaternion.dot(other) >= 0) return quaternion;
  return new THREE.Quaternion(-quaternion.x, -quaternion.y, -quaternion.z, -quaternion.w);
}

// WebAssembly with one SIMD instruction.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

async function loadLandmarker(model: string): Promise<FaceLandmarker> {
  if (!WebAssembly.validate(SIMD)) {
    throw new WebcamProblem("This browser is too old to follow a face. Update it, or use the sliders.");
  }
  const folder = new URL("mediapipe/", document.baseURI).href;
  const load = async (url: string) => {
    const answer = await fetch(url).catch(() => undefined);
    if (!answer?.ok) throw new WebcamProblem("The face tracker could not be loaded. Check the connection and try again.");
    return answer;
  };
  const [packed, task] = await Promise.all([
    load(`${folder}vision_wasm_internal.wasm.gz`),
    load(new URL(model, document.baseURI).href),
  ]);
  const wasm = URL.createObjectURL(await unpacked(packed));
  try {
    return await FaceLandmarker.createFromOptions(
      { wasmLoaderPath: `${folder}vision_wasm_internal.js`, wasmBinaryPath: wasm },
      {
        baseOptions: { modelAssetBuffer: new Uint8Array(await task.arrayBuffer()), delegate: "CPU" },
        runningMode: "VIDEO",
        numFaces: 1,
        outputFaceBlendshapes: true,
        outputFacialTransformationMatrixes: true,
      },
    );
  } finally {
    URL.revokeObjectURL(wasm);
  }
}

async function unpacked(answer: Response): Promise<Blob> {
  const bytes = await answer.arrayBuffer();
  const head = new Uint8Array(bytes, 0, 2);
  // Some servers send .gz files with Content-Encoding, and the browser has unpacked them already.
  const stream = new Blob([bytes]).stream();
  const plain = head[0] === 0x1f && head[1] === 0x8b ? stream.pipeThrough(new DecompressionStream("gzip")) : stream;
  return new Response(plain, { headers: { "Content-Type": "application/wasm" } }).blob();
}
