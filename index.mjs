// The ESM face of the one CommonJS build: one registry, one class identity. Node reads the names out of the compiled file.
export * from './dist/index.js';
