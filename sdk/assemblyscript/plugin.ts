import { Batch, Decision, Event, Receipt } from "./event";
import { Json } from "./json";

export let decide: ((event: Event) => Decision) | null = null;
export let deliver: ((batch: Batch) => Receipt) | null = null;
export let take: ((config: Json) => string) | null = null;

/** Makes the plugin a policy that decides by this function. */
export function policy(by: (event: Event) => Decision): void {
  decide = by;
}

/** Makes the plugin a sink that delivers by this function. */
export function sink(by: (batch: Batch) => Receipt): void {
  deliver = by;
}

/**
 * Names the function that takes the operator's configuration, an object, once and
 * before everything else. What it returns refuses the plugin; "" takes it.
 */
export function configure(by: (config: Json) => string): void {
  take = by;
}
