/** Image files of the visitor: prepared for the service, and as base64. */

const LONGEST_SIDE = 1_024;
const JPEG_QUALITY = 0.92;
const READABLE = "PNG, JPEG, WebP, GIF or AVIF";

/**
 * Return an image without metadata, such as the place where a photograph was taken, and of at most 1,024 pixels.
 * @param {Blob} file
 * @returns {Promise<Blob>}
 * @throws {Error} The browser cannot read the file.
 */
export async function prepareImage(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`This file is not an image that the browser can read. Use ${READABLE}.`);
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const type = file.type === "image/jpeg" ? "image/jpeg" : "image/png";
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The image is too large."))), type, JPEG_QUALITY),
  );
}

/** Return a file as base64. @param {Blob} blob @returns {Promise<string>} */
export function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(",", 2)[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Return a file from base64. @param {string} base64 @param {string} type @returns {Blob} */
export const fromBase64 = (base64, type) =>
  new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type });

/** Return the image files that were dropped or pasted. @param {DataTransfer | null} transfer */
export const imagesIn = (transfer) => [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));

/** Let the browser save a file. @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
