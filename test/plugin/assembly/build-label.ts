/** Replaced by the build with the label that was asked for, so that builds differ in their bytes. */
export const BUILD_LABEL = "unlabelled";
