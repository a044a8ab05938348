/** The user comment in EXIF data, where JPEG and WebP files have their provenance. */

const EXIF_FOLDER = 0x8769;
const USER_COMMENT = 0x9286;
const CHARACTER_SET_BYTES = 8;
const ENTRY_BYTES = 12;
const INLINE_BYTES = 4;

/**
 * Return the user comment of EXIF data, or null.
 * @param {Uint8Array} bytes From the byte order mark on.
 */
export function userComment(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const little = view.getUint16(0) === 0x4949;
    const folder = find(view, view.getUint32(4, little), EXIF_FOLDER, little);
    if (folder === null) return null;
    const comment = find(view, view.getUint32(folder + 8, little), USER_COMMENT, little);
    if (comment === null) return null;
    const length = view.getUint32(comment + 4, little);
    const start = length <= INLINE_BYTES ? comment + 8 : view.getUint32(comment + 8, little);
    return new TextDecoder().decode(bytes.subarray(start + CHARACTER_SET_BYTES, start + length));
  } catch (error) {
    if (error instanceof RangeError) return null; // The data is cut off.
    throw error;
  }
}

/** Return the offset of the entry with a tag in the folder at an offset, or null. */
function find(view, folder, tag, little) {
  const count = view.getUint16(folder, little);
  for (let number = 0; number < count; number++) {
    const entry = folder + 2 + number * ENTRY_BYTES;
    if (view.getUint16(entry, little) === tag) return entry;
  }
  return null;
}
