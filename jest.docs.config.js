// The guide's code, block by block, against the packed tarball. Needs npm and its registry or cache.
module.exports = {
  ...require('./jest.config.js'),
  roots: ['<rootDir>/out/test/guide'],
  testPathIgnorePatterns: ['/node_modules/'],
  testTimeout: 600000,
};
