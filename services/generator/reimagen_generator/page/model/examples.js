/** Prompts that the loaded knowledge base can draw, and some of its images. */
import { createStore } from "../lib/store.js";
import { listPairs } from "../service/api.js";

const PAIRS = 24;
const PROMPTS = 3;
const LONGEST = 40;
const SHORT_WORDS = 4;
// Places that short captions are put into: a base of things then gives whole scenes.
const PLACES = ["in the snow", "on a beach", "in a forest", "at night", "on a mountain"];

export const examples = createStore({
  /** @type {string[]} */
  prompts: [],
  /** @type {{id: string, caption: string}[]} */
  pairs: [],
  failed: false,
});

/** Choose examples from pairs of the knowledge base; none if it does not answer. */
export async function loadExamples() {
  try {
    const { data } = await listPairs({ limit: PAIRS, order: "random" });
    const captions = [...new Map(data.map((pair) => [pair.caption, pair.caption])).values()];
    const short = captions.filter((caption) => caption.length <= LONGEST).slice(0, PROMPTS);
    examples.set({ prompts: short.map(scene), pairs: data, failed: short.length === 0 });
  } catch {
    // The neighbors' section says that the knowledge base does not answer.
    examples.set({ failed: true });
  }
}

/** Return a caption as a prompt. */
function scene(caption, number) {
  const words = caption.split(/\s+/);
  const isThing = words.length <= SHORT_WORDS && !/[.,;:]/.test(caption);
  return isThing ? `${caption} ${PLACES[number % PLACES.length]}` : caption;
}
