// The package's driving clips, embedded at build time.

import packed from "virtual:clips";
import { BLENDSHAPES, headRotation, type Pose } from "./expression";

export class Clip {
  readonly frames: number;

  constructor(
    readonly name: string,
    private readonly fps: number,
    private readonly weights: Uint8Array, // [frames, 52]
    private readonly angles: number[], // [frames, 3] in 1/100 degree
  ) {
    this.frames = weights.length / BLENDSHAPES.length;
  }

  get seconds(): number {
    return this.frames / this.fps;
  }

  /** The pose at a time, interpolated; the clip repeats. */
  at(seconds: number): Pose {
    const position = (seconds * this.fps) % this.frames;
    const first = Math.floor(position);
    const second = (first + 1) % this.frames;
    const share = position - first;
    const mix = (values: ArrayLike<number>, stride: number, i: number) =>
      values[first * stride + i]! * (1 - share) + values[second * stride + i]! * share;
    const weights = Float32Array.from(BLENDSHAPES, (_, i) => mix(this.weights, BLENDSHAPES.length, i) / 255);
    const [yaw, pitch, roll] = [0, 1, 2].map((i) => mix(this.angles, 3, i) / 100) as [number, number, number];
    return { weights, head: headRotation({ yaw, pitch, roll }) };
  }
}

export const CLIPS: readonly Clip[] = packed.map(
  ({ name, fps, weights, angles }) => new Clip(name, fps, bytes(weights), angles),
);

export function bytes(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}
