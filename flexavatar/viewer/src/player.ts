// Decides in every frame which pose the avatar has: the sliders', a clip's, or the webcam's.

import type { Clip } from "./clips";
import { neutralPose, type Pose } from "./expression";
import type { Webcam } from "./webcam";

const EASE = 0.07; // seconds: how softly presets and the ends of clips are reached
const CLOSE = 1e-3;

export class Player {
  /** The pose that is shown. */
  readonly shown: Pose = neutralPose();
  onShown: (pose: Pose) => void = () => {};
  onClip: (clip: Clip | null) => void = () => {};
  paused = false;

  private target: Pose = neutralPose();
  private clip: Clip | null = null;
  private clipTime = 0;
  private webcam: Webcam | null = null;
  private moving = true;

  /** Show a pose, at once or eased; ends a clip. */
  set(pose: Pose, eased = false): void {
    this.play(null);
    this.target = pose;
    this.moving = true;
    if (!eased) this.reach(pose, 1);
  }

  play(clip: Clip | null): void {
    if (this.clip === clip) return;
    if (!clip) this.target = neutralPose();
    this.clip = clip;
    this.clipTime = 0;
    this.moving = true;
    this.onClip(clip);
  }

  follow(webcam: Webcam | null): void {
    this.play(null);
    this.webcam = webcam;
    if (!webcam) this.target = neutralPose();
    this.moving = true;
  }

  /** The pose that sliders change: where the avatar is heading. */
  get aim(): Pose {
    return this.target;
  }

  /** One frame; returns whether the avatar moved. */
  tick(seconds: number): boolean {
    if (this.paused) return false;
    if (this.webcam) {
      this.reach(this.webcam.pose(), 1);
      return true;
    }
    if (this.clip) {
      this.clipTime += seconds;
      this.target = this.clip.at(this.clipTime);
    } else if (!this.moving) {
      return false;
    }
    this.moving = this.reach(this.target, 1 - Math.exp(-seconds / EASE)) || this.clip !== null;
    return true;
  }

  /** Goes a share of the way; returns whether more is left. */
  private reach(pose: Pose, share: number): boolean {
    const { weights, head } = this.shown;
    const far = weights.some((weight, i) => Math.abs(weight - pose.weights[i]!) > CLOSE) || head.angleTo(pose.head) > CLOSE;
    const step = far ? share : 1;
    weights.forEach((weight, i) => (weights[i] = weight + step * (pose.weights[i]! - weight)));
    head.slerp(pose.head, step);
    this.onShown(this.shown);
    return far;
  }
}
