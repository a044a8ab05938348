/** Texts for people. */

/** Return "1 image", "2 images".
 * @param {number} count @param {string} one @param {string} [many] */
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;

/** Return a part of a name of a file, made from a text.
 * @param {string} text */
export const slug = (text) =>
  text.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "image";

/** Return a time relative to now, such as "5 minutes ago".
 * @param {number} milliseconds */
export function ago(milliseconds) {
  const minutes = Math.round((Date.now() - milliseconds) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${plural(minutes, "minute")} ago`;
  if (minutes < 24 * 60) return `${plural(Math.round(minutes / 60), "hour")} ago`;
  return new Date(milliseconds).toLocaleDateString(undefined, { dateStyle: "medium" });
}

/** Return a text as a sentence. @param {string} text */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
