/** The provenance that the service writes into image files, read without the service. */
import { userComment } from "./exif.js";

const KEYWORD = "reimagen";
const TEXT = new TextDecoder();
const LATIN = new TextDecoder("latin1");

/**
 * @typedef {{prompt: string, seed: number | null, size: number, cascade: string, quality?: string, revision?: string,
 *   guidance?: Record<string, unknown>, settings?: Record<string, unknown>,
 *   neighbors: {id: string, caption: string, source: string, license: string, weight?: number, cut_out?: boolean}[]}} Provenance
 */

/**
 * Return the provenance in an image file, or null.
 * @param {Blob} file
 * @returns {Promise<Provenance | null>}
 */
export async function readProvenance(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const text = fromPng(bytes) ?? fromJpeg(bytes) ?? fromWebp(bytes);
  if (!text) return null;
  try {
    const provenance = JSON.parse(text);
    return typeof provenance.prompt === "string" && Array.isArray(provenance.neighbors) ? provenance : null;
  } catch {
    return null;
  }
}

/** @param {Uint8Array} bytes */
function fromPng(bytes) {
  if (LATIN.decode(bytes.subarray(1, 4)) !== "PNG") return null;
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const content = bytes.subarray(at + 8, at + 8 + length);
    const type = LATIN.decode(bytes.subarray(at + 4, at + 8));
    if (type === "iTXt" && LATIN.decode(content.subarray(0, KEYWORD.length + 1)) === `${KEYWORD}\0`) {
      // Keyword, two bytes of compression, language and translated keyword: each ends with a zero.
      const language = content.indexOf(0, KEYWORD.length + 3);
      const translated = content.indexOf(0, language + 1);
      return TEXT.decode(content.subarray(translated + 1));
    }
    at += length + 12;
  }
  return null;
}

/** @param {Uint8Array} bytes */
function fromJpeg(bytes) {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  const view = new DataView(bytes.buffer);
  for (let at = 2; at + 10 <= bytes.length && bytes[at] === 0xff; at += 2 + view.getUint16(at + 2)) {
    if (bytes[at + 1] === 0xda) return null; // The pixels begin.
    if (bytes[at + 1] === 0xe1 && LATIN.decode(bytes.subarray(at + 4, at + 8)) === "Exif")
      return userComment(bytes.subarray(at + 10, at + 2 + view.getUint16(at + 2)));
  }
  return null;
}

/** @param {Uint8Array} bytes */
function fromWebp(bytes) {
  if (LATIN.decode(bytes.subarray(8, 12)) !== "WEBP") return null;
  const view = new DataView(bytes.buffer);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true);
    if (LATIN.decode(bytes.subarray(at, at + 4)) === "EXIF") {
      const start = LATIN.decode(bytes.subarray(at + 8, at + 12)) === "Exif" ? at + 14 : at + 8;
      return userComment(bytes.subarray(start, at + 8 + length));
    }
    at += 8 + length + (length % 2);
  }
  return null;
}
