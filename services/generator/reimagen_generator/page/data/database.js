/** The history in the browser's database: drawings with their images and settings. */

const NAME = "reimagen";
const STORE = "drawings";
const MOST = 300;

/** @type {Promise<IDBDatabase> | null} */
let opening = null;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

/** @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest | void} act */
async function transact(mode, act) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** Return all drawings, newest first; none if the browser keeps no database, as in some private windows. */
export async function loadDrawings() {
  try {
    const found = await transact("readonly", (store) => store.getAll());
    found.sort((one, other) => other.created - one.created || other.order - one.order);
    for (const old of found.splice(MOST)) await removeDrawing(old.id);
    return found;
  } catch {
    return [];
  }
}

/** Keep a drawing. It is lost at the end of the page if the database is blocked or full. */
export async function saveDrawing(drawing) {
  // What a stream shows for a moment is not kept.
  const { preview, connection, position, ...kept } = drawing;
  await transact("readwrite", (store) => store.put(kept)).catch(() => {});
}

export const removeDrawing = (id) => transact("readwrite", (store) => store.delete(id)).catch(() => {});

export const removeAllDrawings = () => transact("readwrite", (store) => store.clear()).catch(() => {});
