// What a user gets: the packed tarball, installed. Needs npm and its registry or cache.
module.exports = {
  ...require('./jest.config.js'),
  roots: ['<rootDir>/out/test/package'],
  testPathIgnorePatterns: ['/node_modules/'],
  testTimeout: 300000,
};
