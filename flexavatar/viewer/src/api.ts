// What an embedding page or a test may do: `window.flexavatar`, and messages from the page around an iframe.

import { headRotation, weightsOf, type HeadAngles, type Pose } from "./expression";
import type { Player } from "./player";
import type { Stage } from "./stage";

type Weights = Record<string, number> | number[];

export interface Stats {
  fps: number;
  splats: number;
  entries: number;
  renderer: string;
}

export interface FlexAvatarApi {
  /** Resolves when an avatar is shown, rejects if the first one cannot be. */
  ready: Promise<void>;
  load(url: string | ArrayBuffer): Promise<void>;
  setExpression(weights: Weights, head?: Partial<HeadAngles>): void;
  setCamera(yaw: number, pitch: number, zoom?: number): void;
  /** RGBA bytes of the finished picture, from top to bottom; background is a CSS colour, null = transparent. */
  picture(width: number, height: number, background?: string | null): Promise<ImageData>;
  weights(): Record<string, number>;
  /** What is shown now, as `setExpression` takes it. */
  pose(): { weights: Record<string, number>; head: HeadAngles };
  readonly renderedFrames: number;
  stats(): Stats;
}

declare global {
  interface Window {
    flexavatar: FlexAvatarApi;
  }
}

export function poseOf(weights: Weights, head: Partial<HeadAngles> = {}): Pose {
  return { weights: weightsOf(weights), head: headRotation({ yaw: 0, pitch: 0, roll: 0, ...head }) };
}

/** Tells the page around the viewer what happened. */
export function report(message: Record<string, unknown>): void {
  if (window.parent !== window) window.parent.postMessage({ source: "flexavatar", ...message }, "*");
}

export function listen(stage: Stage, player: Player, load: (url: string) => Promise<void>): void {
  window.addEventListener("message", (event: MessageEvent) => {
    const fromOutside = event.source === window.parent || event.source === window.opener;
    if (!fromOutside || typeof event.data !== "object" || event.data === null) return;
    const { type, weights, head, yaw, pitch, zoom, bundle } = event.data;
    try {
      if (type === "expression") player.set(poseOf(weights ?? {}, head), true);
      else if (type === "camera") stage.setCamera(finite(yaw), finite(pitch), finite(zoom, 1));
      else if (type === "load" && typeof bundle === "string") void load(bundle);
    } catch (error) {
      report({ type: "error", message: String(error instanceof Error ? error.message : error) });
    }
  });
}

function finite(value: unknown, otherwise = 0): number {
  return typeof value === "number" && Number.isFinite(value) ? value : otherwise;
}
