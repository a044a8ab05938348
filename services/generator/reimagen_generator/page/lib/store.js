/** A store of state that components follow. */
import { useLayoutEffect, useReducer } from "../vendor/htm-preact.js";

/**
 * Return a store.
 * @template {object} T
 * @param {T} state The initial state.
 */
export function createStore(state) {
  const listeners = new Set();
  return {
    get: () => state,
    /** Merge a change, or the result of a function of the state, into the state.
     * @param {Partial<T> | ((state: T) => Partial<T>)} change */
    set(change) {
      state = { ...state, ...(typeof change === "function" ? change(state) : change) };
      for (const listener of [...listeners]) listener();
    },
    /** Call a function after each change. Return a function that ends this.
     * @param {() => void} listener */
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** Return the state of a store, and draw the component again after each change. */
export function useStore(store) {
  const [, redraw] = useReducer((count) => count + 1, 0);
  const state = store.get();
  useLayoutEffect(() => {
    // A change between the component's drawing and this effect would be missed.
    if (store.get() !== state) redraw();
    return store.subscribe(redraw);
  }, [store]);
  return state;
}
