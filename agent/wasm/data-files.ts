/** Index of the cached modules by their URLs and images, in the data folder. */
export const cacheRecordsFile = 'modules.json';

/** Configs that Envoy took last, in the data folder: there once the pod had a plugin. */
export const lastKnownGoodFile = 'last-known-good.json';
